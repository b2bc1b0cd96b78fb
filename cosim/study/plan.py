"""The plan: every case of a study as a scenario, checked, and which runs it takes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from re import sub
from typing import Any

from cosim.errors import CosimError, ScenarioError
from cosim.scenario.faults import did_you_mean
from cosim.scenario.inputs import digests
from cosim.scenario.load import change, load, run_hash, to_dict
from cosim.scenario.settings import Scenario
from cosim.study.design import Point, factors, num_points, points
from cosim.study.paths import Settings, at
from cosim.study.settings import Study

MOST_RUNS = 10_000
"""More runs than these are only made if the user says so."""

_MOST_FAULTS = 20
_SLUG_LENGTH = 60
_DECIDE_NO_VALUE = (
    *("name", "description", "seed", "main_server", "federated_server"),
    *("radio", "allocator", "events"),
)


@dataclass(frozen=True)
class Case:
    """One case of a study.

    Attributes
    ----------
    name
        What it is called; no two have one.
    settings
        What differs from the base, by path.
    scenario
        What its first replication plays.
    folder
        Where its runs are, below ``runs``; hangs on its settings, so that what was
        run is found again when the study is given other cases.
    baseline
        The case it is compared with, by name.
    role, row
        Its part in a Sobol design.
    inputs
        Hashes of the files that its scenario names, by setting.
    """

    name: str
    settings: Settings
    scenario: Scenario
    folder: str
    baseline: str | None = None
    role: str = ""
    row: int = -1
    inputs: Mapping[str, str] = field(default_factory=dict)

    def replication(self, number: int) -> Scenario:
        """Return what a replication plays: the same under another seed."""
        return self.scenario.model_copy(update={"seed": self.scenario.seed + number})


@dataclass(frozen=True)
class Plan:
    """A study whose cases are made.

    Attributes
    ----------
    study
        As the file has it.
    factors
        Paths of the settings that vary.
    cases
        In the order of the file.
    """

    study: Study
    factors: tuple[str, ...]
    cases: tuple[Case, ...]

    @property
    def seed(self) -> int:
        """The seed of the first replication."""
        return self.cases[0].scenario.seed

    @cached_property
    def key(self) -> str:
        """A hash, hex, of all cases and all that is asked of them."""
        words = [self.study.model_dump(mode="json"), [(case.name, case.folder) for case in self.cases]]
        return blake2b(repr(words).encode(), digest_size=16).hexdigest()

    def factor(self, case: Case, path: str) -> Any:
        """Return a factor's value in a case: what it sets, or what the base has."""
        if path in case.settings:
            return case.settings[path]
        return at(self._written[case.name], path)

    @cached_property
    def _written(self) -> dict[str, dict[str, Any]]:
        return {case.name: to_dict(case.scenario) for case in self.cases}


def make_plan(study: Study, *, seed: int | None = None, yes: bool = False) -> Plan:
    """Return the cases of a study, each checked as a scenario file would be.

    Parameters
    ----------
    study
        What to plan.
    seed
        Another seed than the study's or the base's for the first replication.
    yes
        Whether any number of runs is meant.

    Raises
    ------
    ScenarioError
        If the base or a case is at fault, a case is named twice, the baseline is
        none, or there are very many runs. Each fault is told once.
    """
    num_runs = num_points(study.vary) * study.replications
    if num_runs > MOST_RUNS and not yes:
        raise ScenarioError(
            f"{study.name}: {_grouped(num_points(study.vary))} cases of {study.replications} replication(s) "
            f"are {_grouped(num_runs)} runs, more than {_grouped(MOST_RUNS)}; "
            "give cosim study the option --yes if that is meant."
        )
    base = load(study.base)
    first_seed = next(one for one in (seed, study.seed, base.seed) if one is not None)
    _refuse_reserved(study)
    base = change(base, study.set, first_seed, f"{study.name}: set", study.paths_from)
    paths = tuple(factors(study.vary))
    drawn = list(points(study.vary, first_seed))
    _refuse_same_names(study, drawn)
    cases = list(_cases(study, base, drawn))
    return Plan(study, paths, tuple(_with_baselines(study, paths, cases)))


def training_key(scenario: Scenario, timing_only: bool) -> str:
    """Return a hash, hex, of what most likely decides a training: runs that share it share their values.

    A guess for the order of work only. What is shared in truth is decided value
    by value, by their keys.
    """
    if timing_only:
        return ""
    written = {name: value for name, value in to_dict(scenario).items() if name not in _DECIDE_NO_VALUE}
    written["seed"] = scenario.seed
    written["clients"] = scenario.num_clients
    return blake2b(repr(written).encode(), digest_size=16).hexdigest()


def _refuse_reserved(study: Study) -> None:
    for path in (*study.set, *factors(study.vary)):
        if path == "seed":
            raise ScenarioError(
                f"{study.name}: seed: is what replications differ in; set how many with replications, "
                "and the first of them with seed at the head of the study."
            )
        if path in ("name", "description"):
            raise ScenarioError(f"{study.name}: {path}: changes nothing of a run; leave it out.")


def _refuse_same_names(study: Study, drawn: list[Point]) -> None:
    seen: set[str] = set()
    for one in drawn:
        if one.name in seen:
            raise ScenarioError(
                f"{study.name}: vary: two cases are named {one.name!r}; give each a name of its own."
            )
        seen.add(one.name)


def _cases(study: Study, base: Scenario, drawn: list[Point]) -> Iterator[Case]:
    """Make every case; faults are collected over all of them, each told once."""
    found: dict[str, None] = {}
    for one in drawn:
        try:
            scenario = change(base, one.settings, None, f"{study.name}: vary", study.paths_from)
        except CosimError as fault:
            found.update(dict.fromkeys(str(fault).splitlines()))
            if len(found) >= _MOST_FAULTS:
                break
            continue
        yield Case(
            one.name,
            one.settings,
            scenario,
            _folder(one.name, scenario),
            role=one.role,
            row=one.row,
            inputs=digests(scenario),
        )
    if found:
        raise ScenarioError("\n".join(list(found)[:_MOST_FAULTS]))


def _folder(name: str, scenario: Scenario) -> str:
    """Return a name every file system takes, that says what is in it and hangs on all of its settings."""
    slug = sub(r"[^A-Za-z0-9.=+-]+", "_", name)[:_SLUG_LENGTH].strip("._")
    return f"{slug}-{run_hash(scenario)[:10]}"


def _with_baselines(study: Study, paths: tuple[str, ...], cases: list[Case]) -> Iterator[Case]:
    baseline = study.baseline
    if baseline is None:
        yield from cases
        return
    names = [case.name for case in cases]
    if isinstance(baseline, str):
        if baseline not in names:
            raise ScenarioError(
                f"{study.name}: baseline: no case is named {baseline!r}; "
                f"there are {_some(names)}{did_you_mean(baseline, names)}."
            )
        yield from (replace(case, baseline=baseline) for case in cases)
        return
    for path in baseline:
        if path not in paths:
            raise ScenarioError(
                f"{study.name}: baseline: {path} does not vary{did_you_mean(path, paths)}; "
                f"what varies is {', '.join(paths) or 'nothing'}."
            )
    by_factors = {_key(case.settings, paths): case.name for case in cases}
    for case in cases:
        other = by_factors.get(_key(case.settings | baseline, paths))
        if other is None:
            told = ", ".join(f"{path} = {value!r}" for path, value in baseline.items())
            raise ScenarioError(
                f"{study.name}: baseline: no case has {told} and is otherwise like {case.name!r}; "
                "name values that are among those varied, or one case by its name."
            )
        yield replace(case, baseline=other)


def _key(settings: Mapping[str, Any], paths: tuple[str, ...]) -> tuple[Any, ...]:
    """Return what tells a case from others; 5 and 5.0 are one value."""
    values = (settings.get(path) for path in paths)
    return tuple(repr(float(one) if type(one) is int else one) for one in values)


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def run_folder(study_folder: Path, case: Case, replication: int) -> Path:
    """Return the folder of one run."""
    return study_folder / "runs" / case.folder / str(replication)
