"""Fading that moves smoothly, as a client's speed tells it to."""

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cosim.radio.fading.moving import MovingFading
from cosim.rng import Stream
from cosim.units import Floats


class Jakes(MovingFading):
    """Rayleigh fading with the Doppler spectrum of isotropic scattering, as a sum of sinusoids.

    The complex amplitude has autocorrelation J0(2 pi doppler tau), exactly and for
    any ``num_sinusoids``; the distribution is Rayleigh in the limit of many, and
    the second moment of the power gain is 2 - 3 / (4 num_sinusoids) instead of 2.
    Subchannels fade independently of each other.

    Source
    ------
    Y. R. Zheng and C. Xiao, "Improved models for the generation of multiple
    uncorrelated Rayleigh fading waveforms", IEEE Commun. Lett. 6(6), 2002: random
    phases and a random turn of the arrival angles cure the fixed angles of
    W. C. Jakes, "Microwave Mobile Communications", Wiley, 1974.
    """

    kind: Literal["jakes"] = "jakes"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"doppler_hz": 50.0},
        {"speed_m_per_s": 1.4, "carrier_hz": 2e9, "sample_time_s": 0.01},
        {"doppler_hz": 5.0, "sample_time_s": 0.02, "selectivity": "flat"},
    )

    def draw(self, stream: Stream, first: int, count: int, width: int) -> Floats:
        amplitude = self.amplitudes(stream, first, count, width)
        return np.asarray(amplitude.real**2 + amplitude.imag**2)

    def amplitudes(self, stream: Stream, first: int, count: int, width: int) -> NDArray[np.complex128]:
        """Return independent complex amplitudes of mean power one, shape (count, width)."""
        return self.turned(stream, self.swept(first, count), width)

    def gains_along(self, stream: Stream, gone: Floats, widths_hz: Floats) -> Floats:
        width = 1 if self.selectivity == "flat" else len(widths_hz)
        amplitude = self.turned(stream, 2.0 * np.pi * gone, width)
        gains = amplitude.real**2 + amplitude.imag**2
        return np.broadcast_to(gains, (len(gone), len(widths_hz)))
