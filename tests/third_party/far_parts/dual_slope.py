"""Path loss: two slopes."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.path_loss import PathLoss
from cosim.units import Floats


class DualSlope(PathLoss):
    """20 dB per decade up to a breakpoint, 40 dB beyond, as over a plane that reflects.

    Source
    ------
    A. Goldsmith, "Wireless Communications", Cambridge, 2005, sec. 2.5.4.
    """

    kind: Literal["far_dual_slope"] = "far_dual_slope"
    loss_at_1m_db: float = Field(default=40.0, ge=0.0, le=200.0)
    breakpoint_m: float = Field(default=100.0, gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"loss_at_1m_db": 32.0, "breakpoint_m": 20.0})

    def formula_db(self, distance_m: Floats) -> Floats:
        """Return the loss of both slopes."""
        beyond = np.maximum(distance_m / self.breakpoint_m, 1.0)
        return np.asarray(self.loss_at_1m_db + 20.0 * np.log10(distance_m) + 20.0 * np.log10(beyond))
