"""Fading that moves smoothly, as fast as clients do: what Jakes and tapped delay lines share."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cosim.parts import LONGEST_S
from cosim.radio.fading import Fading
from cosim.rng import Stream
from cosim.units import NS_PER_S, SPEED_OF_LIGHT_M_PER_S, Floats, seconds_to_ns


class MovingFading(Fading):
    """Fading whose phases turn as the client moves; sampled each ``sample_time_s`` and held until the next.

    Say how fast it moves with ``doppler_hz``, or with ``speed_m_per_s`` and ``carrier_hz``. With
    ``follow_mobility`` it is as fast as each client is: the phases turn with the way it has
    gone in wavelengths of ``radio.carrier_frequency_hz``, so that the Doppler shift is
    always speed over wavelength, and a client that rests meets one gain.
    """

    kind: str
    doppler_hz: float | None = Field(default=None, gt=0.0)
    speed_m_per_s: float | None = Field(default=None, gt=0.0)
    carrier_hz: float | None = Field(default=None, gt=0.0)
    follow_mobility: bool = False
    sample_time_s: float = Field(default=1e-3, ge=1e-9, le=LONGEST_S)
    num_sinusoids: int = Field(default=16, ge=4)

    @model_validator(mode="after")
    def _one_way_to_say_how_fast(self) -> Self:
        given = [
            name for name in ("doppler_hz", "speed_m_per_s", "carrier_hz") if getattr(self, name) is not None
        ]
        if self.follow_mobility:
            if given:
                raise ValueError(
                    f"follow_mobility takes the speed from radio.mobility; leave {' and '.join(given)} out"
                )
        elif given not in (["doppler_hz"], ["speed_m_per_s", "carrier_hz"]):
            raise ValueError(
                f"got {' and '.join(given) or 'no speed'}; give doppler_hz alone, "
                "or speed_m_per_s together with carrier_hz"
            )
        return self

    @property
    def max_doppler_hz(self) -> float:
        """The largest Doppler shift, Hz: speed over wavelength; 0 where clients are followed."""
        if self.follow_mobility:
            return 0.0
        if self.doppler_hz is not None:
            return self.doppler_hz
        assert self.speed_m_per_s is not None
        assert self.carrier_hz is not None
        return self.speed_m_per_s * self.carrier_hz / SPEED_OF_LIGHT_M_PER_S

    @property
    def block_ns(self) -> int:
        return seconds_to_ns(self.sample_time_s)

    @property
    def follows_mobility(self) -> bool:
        """As the setting says."""
        return self.follow_mobility

    def swept(self, first: int, count: int) -> Floats:
        """Return by how much the largest Doppler shift has turned at some blocks, rad, shape (count,)."""
        time_s = np.arange(first, first + count) * self.block_ns / NS_PER_S
        return np.asarray(2.0 * np.pi * self.max_doppler_hz * time_s)

    def turned(self, stream: Stream, swept: Floats, width: int) -> NDArray[np.complex128]:
        """Return independent complex amplitudes of mean power one, shape (count, width).

        Parameters
        ----------
        swept
            By how much the largest Doppler shift has turned, rad, shape (count,).

        Source
        ------
        Y. R. Zheng and C. Xiao, "Improved models for the generation of multiple
        uncorrelated Rayleigh fading waveforms", IEEE Commun. Lett. 6(6), 2002.
        """
        num = self.num_sinusoids
        # One row for each waveform: the turn of its angles, then the phases of both quadratures.
        phase = 2.0 * np.pi * stream.uniforms(0, width, 1 + 2 * num)
        angle = (2.0 * np.pi * np.arange(1, num + 1) - 2.0 * np.pi + phase[:, :1]) / (4.0 * num)
        swept = swept[:, None, None]
        in_phase = np.cos(swept * np.cos(angle) + phase[:, 1 : 1 + num]).sum(axis=-1)
        quadrature = np.cos(swept * np.sin(angle) + phase[:, 1 + num :]).sum(axis=-1)
        return np.asarray((in_phase + 1j * quadrature) / np.sqrt(num))
