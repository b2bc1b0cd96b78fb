"""What every fading keeps, run over each part's examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.parts import make
from cosim.radio.fading import Fading
from cosim.rng import stream
from cosim.testing.selection import examples_of

EXAMPLES = examples_of(Fading)


@pytest.mark.parametrize("example", EXAMPLES)
def test_gains_have_a_row_for_each_block_and_a_column_for_each_subchannel(example):
    gains = make(Fading, example).gains(stream(1, "link"), 3, 7, 5)
    assert gains.shape == (7, 5)
    assert gains.dtype == np.float64


@pytest.mark.parametrize("example", EXAMPLES)
def test_gains_are_finite_and_never_negative(example):
    gains = make(Fading, example).gains(stream(1, "link"), 0, 200, 8)
    assert np.isfinite(gains).all()
    assert (gains >= 0.0).all()


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_same_stream_gives_the_same_gains(example):
    first = make(Fading, example).gains(stream(1, "link"), 5, 20, 3)
    again = make(Fading, example).gains(stream(1, "link"), 5, 20, 3)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("example", EXAMPLES)
def test_other_streams_give_other_gains_unless_nothing_fades(example):
    fading = make(Fading, example)
    here, there = (fading.gains(stream(1, "link", n), 0, 4, 3) for n in range(2))
    assert fading.fades != np.array_equal(here, there)


@pytest.mark.parametrize("example", EXAMPLES)
def test_gains_are_one_on_average(example):
    fading = make(Fading, example)
    means = np.array([fading.gains(stream(2, "link", n), 17, 1, 4).mean() for n in range(2000)])
    five_sigma = 5.0 * means.std() / np.sqrt(len(means))
    assert abs(means.mean() - 1.0) <= five_sigma + 1e-12


@pytest.mark.parametrize("example", EXAMPLES)
@settings(deadline=None, max_examples=25)
@given(spans=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), min_size=1, max_size=5))
def test_a_block_is_the_same_whichever_blocks_are_asked_for_with_it(example, spans):
    fading = make(Fading, example)
    link = stream(3, "link")
    whole = fading.gains(link, 0, 340, 4)
    for first, count in spans:
        np.testing.assert_array_equal(fading.gains(link, first, count, 4), whole[first : first + count])


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_gain_without_blocks_holds_for_ever_and_one_with_blocks_changes(example):
    fading = make(Fading, example)
    gains = fading.gains(stream(4, "link"), 0, 1000, 2)
    if fading.block_ns is None:
        assert (gains == gains[0]).all()
    else:
        assert fading.block_ns > 0
        assert not (gains == gains[0]).all()


@pytest.mark.parametrize("example", EXAMPLES)
def test_flat_fading_gives_every_subchannel_one_gain_and_selective_fading_its_own(example):
    flat = make(Fading, example | {"selectivity": "flat"}).gains(stream(5, "link"), 0, 6, 4)
    assert (flat == flat[:, :1]).all()
    selective = make(Fading, example | {"selectivity": "subchannel"})
    own = selective.gains(stream(5, "link"), 0, 6, 4)
    assert selective.fades != (own == own[:, :1]).all()


@pytest.mark.parametrize("example", EXAMPLES)
def test_blocks_before_the_start_are_refused(example):
    with pytest.raises(ValueError, match="blocks count from 0, got first -1"):
        make(Fading, example).gains(stream(1, "link"), -1, 2, 3)
