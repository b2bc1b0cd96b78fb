"""What every csi keeps, run over each part's examples."""

import numpy as np
import pytest

from cosim.radio.channel import Channel
from cosim.radio.channel_settings import ChannelSettings
from cosim.radio.csi import Csi
from cosim.radio.fading.rayleigh_block import RayleighBlock
from cosim.radio.knowledge import known_gains
from cosim.testing.selection import parts_of

EXAMPLES = parts_of(Csi)


@pytest.mark.parametrize("part", EXAMPLES)
def test_what_is_known_of_a_client_is_a_function_of_it_and_of_time_alone(part):
    air = ChannelSettings(csi=part, fading=RayleighBlock(coherence_time_s=0.01))
    few, many = (Channel.build(air, num, 3) for num in (2, 4))
    for time_ns in (0, 30_000_000):
        known = known_gains(many, "main_uplink", time_ns, np.full(4, 0.1))
        assert known.shape == (4, 20)
        assert (np.isfinite(known) & (known > 0.0)).all()
        again = known_gains(few, "main_uplink", time_ns, np.full(2, 0.1))
        np.testing.assert_array_equal(again, known[:2])
    assert part.pilots_ns >= 0
    assert part.report_ns(4) >= part.report_ns(1) >= 0
    assert part.description
