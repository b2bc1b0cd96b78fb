"""The plan: every case of a study as a scenario, checked, and which runs it takes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from re import sub
from typing import Any

from cosim.errors import CosimError, ScenarioError
from cosim.leaves import is_asked, named, written_long
from cosim.scenario.differences import Switch, has_setting, written_switches
from cosim.scenario.faults import did_you_mean
from cosim.scenario.inputs import digests
from cosim.scenario.load import change, load, run_hash, to_dict
from cosim.scenario.settings import Scenario
from cosim.studies.design import Point, factors, num_points, points
from cosim.studies.paths import Settings, at
from cosim.studies.settings import Replicate, Study
from cosim.studies.unvaried import Unvaried, unvaried
from cosim.words import short, shown

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
        Where its runs are, below ``runs``; depends on its settings, so that what was
        run is found again when the study is given other cases.
    baseline
        The case it is compared with, by name.
    role, row
        Its part in a Sobol design.
    inputs
        Hashes of the files that its scenario names, by setting.
    replicate
        The seed in which its replications differ.
    """

    name: str
    settings: Settings
    scenario: Scenario
    folder: str
    baseline: str | None = None
    role: str = ""
    row: int = -1
    inputs: Mapping[str, str] = field(default_factory=dict)
    replicate: Replicate = "seed"

    def replication(self, number: int) -> Scenario:
        """Return what a replication plays: the same under another seed, of all or of the air alone."""
        scenario, radio = self.scenario, self.scenario.radio
        if self.replicate == "seed" and number == 0:
            return scenario
        if self.replicate == "seed":
            return scenario.model_copy(update={"seed": scenario.seed + number})
        other = radio.model_copy(update={"seed": radio.air_seed(scenario.seed) + number})
        return scenario.model_copy(update={"radio": other})


@dataclass(frozen=True)
class Plan:
    """A study whose cases are made.

    Attributes
    ----------
    study
        As the file has it.
    base
        The scenario every case begins with, ``set`` included.
    factors
        Paths of the settings that vary.
    cases
        In the order of the file.
    """

    study: Study
    base: Scenario
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
        """Return a factor's value in a case: what it sets, or what the base has; None for no such setting.

        A setting that the case leaves out has its default, or where that is none says so.
        """
        given = case.settings.get(path)
        value = at(self._written[case.name], path) if given is None else given
        return shown(None) if value is None and path in case.settings else value

    @cached_property
    def switches(self) -> tuple[Switch, ...]:
        """What other kinds made of the base's tables, each once, however many cases it is in."""
        if not self._chooses_kinds:
            return ()
        base, found = to_dict(self.base), dict[str, Switch]()
        for case in self.cases:
            written = self._written[case.name]
            asked = [*named(case.settings), *_taken(self.study, written)]
            found.update((str(one), one) for one in written_switches(base, written, asked))
        return tuple(found.values())

    @cached_property
    def unvaried(self) -> tuple[Unvaried, ...]:
        """The settings in which cases differ though nobody varied them; those left at defaults last."""
        if not self._chooses_kinds:
            return ()
        asked = dict.fromkeys(path for case in self.cases for path in named(case.settings))
        written = self._written
        if any("trainable" in one for one in written.values()):
            written = {name: written_long(one) for name, one in written.items()}
        return unvaried(written, tuple(asked))

    @property
    def _chooses_kinds(self) -> bool:
        """Whether cases have kinds of their own; only then can they differ in what nobody varied."""
        return any(path.endswith(".kind") for case in self.cases for path in named(case.settings))

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
        none, or there are very many runs. Each fault is reported once.
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
    base = base.model_copy(update={"seed": first_seed})
    paths = tuple(factors(study.vary))
    drawn = list(points(study.vary, first_seed))
    _refuse_same_names(study, drawn)
    with_set = _with_set(study, base)
    cases = list(_cases(study, base, drawn))
    _refuse_unused(study, cases)
    refuse_measures(study, (case.scenario for case in cases))
    return Plan(study, with_set, paths, tuple(_with_baselines(study, paths, cases)))


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


def refuse_measures(study: Study, scenarios: Iterable[Scenario]) -> None:
    """Refuse a measure of a task that a scenario does not have, or that does not say of which it is."""
    every = tuple(scenarios)
    for measure in study.measures:
        for scenario in every:
            why = measure.misfit(tuple(scenario.tasks))
            if why is not None:
                raise ScenarioError(f"{study.name}: measures: {measure.name}: {why}.")


def _refuse_same_names(study: Study, drawn: list[Point]) -> None:
    seen: set[str] = set()
    for one in drawn:
        if one.name in seen:
            raise ScenarioError(
                f"{study.name}: vary: two cases are named {short(one.name)}; give each a name of its own."
            )
        seen.add(one.name)


def _cases(study: Study, base: Scenario, drawn: list[Point]) -> Iterator[Case]:
    """Make every case; faults are collected over all of them, each told once."""
    found: dict[str, None] = {}
    for one in drawn:
        try:
            source = f"{study.name}: vary"
            scenario = change(base, one.settings, None, source, study.paths_from, study.set)
        except CosimError as fault:
            found.update(dict.fromkeys(_placed(study, line) for line in str(fault).splitlines()))
            if len(found) >= _MOST_FAULTS:
                break
            continue
        yield Case(
            one.name,
            one.settings,
            scenario,
            folder_name(one.name, scenario),
            role=one.role,
            row=one.row,
            inputs=digests(scenario),
            replicate=study.replicate,
        )
    if found:
        raise ScenarioError("\n".join(list(found)[:_MOST_FAULTS]))


def _placed(study: Study, line: str) -> str:
    """Return a fault of a case with the table of the study that it comes from."""
    source = f"{study.name}: vary"
    is_set, is_varied = _named_by(study, line.removeprefix(source))
    return line.replace(source, f"{study.name}: set", 1) if is_set and not is_varied else line


def _named_by(study: Study, line: str) -> tuple[bool, bool]:
    """Return whether the setting a fault is about is one of ``set``, and whether it is varied."""
    path = line.lstrip(": ").partition(":")[0]
    is_set = any(path == one or path.startswith(f"{one}.") for one in named(study.set))
    return is_set, is_asked(path, factors(study.vary))


def _with_set(study: Study, base: Scenario) -> Scenario:
    """Return the base with what ``set`` changes of it.

    Only values that no case uses, as all of them vary the setting, are refused
    here; whether the others go with the rest is for the cases to say.
    """
    source = f"{study.name}: set"
    try:
        return change(base, {}, None, source, study.paths_from, study.set)
    except ScenarioError as fault:
        lines = [line for line in str(fault).splitlines() if all(_named_by(study, line.removeprefix(source)))]
        if lines:
            raise ScenarioError("\n".join(lines)) from None
        return base


def _taken(study: Study, written: Mapping[str, Any]) -> list[str]:
    """Return the settings of ``set`` that the kinds of a case have."""
    return [path for path in named(study.set) if has_setting(written, path)]


def _refuse_unused(study: Study, cases: list[Case]) -> None:
    """Refuse settings of ``set`` that no case has."""
    left = dict.fromkeys(named(study.set))
    for case in cases:
        if not left:
            return
        for path in _taken(study, to_dict(case.scenario)):
            left.pop(path, None)
    if left:
        told = (f"{study.name}: set: {path}: no case has such a setting; leave it out." for path in left)
        raise ScenarioError("\n".join(told))


def folder_name(name: str, scenario: Scenario) -> str:
    """Return a name every file system takes, that says what is in it and depends on all of its settings."""
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
                f"{study.name}: baseline: no case is named {short(baseline)}; "
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
            told = ", ".join(
                f"{path} = {shown(None) if value is None else short(value)}"
                for path, value in baseline.items()
            )
            raise ScenarioError(
                f"{study.name}: baseline: no case has {told} and is otherwise like {short(case.name)}; "
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
