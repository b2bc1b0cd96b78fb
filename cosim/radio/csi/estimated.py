"""Gains that are estimated from pilots."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.parts import LONGEST_S
from cosim.radio.csi import Complexes, Csi, Sight
from cosim.units import Floats, seconds_to_ns


class Estimated(Csi):
    """Amplitudes estimated from noisy pilots, with the least mean square error (linear MMSE).

    Each subchannel of mean SNR ``snr`` is measured ``num_pilots`` times. The error of the amplitude
    has the variance 1 / (1 + snr num_pilots), relative to the mean gain; under Rayleigh fading the
    estimate is Gaussian with the rest, and the error independent of it. What is known is the square
    of the estimate, as if it were the truth. On an uplink clients send their pilots in turn, each
    symbol over the whole link at full power; on a downlink the server sends them once for all.

    Attributes
    ----------
    num_pilots
        Pilot symbols of each sender.
    pilot_s
        How long one lasts, s; as a rule of 15 kHz subcarriers.

    Source
    ------
    S. M. Kay, "Fundamentals of Statistical Signal Processing: Estimation Theory", 1993, chapter 12.
    """

    kind: Literal["estimated"] = "estimated"
    num_pilots: int = Field(default=4, ge=1, le=10**9)
    pilot_s: float = Field(default=71.35e-6, ge=0.0, le=LONGEST_S)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"num_pilots": 1, "pilot_s": 0.0})

    @property
    def pilots_ns(self) -> int:
        """All symbols of a sender."""
        return seconds_to_ns(self.num_pilots * self.pilot_s)

    def known(self, gains: Floats, sight: Sight) -> Floats:
        """Return the squared estimates; the phase of an amplitude changes nothing of their distribution."""
        return np.asarray(np.abs(self.estimate(np.sqrt(gains), sight)) ** 2)

    def estimate(self, amplitudes: Complexes | Floats, sight: Sight) -> Complexes:
        """Return the estimates, whose phase is off as noise turns it."""
        num_subchannels = amplitudes.shape[1]
        drawn = np.concatenate([one.uniforms(0, 1, 2 * num_subchannels) for one in sight.streams])
        noise = np.sqrt(-np.log(drawn[:, ::2])) * np.exp(
            2j * np.pi * drawn[:, 1::2]
        )  # as gains, mean power 1
        snr_of_gain = self.num_pilots * sight.snr_of_gain
        snr = snr_of_gain * sight.mean_gains
        measured = amplitudes + noise / np.sqrt(snr_of_gain)
        return np.asarray(snr / (1.0 + snr) * measured)

    @property
    def description(self) -> str:
        """From how many pilots."""
        return f"estimated from {self.num_pilots} pilot(s) of {self.pilot_s:g} s"
