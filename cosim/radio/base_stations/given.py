"""Sites where the scenario says."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.radio.sectors import Sectored
from cosim.units import Floats


class GivenSites(Sectored):
    """Sites at listed positions, one [x, y] pair in metres each."""

    kind: Literal["given"] = "given"
    site_positions_m: tuple[tuple[float, float], ...] = Field(min_length=1)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"site_positions_m": [[0.0, 0.0], [300.0, 0.0]]},
        {
            "site_positions_m": [[-20.0, 0.0], [0.0, 0.0], [20.0, 5.0]],
            "num_sectors": 1,
            "antenna": "isotropic",
        },
    )

    def sites_m(self) -> Floats:
        return np.asarray(self.site_positions_m, dtype=np.float64)
