"""The macro cell formula most papers on wireless learning use."""

from typing import Any, ClassVar, Literal

import numpy as np

from cosim.radio.path_loss import PathLoss
from cosim.units import Floats


class Macro3gpp(PathLoss):
    """3GPP macro cell, 128.1 + 37.6 log10(distance in km) dB.

    Holds for a carrier of 2 GHz and a base station 15 m above the rooftops,
    without line of sight; papers use it far outside that, and nearer than the
    tens of metres it was meant for. The number follows from the report's general form
    40 (1 - 0.004 h) log10 d - 18 log10 h + 21 log10 f + 80 with h = 15 m and
    f = 2000 MHz (128.15, rounded there to 128.1).

    Source
    ------
    3GPP TR 36.942, "E-UTRA; Radio frequency system scenarios", sec. 4.5.2; the
    same line is case 1 of TR 36.814, annex A.2.1.1.

    Examples
    --------
    >>> Macro3gpp().loss_db(np.array([1000.0, 100.0]))
    array([128.1,  90.5])
    """

    kind: Literal["macro_3gpp"] = "macro_3gpp"
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"min_distance_m": 35.0})

    def formula_db(self, distance_m: Floats) -> Floats:
        return np.asarray(128.1 + 37.6 * np.log10(distance_m / 1000.0))
