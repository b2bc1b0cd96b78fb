"""An address that does not go with dask's settings of TLS is one line, before anything connects."""

import pytest

from cosim.errors import ScenarioError
from cosim.studies.engines.dask import Dask

TLS = "distributed.comm.tls"
CASES = {
    "no certificate": ("tls://127.0.0.1:9", {}, "needs certificates; name them in the variables DASK_"),
    "no encryption": (
        "tcp://127.0.0.1:9",
        {"distributed.comm.require-encryption": True},
        "dask's settings require encryption; give an address that begins with tls://",
    ),
    "a certificate that is gone": (
        "tls://127.0.0.1:9",
        {f"{TLS}.ca-file": "gone.pem", f"{TLS}.client.cert": "gone.pem", f"{TLS}.client.key": "gone.pem"},
        "dask's certificates cannot be read: ",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_address_that_does_not_go_with_the_settings_is_refused(case):
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    address, settings, told = CASES[case]
    with dask.config.set(settings), pytest.raises(ScenarioError, match=told) as refused:
        Dask(address)
    assert str(refused.value).startswith(f"--scheduler {address}: ")
    assert "\n" not in str(refused.value)
