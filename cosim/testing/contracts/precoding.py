"""What every precoding keeps, run over each part's examples: power, silence, and no hidden state."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.radio.fading.rayleigh_block import RayleighBlock
from cosim.radio.precoding import Precoding, Senders
from cosim.rng import stream
from cosim.testing.selection import parts_of

EXAMPLES = parts_of(Precoding)
UNITS = {"transmission": (1, 2), "symbol": (2,), "subchannel": ()}


@st.composite
def senders(draw):
    """Return senders of unlike distance and power, one without weight among them."""
    count, blocks, subchannels = draw(st.tuples(*[st.integers(1, 5)] * 3))
    chance = stream(draw(st.integers(0, 10**6)), "senders")
    fades = -np.log(chance.uniforms(0, count, blocks * subchannels)).reshape(count, blocks, subchannels)
    mean_gains, powers, weights, shares = (
        chance.child(name).uniforms(0, 1, num)[0]
        for name, num in (("gains", count), ("powers", count), ("weights", count), ("shares", fades[0].size))
    )
    weights[0] *= draw(st.sampled_from([0.0, 1.0]))
    return Senders(
        gains=1e-9 * mean_gains[:, None, None] * fades,
        mean_gains=1e-9 * mean_gains,
        shares=(shares / shares.sum()).reshape(blocks, subchannels),
        weights=weights / max(weights.sum(), 1e-9),
        tx_power_w=0.1 * powers,
        fading=RayleighBlock(coherence_time_s=0.001),
        unit=draw(st.sampled_from(sorted(UNITS))),
        threshold=draw(st.sampled_from([1e-40, 0.1, 0.5])),
    )


@pytest.mark.parametrize("part", EXAMPLES)
@settings(deadline=None, max_examples=40)
@given(asked=senders())
def test_nobody_radiates_more_than_its_power_over_a_unit(part, asked):
    precoded = part.precode(asked)
    assert precoded.weights.shape == asked.gains.shape
    assert precoded.received_w.shape == asked.shares.shape
    assert np.isfinite(precoded.weights).all()
    assert np.isfinite(precoded.received_w).all()
    assert (precoded.weights >= 0.0).all()
    assert not precoded.weights[asked.weights == 0.0].any()
    assert ((precoded.received_w > 0.0) >= precoded.weights.any(axis=0)).all()
    radiated_w = precoded.weights**2 * precoded.received_w / asked.gains * asked.shares
    axes = UNITS[asked.unit]
    most = asked.tx_power_w[:, None, None] * asked.shares.sum(
        axis=tuple(one - 1 for one in axes), keepdims=True
    )
    assert (radiated_w.sum(axis=axes, keepdims=True) <= most * (1.0 + 1e-9)).all()


@pytest.mark.parametrize("part", EXAMPLES)
@settings(deadline=None, max_examples=5)
@given(asked=senders())
def test_the_same_air_is_precoded_alike(part, asked):
    first, second = part.precode(asked), part.precode(asked)
    np.testing.assert_array_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.received_w, second.received_w)
