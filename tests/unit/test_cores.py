"""How threads of a process wait."""

from cosim.cores import WAITING, wait_briefly


def test_threads_wait_briefly_unless_the_user_says_how():
    environment = {}
    wait_briefly(environment)
    assert environment == {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "0"}
    for name in WAITING:
        own = {name: "1"}
        wait_briefly(own)
        assert own == {name: "1"}
