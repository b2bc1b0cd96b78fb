"""Capacity as far as a set of modulations and codes reaches."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.parts import Decibels
from cosim.radio.rate import RateModel
from cosim.units import Floats, db_to_linear


class TruncatedShannon(RateModel):
    """A share of Shannon's capacity, at most what the highest modulation and code carry.

    Without the cap a strong narrow subchannel carries what no modem does: 13.6 bit/s/Hz
    at 41 dB. The default cap is that of 256-QAM with code rate 948/1024. Below ``min_snr_db``,
    where it is given, nothing is carried.

    Settings
    --------
    attenuation
        Share of the capacity that is reached; 3GPP's studies of coexistence take 0.6 on
        downlinks and 0.4 on uplinks.

    Source
    ------
    3GPP TR 36.942, annex A.1 (attenuated and truncated Shannon bound); cap: 3GPP TS 38.214,
    Table 5.1.3.1-2, MCS 27.

    Examples
    --------
    >>> TruncatedShannon(attenuation=0.5).rates(np.array([3.0, 1e9]), np.array([1e6, 1e6]))
    np.float64(8406250.0)
    """

    kind: Literal["truncated_shannon"] = "truncated_shannon"
    adds_subchannels: ClassVar[bool] = True
    attenuation: float = Field(default=1.0, gt=0.0, le=1.0)
    max_bit_per_s_per_hz: float = Field(default=8.0 * 948.0 / 1024.0, gt=0.0)
    min_snr_db: Decibels | None = None
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"attenuation": 0.4, "max_bit_per_s_per_hz": 4.4, "min_snr_db": -10.0},
    )

    @property
    def rung(self) -> str:
        """Capacity, with its cap."""
        share = f"{self.attenuation:g} of " if self.attenuation < 1.0 else ""
        return f"{share}Shannon, capped at {self.max_bit_per_s_per_hz:.4g} bit/s/Hz"

    def per_subchannel(self, snr: Floats, bandwidth_hz: Floats) -> Floats:
        efficiency = np.minimum(self.attenuation * (np.log1p(snr) / np.log(2.0)), self.max_bit_per_s_per_hz)
        if self.min_snr_db is not None:
            efficiency = np.where(snr < db_to_linear(self.min_snr_db), 0.0, efficiency)
        return np.asarray(bandwidth_hz * efficiency)
