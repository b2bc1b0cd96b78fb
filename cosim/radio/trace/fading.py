"""Traces of fading."""

from typing import Any, ClassVar, Literal

import numpy as np

from cosim.radio.trace import Trace
from cosim.units import Floats


class FadingTrace(Trace):
    """``gain_db`` is the fading, dB over the path loss and shadowing that the scenario models."""

    kind: Literal["fading"] = "fading"
    column: ClassVar[str] = "gain_db"
    gives: ClassVar[Literal["fading", "gains", "rates"]] = "fading"
    takes_place_of: ClassVar[tuple[str, ...]] = ("fading",)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"file": "trace.csv", "at_end": "wrap"},)

    def gains(self, values: Floats, mean: Floats, noise_w: float) -> Floats:
        return np.asarray(mean * np.nan_to_num(10.0 ** (values / 10.0)))
