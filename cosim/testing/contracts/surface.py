"""What every surface keeps, run over each part's examples."""

import numpy as np
import pytest

from cosim.radio.surface import Surface
from cosim.rng import stream
from cosim.testing.paths import NUM_BLOCKS, NUM_SUBCHANNELS, path
from cosim.testing.selection import parts_of

EXAMPLES = parts_of(Surface)


@pytest.mark.parametrize("part", EXAMPLES)
def test_gains_with_a_surface_are_a_function_of_path_and_time(part):
    direct = stream(2, "direct").uniforms(0, NUM_BLOCKS, NUM_SUBCHANNELS)
    whole = part.gains(path(part), direct)
    assert whole.shape == direct.shape
    assert (whole >= 0.0).all()
    np.testing.assert_array_equal(part.gains(path(part, 2, 3), direct[2:5]), whole[2:5])
