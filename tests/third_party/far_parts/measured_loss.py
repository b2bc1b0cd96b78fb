"""Trace: losses."""

from typing import Any, ClassVar, Literal

import numpy as np

from cosim.radio.trace import Trace
from cosim.units import Floats


class MeasuredLoss(Trace):
    """``loss_db`` is all that is lost between what is sent and what is received, dB."""

    kind: Literal["far_measured_loss"] = "far_measured_loss"
    column: ClassVar[str] = "loss_db"
    gives: ClassVar[Literal["fading", "gains", "rates"]] = "gains"
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"file": "trace.csv", "at_end": "wrap"},)

    def gains(self, values: Floats, mean: Floats, noise_w: float) -> Floats:
        """Return what is left."""
        return np.nan_to_num(10.0 ** (-values / 10.0))
