"""What every partition keeps, run over each part's examples."""

import pytest

from cosim.errors import ScenarioError
from cosim.learning.data import Example
from cosim.learning.partition import Partition
from cosim.parts import make
from cosim.rng import stream
from cosim.testing.selection import examples_of

NUM_CLIENTS = 4
EXAMPLES = [
    Example("", f"text {row}", label=f"label-{row % 5}", fields={"speaker": f"speaker-{row % 11}"})
    for row in range(200)
]
CASES = examples_of(Partition)


@pytest.fixture(autouse=True)
def package_is_there(settings: dict[str, object]) -> None:
    try:
        make(Partition, settings).split(EXAMPLES, NUM_CLIENTS, stream(1))
    except ScenarioError as fault:
        if "needs the package" not in str(fault):
            raise
        pytest.skip(str(fault))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("settings", CASES)
class TestEveryPartition:
    def test_gives_every_client_a_share_and_no_row_twice(self, settings: dict[str, object]) -> None:
        partition = make(Partition, settings)
        shares = partition.split(EXAMPLES, NUM_CLIENTS, stream(1, "partition"))
        rows = [row for share in shares for row in share]
        assert len(shares) == NUM_CLIENTS
        assert all(len(share) >= partition.min_examples for share in shares)
        assert len(rows) == len(set(rows))
        assert set(rows) <= set(range(len(EXAMPLES)))

    def test_gives_plain_ascending_rows(self, settings: dict[str, object]) -> None:
        for share in make(Partition, settings).split(EXAMPLES, NUM_CLIENTS, stream(1)):
            assert list(share) == sorted(share)
            assert {type(row) for row in share} == {int}

    def test_gives_the_same_shares_for_the_same_stream(self, settings: dict[str, object]) -> None:
        one, two = (make(Partition, settings).split(EXAMPLES, NUM_CLIENTS, stream(3)) for _ in range(2))
        assert one == two

    def test_refuses_more_clients_than_examples_in_one_line(self, settings: dict[str, object]) -> None:
        with pytest.raises(ScenarioError) as caught:
            make(Partition, settings).split(EXAMPLES[:3], NUM_CLIENTS, stream(1))
        assert "\n" not in caught.value.args[0]

    def test_refuses_a_share_that_is_too_small_and_names_the_client(
        self, settings: dict[str, object]
    ) -> None:
        partition = make(Partition, {**settings, "min_examples": 50})
        even = [Example("", "t", label="one", fields={"speaker": f"s{row % 3}"}) for row in range(201)]
        shares, said = (), "client-k needs 50"
        try:
            shares = partition.split(even, NUM_CLIENTS, stream(1))
        except ScenarioError as fault:
            said = str(fault)
        assert "client-" in said
        assert "needs 50" in said
        assert all(len(share) >= 50 for share in shares)

    def test_refuses_no_clients(self, settings: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="at least 1, got 0"):
            make(Partition, settings).split(EXAMPLES, 0, stream(1))
