"""The plane of channels, and the arms compared on each: TSFA by limit and weight, and fixed ratios."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from analysis.soft_tsfa.trainings import Method
from cosim.control.allocators.sparsifying import KeepRatios
from cosim.scenario.build import prepare
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario

RATIOS = {0.1: 18, 0.2: 12, 0.35: 10, 0.6: 8, 1.0: 8}
"""Fixed sparsification ratios, each with rounds enough to come to the target."""

LIMITS = {0.2: 14, 0.5: 10}
"""Latency limits of TSFA, between an empty round (0) and a dense one (1) before fading, with their rounds."""

_REFERENCE = 0.35
_NO_LIMIT_S = 1e6


@dataclass(frozen=True)
class Cell:
    """A place in the plane.

    Attributes
    ----------
    std_db
        Standard deviation of shadowing, dB, beside the spread by distance.
    coherence
        How long a block of fading holds, in reference rounds: those 0.35 of the way from empty to dense.
    """

    std_db: float
    coherence: float

    def __str__(self) -> str:
        return f"{self.std_db:g} dB, {self.coherence:g} rounds"


def cells(is_quick: bool) -> list[Cell]:
    """Return the plane; its corners with ``is_quick``."""
    spreads, coherences = ((0.0, 12.0), (0.1, 4.0)) if is_quick else ((0.0, 6.0, 12.0), (0.1, 1.0, 4.0))
    return [Cell(*one) for one in product(spreads, coherences)]


@dataclass(frozen=True)
class Place:
    """A cell under one seed: what a round takes there before fading, empty and dense, s."""

    cell: Cell
    seed: int
    empty_s: float
    dense_s: float

    @classmethod
    def of(cls, scenario: Scenario, cell: Cell, seed: int) -> "Place":
        """Work out how long rounds take where each client is."""
        unlimited = {"kind": "fixed_ratio", "latency_limit_s": _NO_LIMIT_S, "sparsification_ratio": 1.0}
        prepared = prepare(change(scenario, {**_shadowing(cell), "allocator": unlimited}, seed))
        assert isinstance(prepared.scenario.allocator, KeepRatios)
        _, empty_s, dense_s = prepared.scenario.allocator.latency(prepared.decisions().state(0, round_=1))
        return cls(cell, seed, empty_s, dense_s)

    def limit_s(self, share: float) -> float:
        """Return the latency that is so far from an empty round to a dense one, s."""
        return self.empty_s + share * (self.dense_s - self.empty_s)

    def _method(self, name: str, rounds: int, allocator: dict[str, Any]) -> Method:
        fading = {
            "kind": "rayleigh_block",
            "coherence_time_s": self.cell.coherence * self.limit_s(_REFERENCE),
        }
        changes = {
            **_shadowing(self.cell),
            "radio.fading": fading,
            "scheme.num_rounds": rounds,
            "allocator": allocator,
        }
        return Method(f"{name}, {self.cell}", changes)

    def fixed(self, ratio: float) -> Method:
        """Return one ratio for all clients and rounds."""
        allocator = {"kind": "fixed_ratio", "latency_limit_s": _NO_LIMIT_S, "sparsification_ratio": ratio}
        return self._method(f"fixed {ratio:g}", RATIOS[ratio], allocator)

    def tsfa(self, limit: float, penalty_weight: float | None = None, name: str = "") -> Method:
        """Return TSFA under a limit, with its own weight or another."""
        allocator = {
            "kind": "tsfa",
            "latency_limit_s": self.limit_s(limit),
            **({} if penalty_weight is None else {"penalty_weight": penalty_weight}),
        }
        return self._method(f"tsfa {limit:g}{name}", LIMITS[limit], allocator)


def _shadowing(cell: Cell) -> dict[str, Any]:
    return {"radio.shadowing": {"kind": "log_normal", "std_db": cell.std_db}} if cell.std_db else {}


def chosen_on_others(times: Sequence[Sequence[float]]) -> list[int]:
    """Return for each seed the arm that is earliest in the geometric mean over the other seeds.

    Parameters
    ----------
    times
        Of each seed, those of each arm, s; infinite where an arm does not come to the target.

    Examples
    --------
    >>> chosen_on_others([[1.0, 9.0], [3.0, 2.0], [3.0, 2.0]])
    [1, 0, 0]
    """
    from math import inf, log

    logs = [[log(one) if one < inf else inf for one in seed] for seed in times]
    found = []
    for left_out in range(len(times)):
        others = [seed for number, seed in enumerate(logs) if number != left_out]
        sums = [sum(arm) for arm in zip(*others, strict=True)]
        found.append(sums.index(min(sums)))
    return found
