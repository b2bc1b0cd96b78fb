"""Tapped delay lines of TR 38.901."""

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cosim.radio.fading.delay_line import DelayLine, profile_of
from cosim.rng import Stream
from cosim.units import Floats

_LOS_DOPPLER = 0.7  # of the largest shift: where the line of sight peaks


class TappedDelayLine(DelayLine):
    """Taps at the delays of a profile, each fading by itself with Jakes' Doppler spectrum.

    The tap of a line of sight (``D`` and ``E``) turns with 0.7 times the largest Doppler shift.

    Source
    ------
    3GPP TR 38.901 V19.2, clause 7.7.2, Tables 7.7.2-1 to 7.7.2-5; spectrum of each tap: clause
    7.7.2, Jakes.
    """

    kind: Literal["tdl"] = "tdl"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"doppler_hz": 50.0},
        {"profile": "C", "delay_spread_s": 300e-9, "doppler_hz": 5.0, "sample_time_s": 0.02},
        {"profile": "D", "speed_m_per_s": 3.0, "carrier_hz": 2e9, "selectivity": "flat"},
    )

    def taps(self, stream: Stream, swept: Floats) -> tuple[Floats, NDArray[np.complex128]]:
        """Return delays, s, shape (num_taps,), and complex amplitudes, shape (count, num_taps)."""
        delays, powers = profile_of(self.profile)
        amplitudes = self.turned(stream, swept, len(delays))
        if self.profile in ("D", "E"):
            start = 2.0 * np.pi * stream.child("line of sight").uniforms(0, 1, 1)[0, 0]
            amplitudes[:, 0] = np.exp(1j * (_LOS_DOPPLER * swept + start))
        return self.delay_spread_s * delays, np.sqrt(powers) * amplitudes

    def copies(self, stream: Stream, swept: Floats) -> tuple[Floats, list[NDArray[np.complex128]]]:
        """Return the taps, of one antenna."""
        delays_s, amplitudes = self.taps(stream, swept)
        return delays_s, [amplitudes]
