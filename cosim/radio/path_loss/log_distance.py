"""Loss that grows with a chosen power of distance."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.path_loss import PathLoss
from cosim.units import Floats


class LogDistance(PathLoss):
    """Log-distance path loss: ``reference_loss_db`` at ``reference_m``, then 10 ``exponent`` dB per decade.

    Nearer than ``reference_m`` the loss stays at the reference: the model says
    nothing about the near field.

    Source
    ------
    T. S. Rappaport, "Wireless Communications", 2nd ed., Prentice Hall, 2002, sec. 4.9.1.

    Examples
    --------
    >>> LogDistance(reference_m=1.0, reference_loss_db=40.0, exponent=3.0).loss_db(np.array([100.0]))
    array([100.])
    """

    kind: Literal["log_distance"] = "log_distance"
    reference_m: float = Field(default=1.0, gt=0.0)
    reference_loss_db: float = Field(ge=0.0, le=400.0)
    exponent: float = Field(gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"reference_loss_db": 38.5, "exponent": 2.0},
        {"reference_m": 10.0, "reference_loss_db": 60.0, "exponent": 3.7},
    )

    def formula_db(self, distance_m: Floats) -> Floats:
        beyond = np.maximum(distance_m / self.reference_m, 1.0)
        return np.asarray(self.reference_loss_db + 10.0 * self.exponent * np.log10(beyond))
