"""What every rate model keeps, run over each part's examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.parts import make
from cosim.radio.rate import RateModel, added
from cosim.testing.selection import examples_of
from cosim.testing.ulps import ulps_apart

EXAMPLES = examples_of(RateModel)
BANDWIDTH_HZ = np.array([180e3, 180e3, 360e3])

snrs = st.lists(st.floats(0.0, 1e6), min_size=3, max_size=3).map(np.array)


@pytest.mark.parametrize("example", EXAMPLES)
@settings(deadline=None, max_examples=50)
@given(snr=snrs, more=snrs)
def test_a_better_snr_never_lowers_a_rate(example, snr, more):
    model = make(RateModel, example)
    assert model.rates(snr + more, BANDWIDTH_HZ) >= model.rates(snr, BANDWIDTH_HZ) >= 0.0


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_grant_carries_what_its_subchannels_carry(example):
    model = make(RateModel, example)
    snr = np.linspace(0.0, 50.0, 24).reshape(2, 4, 3)
    each = model.per_subchannel(snr, BANDWIDTH_HZ)
    assert each.shape == (2, 4, 3)
    assert model.rates(snr, BANDWIDTH_HZ).shape == (2, 4)
    assert ulps_apart(model.rates(snr, BANDWIDTH_HZ), each.sum(axis=-1)) <= 4  # three numbers are summed


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_model_that_adds_subchannels_looks_at_each_by_itself(example):
    model = make(RateModel, example)
    snr = np.geomspace(1e-3, 1e5, 30).reshape(10, 3)
    each = [model.per_subchannel(snr[:, [one]], BANDWIDTH_HZ[[one]]) for one in range(3)]
    if model.adds_subchannels:
        np.testing.assert_array_equal(
            model.rates(snr, BANDWIDTH_HZ), np.concatenate(each, axis=1).sum(axis=1)
        )


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_client_without_a_subchannel_has_no_rate(example):
    rates = make(RateModel, example).rates(np.empty((5, 0)), np.empty(0))
    np.testing.assert_array_equal(rates, np.zeros(5))


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_same_snr_gives_the_same_rate_alone_or_among_other_blocks(example):
    model = make(RateModel, example)
    snr = np.geomspace(1e-3, 1e5, 30).reshape(10, 3)
    together = model.rates(snr, BANDWIDTH_HZ)
    alone = np.array([model.rates(row, BANDWIDTH_HZ) for row in snr])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("num_owned", [1, 3, 7, 8, 20, 150])
def test_the_layout_of_the_memory_changes_no_bit(example, num_owned):
    model, rng = make(RateModel, example), np.random.default_rng(num_owned)
    snr, widths_hz = rng.exponential(10.0, (2, 5, num_owned)), rng.uniform(1e5, 3e5, num_owned)
    expected = model.rates(snr, widths_hz)
    blocks_last = np.ascontiguousarray(snr.transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_array_equal(model.rates(blocks_last, widths_hz), expected)
    np.testing.assert_array_equal(added(snr), snr.sum(axis=-1))
