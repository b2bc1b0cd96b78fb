"""The tables of a study file.

::

    description = "How does total delay move with bandwidth, for two allocators?"
    base = "../quickstart.toml"          # a scenario, counted from the study file
    timing_only = true                   # compute no tensor
    replications = 5                     # seeds: the base's, and those after it
    until = "half-width <= 2 %"          # more of them, until every case is so sure of the first measure
    max_replications = 40
    measures = ["total_s", "energy_j", "gap_to_bound"]
    baseline = { "allocator.kind" = "equal" }

    [set]                                # what differs from the base in every case
    "scheme.num_rounds" = 4

    [vary.grid]                          # every combination
    "radio.main_uplink.bandwidth_hz" = [5e6, 10e6, 20e6]
    "allocator.kind" = ["equal", "time_shared"]

A value ``{ left_out = true }`` leaves the setting out, so a grid can have an
optional setting and not have it. Beside ``grid``: ``zip`` takes the first of each list together, then the
second; ``cases`` are named ones, ``[[vary.cases]]`` with ``name`` and ``set``;
``latin_hypercube`` and ``sobol`` draw ``samples`` from ``ranges``. Several of
them are crossed.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    field_validator,
    model_validator,
)

from cosim.parts import OneOf, Table
from cosim.scenario.former_names import current_kind, current_path
from cosim.scenario.limits import FolderName
from cosim.studies.measures import Measure, from_text
from cosim.studies.measures.total_s import TotalS
from cosim.studies.paths import spelt
from cosim.studies.ranges import Range, Steps
from cosim.tensor import EngineName
from cosim.words import short, shown

_UNTIL = re.compile(r"half-width\s*<=\s*(?P<limit>\d+\.?\d*(?:[eE][+-]?\d+)?)\s*(?P<percent>%?)")


LEFT_OUT = {"left_out": True}
"""How a file leaves a setting out; TOML has no null."""


def _is_value(table: dict[str, Any]) -> bool:
    return "kind" in table or "left_out" in table


def _is_axis(table: dict[str, Any]) -> bool:
    return "low" in table or "high" in table or "left_out" in table


def _settings(given: Any) -> Any:
    return _current(spelt(given, _is_value))


def _axes(given: Any) -> Any:
    return _current(spelt(given, _is_axis))


def _current(given: Any) -> Any:
    """Return settings by the paths they have now, with the values, or lists of them, they have now."""
    if not isinstance(given, dict):
        return given
    named = {current_path(path): value for path, value in given.items()}
    return {
        path: [_value(path, one) for one in value] if isinstance(value, list) else _value(path, value)
        for path, value in named.items()
    }


def _value(path: str, given: Any) -> Any:
    """Return a value by the name it has now; None for one that leaves the setting out."""
    if not isinstance(given, dict) or "left_out" not in given:
        return current_kind(path, given)
    if given != LEFT_OUT:
        raise ValueError(f"{path}: a value without the setting is {{ left_out = true }}, got {short(given)}")
    return None


Value = Annotated[Any, PlainSerializer(lambda one: LEFT_OUT if one is None else one, when_used="json")]
"""A value of a setting; None leaves the setting out."""

Changes = Annotated[dict[str, Value], BeforeValidator(_settings)]
"""New values by path; a table without a ``kind`` means the paths in it."""


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    told = [shown(one) if one is None else repr(one) for one in values]
    for number, one in enumerate(told):
        if one in told[:number]:
            raise ValueError(f"has {one} twice; two cases would be the same")
    return values


Listed = Annotated[tuple[Value, ...], Field(min_length=1), AfterValidator(_distinct)]
Axis = Annotated[
    Annotated[Listed, Tag("list")] | Annotated[Steps, Tag("steps")],
    Discriminator(lambda given: "steps" if isinstance(given, dict | Steps) else "list"),
]
"""The values of one factor of a grid: a list, or ``{ low, high, points, scale }``."""


class NamedCase(Table):
    """One case of its own: ``name`` is in the results, ``set`` are its settings by path."""

    name: str = Field(min_length=1)
    set: Changes = Field(default={})


class Sampled(Table):
    """Cases drawn from ranges.

    Attributes
    ----------
    samples
        Points of the design; a power of two for ``sobol``, where each costs as
        many cases as there are ranges and two more, so that indices of
        sensitivity can be found.
    ranges
        The range of each factor, by path.
    """

    samples: int = Field(ge=2)
    ranges: Annotated[dict[str, Range], BeforeValidator(_axes)] = Field(min_length=1)


class SobolSampled(Sampled):
    """Points of a scrambled Sobol sequence, in the design of Saltelli for indices of sensitivity."""

    @field_validator("samples")
    @classmethod
    def _power_of_two(cls, samples: int) -> int:
        if samples & (samples - 1):
            raise ValueError(
                f"a Sobol design is balanced at powers of two, got {samples}; "
                f"take {1 << samples.bit_length()}"
            )
        return samples


class Vary(Table):
    """What varies; designs given together are crossed.

    Attributes
    ----------
    grid
        Every combination of the values of each factor.
    zip
        Values that go together: the first of each list, then the second, and so on.
    cases
        Named cases, each with settings of its own.
    latin_hypercube
        Points that fill the ranges evenly, one factor at a time.
    sobol
        Points for indices of sensitivity.
    """

    grid: Annotated[dict[str, Axis], BeforeValidator(_axes)] = Field(default={})
    zip: Annotated[dict[str, tuple[Value, ...]], BeforeValidator(_settings)] = Field(default={})
    cases: tuple[NamedCase, ...] = ()
    latin_hypercube: Sampled | None = None
    sobol: SobolSampled | None = None

    @field_validator("grid", "zip", "cases")
    @classmethod
    def _something(cls, given: Any) -> Any:
        if not given:
            raise ValueError("is empty; name what varies, or leave it out")
        return given

    @field_validator("zip")
    @classmethod
    def _equally_long(cls, lists: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        lengths = {path: len(values) for path, values in lists.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{path} {length}" for path, length in lengths.items())
            raise ValueError(f"its lists must be equally long; they have {told}")
        if 0 in lengths.values():
            raise ValueError(f"{next(iter(lengths))} has no value; give it one at least")
        return lists

    @field_validator("cases")
    @classmethod
    def _differently_named(cls, cases: tuple[NamedCase, ...]) -> tuple[NamedCase, ...]:
        names = [one.name for one in cases]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise ValueError(f"two cases are named {short(name)}; give each a name of its own")
        return cases

    @model_validator(mode="after")
    def _anything_once(self) -> "Vary":
        places = [
            ("grid", list(self.grid)),
            ("zip", list(self.zip)),
            ("cases", list(dict.fromkeys(path for one in self.cases for path in one.set))),
            ("latin_hypercube", list(self.latin_hypercube.ranges) if self.latin_hypercube else []),
            ("sobol", list(self.sobol.ranges) if self.sobol else []),
        ]
        seen: dict[str, str] = {}
        for place, paths in places:
            for path in paths:
                if path in seen:
                    raise ValueError(
                        f"{path} is varied by {seen[path]} and by {place}; name it in one of them"
                    )
                seen[path] = place
        return self


Replicate = Literal["seed", "radio.seed"]


class Target(NamedTuple):
    """How narrow the interval of every case must be: its half-width, in shares of the mean or in units."""

    half_width: float
    is_relative: bool


AnyMeasure = Annotated[Measure, OneOf(Measure)]
Asked = Annotated[AnyMeasure, BeforeValidator(from_text, json_schema_input_type=str | AnyMeasure)]
"""A measure, or its name."""


class Study(Table):
    """A study in full.

    Attributes
    ----------
    name, description
        What it is called, after its file without it, and what it asks.
    base
        The scenario every case begins with; counts from the study file.
    paths_from
        The folder that relative paths among settings count from; that of the study
        file without it.
    seed
        Replication ``i`` of every case, counted from 0, has this seed plus
        ``i``; the base's without it. See ``replicate``.
    timing_only
        Compute no tensor.
    engine
        ``events`` plays each run by the event kernel. ``tensor`` plays one of those that differ in radio
        and allocator alone, and evaluates the others by the tensor clock, to the same results; where it
        cannot promise that, the study is refused. ``auto`` does so where it can and there are several.
    replicate
        What replications differ in: ``seed``, everything drawn is drawn again; ``radio.seed``, the air
        alone, so that one training meets all of them.
    replications
        Runs of each case, at least; 2 or more where there is to be an interval.
    until
        ``"half-width <= 2 %"`` of the mean, or ``"half-width <= 0.5"`` in the unit
        of the first measure: replications are added to all cases until the
        interval of each is so narrow.
    max_replications
        No more than these, however wide intervals are.
    confidence, interval
        How sure an interval is to hold the mean, and how it is found: Student's
        t, or bootstrap.
    measures
        What each run is asked for: kinds of :class:`Measure`, or names of metrics.
    baseline
        What cases are compared with: the name of a case, or settings, and then
        each case is compared with the one that has these and is otherwise the same.
    set
        What differs from the base in every case.
    vary
        What varies.
    """

    name: FolderName
    description: str = ""
    base: Path
    paths_from: Path | None = None
    seed: int | None = Field(default=None, ge=0)
    timing_only: bool = False
    engine: EngineName = "auto"
    replicate: Replicate = "seed"
    replications: int = Field(default=3, ge=1, le=100_000)
    until: str | None = None
    max_replications: int = Field(default=30, ge=1, le=100_000)
    confidence: float = Field(default=0.95, gt=0.0, lt=1.0)
    interval: Literal["t", "bootstrap"] = "t"
    measures: tuple[Asked, ...] = Field(default=(TotalS(),), min_length=1)
    baseline: str | Changes | None = None
    set: Changes = Field(default={})
    vary: Vary = Vary()

    @property
    def target(self) -> Target | None:
        """How narrow intervals must be before no replications are added; None where none ever are."""
        return None if self.until is None else _target(self.until)

    @field_validator("until")
    @classmethod
    def _readable(cls, until: str | None) -> str | None:
        if until is not None:
            _target(until)
        return until

    @field_validator("measures")
    @classmethod
    def _each_once(cls, measures: tuple[Measure, ...]) -> tuple[Measure, ...]:
        names = [one.name for one in measures]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise ValueError(f"{short(name)} is asked for twice; leave one out")
        return measures

    @model_validator(mode="after")
    def _check(self) -> "Study":
        if self.until is not None and self.max_replications <= self.replications:
            raise ValueError(
                f"max_replications: {self.max_replications} leaves no room for until; take more than "
                f"{self.replications}"
            )
        learned = [one.name for one in self.measures if one.learned]
        if self.timing_only and learned:
            raise ValueError(
                f"measures: {learned[0]!r} depends on what is learned, and timing_only learns nothing; "
                "leave one of them out"
            )
        return self


def _target(until: str) -> Target:
    found = _UNTIL.fullmatch(until.strip())
    if found is None:
        raise ValueError(f'must be such as "half-width <= 2 %" or "half-width <= 0.5", got {short(until)}')
    limit = float(found["limit"])
    if not 0.0 < limit < float("inf"):
        raise ValueError(f"the half-width must be above 0, got {short(until)}")
    return Target(limit / 100.0 if found["percent"] else limit, bool(found["percent"]))
