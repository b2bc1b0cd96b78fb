"""What every mobility keeps, run over each part's examples."""

import numpy as np
import pytest

from cosim.radio.mobility import Mobility
from cosim.rng import stream
from cosim.testing.selection import parts_of

NUM_BLOCKS = 6
BEGIN_M = np.array([[100.0, 0.0], [0.0, 250.0], [-40.0, 30.0]])
EXAMPLES = parts_of(Mobility)


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Be where the files are that examples name."""
    (tmp_path / "path.csv").write_text("client,time_s,x_m,y_m\n0,0,100,0\n0,0.3,120,30\n0,1,90,0\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("part", EXAMPLES)
def test_a_place_is_a_function_of_client_and_time_alone(part):
    time_ns = np.arange(NUM_BLOCKS) * (part.block_ns or 1_000_000)
    all_m = part.positions_m(BEGIN_M, stream(1, "mobility"), time_ns)
    assert all_m.shape == (NUM_BLOCKS, 3, 2)
    np.testing.assert_array_equal(all_m[0], BEGIN_M)
    np.testing.assert_array_equal(part.positions_m(BEGIN_M[:2], stream(1, "mobility"), time_ns), all_m[:, :2])
    np.testing.assert_array_equal(part.positions_m(BEGIN_M, stream(1, "mobility"), time_ns[3:]), all_m[3:])


@pytest.mark.parametrize("part", EXAMPLES)
def test_the_way_gone_is_as_long_as_the_path_and_never_shrinks(part):
    block_ns = part.block_ns or 1_000_000
    time_ns = np.arange(4 * NUM_BLOCKS) * (block_ns // 2)
    gone_m = part.travelled_m(BEGIN_M, stream(1, "mobility"), time_ns)
    assert gone_m.shape == (4 * NUM_BLOCKS, 3)
    assert (gone_m[0] == 0.0).all()
    assert (np.diff(gone_m, axis=0) >= -1e-9).all()
    straight_m = Mobility.travelled_m(part, BEGIN_M, stream(1, "mobility"), time_ns)
    assert (straight_m <= gone_m + 1e-9).all()
    own = part.travelled_m(BEGIN_M[:2], stream(1, "mobility"), time_ns[3:])
    np.testing.assert_array_equal(own, gone_m[3:, :2])
