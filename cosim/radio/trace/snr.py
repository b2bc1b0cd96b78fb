"""Traces of signal quality."""

from typing import Any, ClassVar, Literal

import numpy as np

from cosim.parts import Decibels
from cosim.radio.trace import Trace
from cosim.units import Floats, dbm_to_w


class SnrTrace(Trace):
    """``snr_db`` is the SNR of what is sent with ``reference_tx_power_dbm`` over the whole width of a link.

    More or less power on each hertz gives more or less SNR, so an allocator's powers and
    widths count as on any channel. Noise is that of the scenario; interference comes on top.
    """

    kind: Literal["snr"] = "snr"
    column: ClassVar[str] = "snr_db"
    gives: ClassVar[Literal["fading", "gains", "rates"]] = "gains"
    takes_place_of: ClassVar[tuple[str, ...]] = ("fading", "surface", "uplink_p0_dbm")
    reference_tx_power_dbm: Decibels
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"file": "trace.csv", "at_end": "hold", "reference_tx_power_dbm": 23.0},
    )

    def gains(self, values: Floats, mean: Floats, noise_w: float) -> Floats:
        snr = np.nan_to_num(10.0 ** (values / 10.0))
        return np.asarray(snr * noise_w / dbm_to_w(self.reference_tx_power_dbm))
