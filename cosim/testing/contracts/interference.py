"""What every interference keeps, run over each part's examples."""

import numpy as np
import pytest

from cosim.radio.interference import Interference
from cosim.testing.paths import NUM_BLOCKS, NUM_SUBCHANNELS, path
from cosim.testing.selection import parts_of

EXAMPLES = parts_of(Interference)


@pytest.mark.parametrize("is_uplink", [True, False])
@pytest.mark.parametrize("part", EXAMPLES)
def test_interference_is_a_power_density_and_a_function_of_path_and_time(part, is_uplink):
    widths_hz = np.full(NUM_SUBCHANNELS, 1e5)

    def asked(first, count):
        psd = part.psd_w_per_hz(path(part, first, count, is_uplink), widths_hz)
        return np.broadcast_to(psd, (count, NUM_SUBCHANNELS))

    whole = asked(0, NUM_BLOCKS)
    assert np.isfinite(whole).all()
    assert (whole >= 0.0).all()
    np.testing.assert_array_equal(asked(2, 3), whole[2:5])
