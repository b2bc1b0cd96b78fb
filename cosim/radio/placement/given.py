"""Clients where the scenario says."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.errors import ScenarioError
from cosim.radio.placement import Placement
from cosim.rng import Stream
from cosim.units import Floats


class Given(Placement):
    """Clients at listed positions, one [x, y] pair in metres each; the base station is [0, 0]."""

    kind: Literal["given"] = "given"
    positions_m: tuple[tuple[float, float], ...] = Field(min_length=1)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"positions_m": [[100.0, 0.0], [-30.0, 40.0], [0.0, 250.0]]},
    )

    @model_validator(mode="after")
    def _none_at_the_base_station(self) -> Self:
        for index, (x, y) in enumerate(self.positions_m):
            if x == 0.0 and y == 0.0:
                raise ValueError(
                    f"position {index} is [0, 0], where the base station is; move it away from there"
                )
        return self

    @property
    def num_places(self) -> int:
        """As many as positions."""
        return len(self.positions_m)

    def place(self, stream: Stream, num_clients: int) -> Floats:
        """Return the listed positions, m, shape (num_clients, 2).

        Raises
        ------
        ScenarioError
            If there are not as many positions as clients.
        """
        if len(self.positions_m) != num_clients:
            raise ScenarioError(
                f"radio.placement.positions_m has {len(self.positions_m)} position(s) for "
                f"{num_clients} client(s); give one [x, y] pair for each client"
            )
        return np.asarray(self.positions_m, dtype=np.float64)
