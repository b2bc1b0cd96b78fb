"""Delay lines of TR 38.901: fading that subchannels near each other share."""

from abc import abstractmethod
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cosim.radio.fading.moving import MovingFading
from cosim.radio.power_control import BLOCK_HZ
from cosim.rng import Stream
from cosim.units import Floats

_TAPS = {
    "A": (
        "0 0.3819 0.4025 0.5868 0.461 0.5375 0.6708 0.575 0.7618 1.5375 1.8978 2.2242 2.1718 2.4942 "
        "2.5119 3.0582 4.081 4.4579 4.5695 4.7966 5.0066 5.3043 9.6586",
        "-13.4 0 -2.2 -4 -6 -8.2 -9.9 -10.5 -7.5 -15.9 -6.6 -16.7 -12.4 -15.2 -10.8 -11.3 -12.7 "
        "-16.2 -18.3 -18.9 -16.6 -19.9 -29.7",
    ),
    "B": (
        "0 0.1072 0.2155 0.2095 0.287 0.2986 0.3752 0.5055 0.3681 0.3697 0.57 0.5283 1.1021 1.2756 "
        "1.5474 1.7842 2.0169 2.8294 3.0219 3.6187 4.1067 4.279 4.7834",
        "0 -2.2 -4 -3.2 -9.8 -1.2 -3.4 -5.2 -7.6 -3 -8.9 -9 -4.8 -5.7 -7.5 -1.9 -7.6 -12.2 -9.8 "
        "-11.4 -14.9 -9.2 -11.3",
    ),
    "C": (
        "0 0.2099 0.2219 0.2329 0.2176 0.6366 0.6448 0.656 0.6584 0.7935 0.8213 0.9336 1.2285 "
        "1.3083 2.1704 2.7105 4.2589 4.6003 5.4902 5.6077 6.3065 6.6374 7.0427 8.6523",
        "-4.4 -1.2 -3.5 -5.2 -2.5 0 -2.2 -3.9 -7.4 -7.1 -10.7 -11.1 -5.1 -6.8 -8.7 -13.2 -13.9 "
        "-13.9 -15.8 -17.1 -16 -15.7 -21.6 -22.8",
    ),
    "D": (
        "0 0 0.035 0.612 1.363 1.405 1.804 2.596 1.775 4.042 7.937 9.424 9.708 12.525",
        "-0.2 -13.5 -18.8 -21 -22.8 -17.9 -20.1 -21.9 -22.9 -27.8 -23.6 -24.8 -30 -27.7",
    ),
    "E": (
        "0 0 0.5133 0.544 0.563 0.544 0.7112 1.9092 1.9293 1.9589 2.6426 3.7136 5.4524 12.0034 20.6519",
        "-0.03 -22.03 -15.8 -18.1 -19.8 -22.9 -22.4 -18.6 -20.8 -22.6 -22.3 -25.6 -20.2 -29.8 -29.2",
    ),
}
"""Of each profile normalised delays, and powers in dB; the first of D and E is the line of sight."""


class DelayLine(MovingFading):
    """Copies of what is sent at the delays of a profile, each with an amplitude that moves.

    A subchannel has the gain at its centre, so that neighbours within the coherence
    bandwidth, about one over the delay spread, fade together; one far wider than that
    would in truth see a mean. Profiles ``A`` to ``C`` are without, ``D`` and ``E`` with line of
    sight. Powers are normalised to one in all.

    ``delay_spread_s``: root mean square; delays of the tables are multiplied by it (clause 7.7.3).
    """

    profile: Literal["A", "B", "C", "D", "E"] = "A"
    delay_spread_s: float = Field(default=100e-9, ge=0.0, le=1e-4)

    def draw(self, stream: Stream, first: int, count: int, width: int) -> Floats:
        """Return the gains of subchannels of 180 kHz side by side, which are alike, shape (count, width)."""
        return self._gains(stream, self.swept(first, count), np.full(width, BLOCK_HZ))

    def gains_over(self, stream: Stream, first: int, count: int, widths_hz: Floats) -> Floats:
        return self._gains(stream, self.swept(first, count), widths_hz)

    def gains_along(self, stream: Stream, gone: Floats, widths_hz: Floats) -> Floats:
        return self._gains(stream, 2.0 * np.pi * gone, widths_hz)

    @abstractmethod
    def copies(self, stream: Stream, swept: Floats) -> tuple[Floats, list[NDArray[np.complex128]]]:
        """Return delays, s, shape (num_copies,), and for each antenna amplitudes, shape (count, num_copies).

        Parameters
        ----------
        swept
            By how much the largest Doppler shift has turned, rad, shape (count,).
        """

    def _gains(self, stream: Stream, swept: Floats, widths_hz: Floats) -> Floats:
        """Return the mean gain of all antennas, shape (count, num_subchannels)."""
        centres_hz = np.cumsum(widths_hz) - widths_hz / 2.0 - widths_hz.sum() / 2.0
        if self.selectivity == "flat":
            centres_hz = np.zeros(1)
        delays_s, each = self.copies(stream, swept)
        turned = np.exp(-2j * np.pi * centres_hz[:, np.newaxis] * delays_s)  # (num_subchannels, num_copies)
        total: Floats | float = 0.0
        for amplitudes in each:
            response = (amplitudes[:, np.newaxis] * turned).sum(axis=-1)  # (count, num_subchannels)
            total = total + (response.real**2 + response.imag**2)
        return np.broadcast_to(total / len(each), (len(swept), len(widths_hz)))


@cache
def profile_of(name: str) -> tuple[Floats, Floats]:
    """Return normalised delays and powers that add up to one."""
    delays, powers_db = (np.array([float(one) for one in row.split()]) for row in _TAPS[name])
    powers = 10.0 ** (powers_db / 10.0)
    return delays, powers / powers.sum()
