"""A study folder read back."""

import csv
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cosim.errors import RecordError
from cosim.record.digests import read_table
from cosim.record.manifest import read_study
from cosim.report.study.factors import Factor, Group, case_labels, factors_of, is_sampled
from cosim.statistics.interval import Interval, Method, interval
from cosim.units import Floats

_FORMAT = 1
_NO_FACTORS = ("case", "replication", "seed", "measure", "value")


@dataclass(frozen=True, eq=False)
class StudyRecord:
    """All that a study found.

    Attributes
    ----------
    path, manifest
        The folder, and its ``manifest.json``.
    cases, labels
        Names of the cases that have results, and what to call them in a picture.
    factors
        What varies among them.
    measures
        What was measured, in the order of the results.
    replications, seeds
        Numbers of all replications, rising, and the seed of each.
    values
        For each measure its values, shape (num_cases, num_replications); nan
        where there was no such run, inf where the run has no such number
        (a target was not reached).
    baselines
        For each case the number of the one it is compared with; None for itself or none.
    roles
        For each case its part and its row in a Sobol design; the part is empty in other designs.
    units, better
        For each measure its unit, and ``less``, ``more`` or ``neither``.
    summary
        Rows of ``summary.csv`` by (case, measure); numbers are numbers, what is empty is None.
    """

    path: Path
    manifest: Mapping[str, Any]
    cases: tuple[str, ...]
    labels: tuple[str, ...]
    factors: tuple[Factor, ...]
    measures: tuple[str, ...]
    replications: tuple[int, ...]
    seeds: tuple[int, ...]
    values: Mapping[str, Floats]
    baselines: tuple[int | None, ...]
    roles: tuple[tuple[str, int], ...]
    units: Mapping[str, str]
    better: Mapping[str, str]
    summary: Mapping[tuple[str, str], Mapping[str, Any]]

    @classmethod
    def open(cls, path: Path) -> "StudyRecord":
        """Return the study in a folder.

        Raises
        ------
        RecordError
            If the folder is no study, or one that has no results yet.
        """
        manifest = read_study(path, format_=_FORMAT)
        results = table_of(path, "results")
        columns = {name: results[name].to_pylist() for name in results.column_names}
        if not columns.get("case"):
            raise RecordError(f"{path}/results.parquet: has no row yet; go on with the study first.")
        cases, measures = (tuple(dict.fromkeys(columns[name])) for name in ("case", "measure"))
        first = {case: row for row, case in reversed(list(enumerate(columns["case"])))}
        settings = {
            name: [_plain(values[first[case]]) for case in cases]
            for name, values in columns.items()
            if name not in _NO_FACTORS
        }
        known = {one.get("name"): one for one in manifest.get("cases", ())}
        told = [known.get(case, {}) for case in cases]
        factors = factors_of(settings, _groups(_file(path), cases, told))
        seeds = dict(zip(columns["replication"], columns["seed"], strict=True))
        replications = tuple(sorted(seeds))
        number = {case: at for at, case in enumerate(cases)}
        asked = {one.get("name"): one for one in manifest.get("measures", ())}
        return cls(
            path=path,
            manifest=manifest,
            cases=cases,
            labels=cases if any(one.get("role") for one in told) else case_labels(cases, factors),
            factors=factors,
            measures=measures,
            replications=replications,
            seeds=tuple(seeds[one] for one in replications),
            values=_values(columns, cases, measures, replications),
            baselines=tuple(
                number.get(one.get("baseline")) if one.get("baseline") != case else None
                for case, one in zip(cases, told, strict=True)
            ),
            roles=tuple((str(one.get("role") or ""), int(one.get("row", -1))) for one in told),
            units={name: str(asked.get(name, {}).get("unit", "")) for name in measures},
            better={name: str(asked.get(name, {}).get("better", "neither")) for name in measures},
            summary=_summary(path / "summary.csv"),
        )

    @property
    def is_sampled(self) -> bool:
        """Whether the cases were drawn over ranges."""
        return any(role for role, _ in self.roles) or is_sampled(self.factors)

    @property
    def compared_with(self) -> tuple[int, ...]:
        """The cases others are compared with, by number."""
        return tuple(dict.fromkeys(one for one in self.baselines if one is not None))

    @property
    def method(self) -> Method:
        """How intervals are found."""
        return "bootstrap" if self.manifest.get("interval") == "bootstrap" else "t"

    @property
    def confidence(self) -> float:
        """Of the intervals."""
        return float(self.manifest.get("confidence", 0.95))

    @property
    def seed(self) -> int:
        """Of the first replication, and of resamples."""
        return self.seeds[0]

    @property
    def settings(self) -> Mapping[str, Any]:
        """The study's own file, as far as it can be read."""
        return _file(self.path)

    def folder(self, case: int) -> Path:
        """Where the runs of a case are."""
        told = {one.get("name"): one for one in self.manifest.get("cases", ())}
        return self.path / "runs" / str(told.get(self.cases[case], {}).get("folder", self.cases[case]))

    def interval(self, values: Floats) -> Interval:
        """Return mean and interval over the last axis, as the study finds them."""
        return interval(values, method=self.method, confidence=self.confidence, seed=self.seed)

    def complete(self, measure: str) -> Floats | None:
        """Return the values of the replications that every case has, shape (num_cases, at least 1).

        None where a target was missed in one of them, or no replication is in all cases.
        """
        values = self.values[measure]
        shared = values[:, ~np.isnan(values).any(axis=0)]
        return shared if shared.shape[1] and np.isfinite(shared).all() else None


def table_of(path: Path, name: str) -> Any:
    """Return a table of a study folder.

    Raises
    ------
    RecordError
        If it is not there or cannot be read.
    """
    try:
        return read_table(path / f"{name}.parquet")
    except FileNotFoundError:
        raise RecordError(f"{path}: has no {name}.parquet yet; go on with the study first.") from None


def _file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((path / "study.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _groups(
    study: Mapping[str, Any], cases: tuple[str, ...], told: Sequence[Mapping[str, Any]]
) -> tuple[Group, ...]:
    """Return which settings the study varies as one: those zipped, and those of cases it names."""
    vary = study.get("vary", {})
    groups = [Group(tuple(vary["zip"]))] if vary.get("zip") else []
    named = vary.get("cases", ())
    paths = tuple(dict.fromkeys(path for one in named for path in one.get("set", {})))
    if not paths:
        return tuple(groups)
    names = [
        next(
            (
                one["name"]
                for one in named
                if one["name"] in case and _has(settings, one.get("set", {}), paths)
            ),
            "",
        )
        for case, settings in zip(cases, (one.get("settings", {}) for one in told), strict=True)
    ]
    label = "case" if len(paths) > 1 else ""
    return (*groups, Group(paths, label, tuple(names) if all(names) else ()))


def _has(settings: Mapping[str, Any], wanted: Mapping[str, Any], paths: tuple[str, ...]) -> bool:
    """Return whether a case has the settings of a named one, and no more of its kind."""
    return all(settings.get(path) == wanted.get(path) for path in paths)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _values(
    columns: Mapping[str, list[Any]],
    cases: tuple[str, ...],
    measures: tuple[str, ...],
    replications: tuple[int, ...],
) -> dict[str, Floats]:
    found = {measure: np.full((len(cases), len(replications)), np.nan) for measure in measures}
    row = {case: at for at, case in enumerate(cases)}
    column = {one: at for at, one in enumerate(replications)}
    names = ("case", "replication", "measure", "value")
    for case, replication, measure, value in zip(*(columns[name] for name in names), strict=True):
        missed = value is None or value != value
        found[measure][row[case], column[replication]] = np.inf if missed else value
    return found


def _summary(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {
            (row["case"], row["measure"]): {key: _read(text) for key, text in row.items()} for row in rows
        }
    except (OSError, KeyError, ValueError) as fault:
        raise RecordError(f"{path}: cannot be read: {fault}.") from None


def _read(text: str) -> Any:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text
