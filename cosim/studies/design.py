"""Designs: which settings each case has, before anybody asks whether they make a scenario."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

import numpy as np

from cosim.rng import stream
from cosim.studies.paths import Settings, short_names
from cosim.studies.ranges import Range, Steps
from cosim.studies.settings import Sampled, Vary
from cosim.units import Floats
from cosim.words import shown


@dataclass(frozen=True)
class Point:
    """One case of a design: its name, its settings, and its part in a Sobol design.

    ``role`` is ``a``, ``b``, or ``ab0`` for the point of ``a`` whose first factor is
    that of ``b``, and so on; empty in other designs. ``row`` is the sample it belongs to.
    """

    name: str
    settings: Settings
    role: str = ""
    row: int = -1


def factors(vary: Vary) -> list[str]:
    """Return the paths that vary, in the order of the file."""
    named = [*vary.grid, *vary.zip, *(path for one in vary.cases for path in one.set)]
    for sampled in (vary.latin_hypercube, vary.sobol):
        named += [] if sampled is None else list(sampled.ranges)
    return list(dict.fromkeys(named))


def num_points(vary: Vary) -> int:
    """Return how many cases a design has, without making them."""
    sizes = [axis.num_values if isinstance(axis, Steps) else len(axis) for axis in vary.grid.values()]
    sizes += [len(values) for values in list(vary.zip.values())[:1]]
    sizes += [len(vary.cases)] if vary.cases else []
    sizes += [vary.latin_hypercube.samples] if vary.latin_hypercube else []
    sizes += [vary.sobol.samples * (len(vary.sobol.ranges) + 2)] if vary.sobol else []
    return prod(sizes)


def points(vary: Vary, seed: int) -> Iterator[Point]:
    """Return the cases of a design, one after the other; ``seed`` decides what is drawn."""
    short = short_names(factors(vary))
    designs = [
        [_settled({path: value}, short) for value in _values(axis)] for path, axis in vary.grid.items()
    ]
    if vary.zip:
        rows = zip(*vary.zip.values(), strict=True)
        designs.append([_settled(dict(zip(vary.zip, row, strict=True)), short) for row in rows])
    if vary.cases:
        designs.append([Point(one.name, one.set) for one in vary.cases])
    if vary.latin_hypercube is not None:
        designs.append(_latin_hypercube(vary.latin_hypercube, seed))
    if vary.sobol is not None:
        designs.append(_sobol(vary.sobol, seed))
    for combination in product(*designs):
        yield _crossed(combination)


def _values(axis: Sequence[Any] | Steps) -> Sequence[Any]:
    return axis.values() if isinstance(axis, Steps) else axis


def _settled(settings: Settings, short: dict[str, str]) -> Point:
    return Point(", ".join(f"{short[path]}={shown(value)}" for path, value in settings.items()), settings)


def _crossed(combination: Sequence[Point]) -> Point:
    """Return the case that has the settings of all; without any it is the base as it is."""
    crossed = Point(", ".join(one.name for one in combination) or "base", {})
    for one in combination:
        crossed = replace(crossed, settings=crossed.settings | one.settings)
        if one.role:
            crossed = replace(crossed, role=one.role, row=one.row)
    return crossed


def _latin_hypercube(sampled: Sampled, seed: int) -> list[Point]:
    from scipy.stats import qmc

    shares = qmc.LatinHypercube(d=len(sampled.ranges), rng=_chance(seed, "latin_hypercube")).random(
        sampled.samples
    )
    digits = len(str(sampled.samples - 1))
    return [Point(f"lhs-{number:0{digits}}", _at(sampled.ranges, row)) for number, row in enumerate(shares)]


def _sobol(sampled: Sampled, seed: int) -> list[Point]:
    """Return Saltelli's design: two independent samples, and the first with each factor of the second.

    Source
    ------
    A. Saltelli et al., "Variance based sensitivity analysis of model output", Computer Physics
    Communications 181, 2010.
    """
    from scipy.stats import qmc

    num_factors = len(sampled.ranges)
    sequence = qmc.Sobol(d=2 * num_factors, scramble=True, rng=_chance(seed, "sobol"))
    drawn = np.asarray(sequence.random(sampled.samples))
    first, second = drawn[:, :num_factors], drawn[:, num_factors:]
    samples: dict[str, Floats] = {"a": first, "b": second}
    for factor in range(num_factors):
        mixed = first.copy()
        mixed[:, factor] = second[:, factor]
        samples[f"ab{factor}"] = mixed
    digits = len(str(sampled.samples - 1))
    return [
        Point(f"sobol-{role}-{number:0{digits}}", _at(sampled.ranges, row), role, number)
        for role, shares in samples.items()
        for number, row in enumerate(shares)
    ]


def _chance(seed: int, name: str) -> np.random.Generator:
    """Return a generator of the stream of this name that can have children, which scipy asks of it."""
    return np.random.default_rng(stream(seed, "study", name).key)


def _at(ranges: dict[str, Range], shares: Sequence[float] | Floats) -> Settings:
    return {path: one.value(float(share)) for (path, one), share in zip(ranges.items(), shares, strict=True)}
