"""Capacity, less what real codes leave on the table."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.rate import RateModel
from cosim.units import Floats, db_to_linear

_LN2 = float(np.log(2.0))


class Shannon(RateModel):
    """Shannon capacity with an SNR gap, B log2(1 + snr / gap).

    The cell is alone and its subchannels are orthogonal, so there is no
    interference term. ``snr_gap_db`` is what a real modulation and code need on
    top of capacity's SNR; 0 is capacity itself.

    Source
    ------
    C. E. Shannon, "Communication in the presence of noise", Proc. IRE, 1949; the
    gap: J. M. Cioffi et al., "MMSE decision-feedback equalizers and coding, part II",
    IEEE Trans. Commun. 43(10), 1995.

    Examples
    --------
    >>> Shannon().rates(np.array([3.0, 1.0]), np.array([180e3, 180e3]))
    np.float64(540000.0)
    """

    kind: Literal["shannon"] = "shannon"
    adds_subchannels: ClassVar[bool] = True
    snr_gap_db: float = Field(default=0.0, ge=0.0, le=400.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"snr_gap_db": 3.0})

    @property
    def rung(self) -> str:
        """Capacity, with its gap."""
        return f"Shannon with a gap of {self.snr_gap_db:g} dB" if self.snr_gap_db else "Shannon"

    def per_subchannel(self, snr: Floats, bandwidth_hz: Floats) -> Floats:
        with_gap = snr / db_to_linear(self.snr_gap_db) if self.snr_gap_db else snr
        return np.asarray(bandwidth_hz * (np.log1p(with_gap) / _LN2))
