"""E(r): how many rounds training needs at each LoRA rank, as it was measured.

The table a calibration writes is JSON::

    {
      "format": 1,
      "model": "<hash of the model trained>", "data": "<hash of the data>",
      "ranks": {"1": {"rounds": 31.5, "std": 1.2}, "4": {"rounds": 24.0, "std": 0.8}},
      "fit": {"e0": 20.0, "e1": 11.5, "beta": 0.9}
    }

``std`` is the standard deviation over seeds, in rounds; ``fit``, which may be
left out, is ``e0 + e1 * rank ** -beta`` and answers for ranks between measured
ones only.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError

from cosim.errors import AllocationError, ScenarioError
from cosim.parts import Table

Rank = Annotated[int, Field(ge=1)]
NumRounds = Annotated[float, Field(gt=0.0)]


class MeasuredRounds(Table):
    """Rounds to target at one rank: mean and standard deviation over seeds."""

    rounds: NumRounds
    std: float = Field(default=0.0, ge=0.0)


class RoundsFit(Table):
    """The curve ``e0 + e1 * rank ** -beta`` through the measured rounds."""

    e0: float = Field(ge=0.0)
    e1: float = Field(ge=0.0)
    beta: float = Field(gt=0.0)

    def at(self, lora_rank: int) -> float:
        """Return the rounds at a rank."""
        return self.e0 + self.e1 * math.pow(lora_rank, -self.beta)


class RoundsTable(Table):
    """Measured rounds of one model on one data set."""

    format: Literal[1] = 1
    model: str = ""
    data: str = ""
    ranks: Mapping[Rank, MeasuredRounds] = Field(min_length=1)
    fit: RoundsFit | None = None

    @classmethod
    def of(cls, rounds_to_target: Mapping[int, float]) -> Self:
        """Return the table that says just these rounds; it belongs to no model in particular."""
        return cls(ranks={rank: MeasuredRounds(rounds=rounds) for rank, rounds in rounds_to_target.items()})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the table of a file.

        Raises
        ------
        ScenarioError
            If the file cannot be read, or is no such table.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as fault:
            raise ScenarioError(
                f"rounds_table: {path} cannot be read ({fault.strerror}); calibrate the scenario first."
            ) from fault
        except ValidationError as fault:
            first = fault.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise ScenarioError(
                f"rounds_table: {path} is no table of rounds: {place}: {first['msg']}; calibrate again."
            ) from fault

    def check(self, model: str, data: str) -> None:
        """Hold the table against what is trained; an empty hash on either side says nothing.

        Raises
        ------
        AllocationError
            If the table was measured with another model or other data.
        """
        for name, measured, trained in (("model", self.model, model), ("data", self.data, data)):
            if measured and trained and measured != trained:
                raise AllocationError(
                    f"the table of rounds to target was measured with another {name} "
                    f"({measured[:12]}, this run has {trained[:12]}); calibrate this scenario."
                )

    def at(self, lora_rank: int) -> float:
        """Return the rounds at a rank: measured, or the fit between two measured ranks.

        Raises
        ------
        AllocationError
            If the rank was not measured and no fit covers it.
        """
        if lora_rank in self.ranks:
            return self.ranks[lora_rank].rounds
        if self.fit is not None and min(self.ranks) < lora_rank < max(self.ranks):
            return self.fit.at(lora_rank)
        raise AllocationError(
            f"the rounds to target of LoRA rank {lora_rank} are not known; measured are "
            f"{', '.join(map(str, sorted(self.ranks)))}; choose among them, or calibrate with that rank."
        )
