"""Traces of whole gains."""

from typing import Any, ClassVar, Literal

import numpy as np

from cosim.radio.trace import Trace
from cosim.units import Floats


class GainTrace(Trace):
    """``gain_db`` is all of a gain, from what is sent to what is received, dB.

    There is no path loss, no shadowing, no antenna gain and no fading beside it.
    """

    kind: Literal["gain"] = "gain"
    column: ClassVar[str] = "gain_db"
    gives: ClassVar[Literal["fading", "gains", "rates"]] = "gains"
    takes_place_of: ClassVar[tuple[str, ...]] = ("fading", "surface", "uplink_p0_dbm")
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"file": "trace.csv", "at_end": "hold"},)

    def gains(self, values: Floats, mean: Floats, noise_w: float) -> Floats:
        return np.nan_to_num(10.0 ** (values / 10.0))
