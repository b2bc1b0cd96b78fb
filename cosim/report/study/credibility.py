"""Why a study may be believed, and how far: what a careful reader asks before the first number."""

import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cosim.report.quantities import count
from cosim.report.study.labels import measure_label
from cosim.report.study.record import StudyRecord
from cosim.report.study.unlike import switch_lines
from cosim.statistics.interval import METHODS

_LINKS = ("main_uplink", "main_downlink", "federated_uplink", "federated_downlink")
_LEAST_TO_RESAMPLE = 10
_MOST_DIVERGED = 8
_STREAMS = (
    "every stream of chance is keyed by seed and name (Philox), so replication i meets the same placement, "
    "air, data and initial weights in every case"
)


def credibility(record: StudyRecord, measures: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the box as (what, told) rows, and the runs that failed or diverged."""
    failed, diverged = _listed(record, "failed"), _listed(record, "diverged")
    rows = [
        ("cases", _cases(record, failed)),
        ("other kinds", switch_lines(record.manifest)),
        ("diverged", _diverged(record, diverged)),
        ("replications", _replications(record)),
        ("common random numbers", _STREAMS),
        ("pairs", _pairs(measures)),
        ("intervals", _intervals(record, measures)),
        ("stopping", _stopping(record)),
        ("targets missed", _missed(record, len(diverged))),
        ("assumptions", _assumptions(record)),
        ("versions", _versions(record.manifest)),
    ]
    return {
        "credibility": [[what, told] for what, told in rows if told],
        "failed": failed,
        "diverged": diverged,
    }


def _cases(record: StudyRecord, failed: list[dict[str, str]]) -> str:
    base = record.settings.get("base")
    told = count(len(record.cases)) + (f" of {Path(base).name}" if base else "")
    against = [record.labels[one] for one in record.compared_with]
    if len(against) == 1:
        told += f"; each compared with {against[0]}"
    elif against:
        told += f"; each compared with the one of {len(against)} baselines that is otherwise the same"
    if failed:
        told += f"; {len(failed)} run(s) failed and are in no number"
    status = record.manifest.get("status")
    return told if status == "complete" else f"{told}; the study is {status}, these are its results so far"


def _replications(record: StudyRecord) -> str:
    numbers = [
        int(np.sum(~np.isnan(record.values[record.measures[0]][row]))) for row in range(len(record.cases))
    ]
    each = str(numbers[0]) if len(set(numbers)) == 1 else f"{min(numbers)} to {max(numbers)}"
    seeds = list(record.seeds)
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        told = f"{seeds[0]} to {seeds[-1]}"
    else:
        told = ", ".join(map(str, seeds[:8])) + (f" and {len(seeds) - 8} more" if len(seeds) > 8 else "")
    return f"{each} of each case, seeds {told}"


def _pairs(measures: list[dict[str, Any]]) -> str:
    """Return what the pairs were worth, as measured: the median over the cases of each measure."""
    told = []
    for one in measures:
        factors = [row["variance_reduction"] for row in one["cases"] if row["variance_reduction"] is not None]
        if one["differs"] and factors:
            middle = float(np.median(factors))
            shown = f"{middle:.3g}" if np.isfinite(middle) else "∞"
            told.append(f"{shown} times as large for {one['label']}")
    if not told:
        return ""
    return (
        "differences are paired by replication; without pairs their variance would have been "
        f"{', '.join(told)} (median over cases)"
    )


def _intervals(record: StudyRecord, measures: list[dict[str, Any]]) -> str:
    level = f"{100 * record.confidence:g} %"
    told = f"{level}, {METHODS[record.method]}, over replications, each by itself"
    if record.method != "t":
        told += f"; resamples from seed {record.seed}"
        if len(record.replications) < _LEAST_TO_RESAMPLE:
            told += (
                f"; from fewer than {_LEAST_TO_RESAMPLE} replications they are too narrow, Student's t is not"
            )
    compared = sum(
        row["detectable"] in ("yes", "no") for one in measures if one["differs"] for row in one["cases"]
    )
    if not compared:
        return told
    by_chance = (1.0 - record.confidence) * compared
    return f"{told}: of {compared} comparisons about {by_chance:.1f} would exclude zero by chance alone"


def _stopping(record: StudyRecord) -> str:
    rule = record.settings.get("until")
    if not rule:
        return "the number of replications was fixed beforehand"
    met = record.manifest.get("tight")
    ended = "" if met is None else "; met" if met else "; not met in every case when the cap was reached"
    return (
        f"until {rule} of {measure_label(record.measures[0], record.units[record.measures[0]])}{ended}; "
        "stopping at a narrow interval makes it hold a little less often than stated (94 % for 95 %)"
    )


def _diverged(record: StudyRecord, diverged: list[dict[str, str]]) -> str:
    """Return which trainings diverged, case by case."""
    if not diverged:
        return ""
    label = dict(zip(record.cases, record.labels, strict=True))
    of_case = Counter(one["case"] for one in diverged)
    num_runs = len(record.replications)
    told = [f"{label.get(case, case)} in {number} of {num_runs}" for case, number in of_case.items()]
    if len(told) > _MOST_DIVERGED:
        told[_MOST_DIVERGED:] = [f"and {len(told) - _MOST_DIVERGED} more case(s)"]
    return f"{len(diverged)} training(s) diverged and have no number: {', '.join(told)}"


def _missed(record: StudyRecord, num_diverged: int) -> str:
    told = []
    for measure in record.measures:
        values = record.values[measure]
        missed = int(np.isinf(values).sum()) - num_diverged
        ran = int((~np.isnan(values)).sum()) - num_diverged
        if missed > 0:
            told.append(f"{measure_label(measure, record.units[measure])} in {missed} of {ran} runs")
    return f"{'; '.join(told)}: left out of means, told apart, never averaged" if told else ""


def _listed(record: StudyRecord, what: str) -> list[dict[str, str]]:
    return [
        {name: str(one.get(name, "")) for name in ("case", "replication", "reason")}
        for one in record.manifest.get(what, ())
        if isinstance(one, Mapping)
    ]


def _assumptions(record: StudyRecord) -> str:
    """Return what the base scenario takes for granted, where no factor changes it."""
    scenario = _scenario(record)
    if not scenario:
        return ""
    radio = scenario.get("radio", {})
    varied = {path for factor in record.factors for path in factor.paths}

    def kind(*names: str) -> str:
        here: Any = scenario
        for name in names:
            here = here.get(name, {}) if isinstance(here, Mapping) else {}
        path = ".".join(names)
        if any(one == path or one.startswith(f"{path}.kind") for one in varied):
            return "varied"
        return str(here.get("kind", "")).replace("_", " ") if isinstance(here, Mapping) else ""

    free = [name.replace("_", " ") for name in _LINKS if not radio.get(name, {}).get("modelled", True)]
    parts = [
        f"scheme {kind('scheme')}",
        f"allocator {kind('allocator')}",
        *(
            f"{name.replace('_', ' ')} {kind('radio', name)}"
            for name in (
                *("base_stations", "mobility", "path_loss", "shadowing", "fading"),
                *("surface", "interference", "rate", "medium"),
            )
        ),
        f"free: {', '.join(free)}" if free else "",
        "computing takes FLOP over FLOP/s, in simulated time only",
    ]
    return "; ".join(part for part in parts if part and not part.endswith(" "))


def _scenario(record: StudyRecord) -> dict[str, Any]:
    """Return the scenario of any run that is there, a baseline's if it is."""
    for case in (*record.compared_with, *range(len(record.cases))):
        for path in sorted(record.folder(case).glob("*/scenario.toml")):
            try:
                return tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
    return {}


def _versions(manifest: Mapping[str, Any]) -> str:
    versions = manifest.get("versions", {})
    told = [f"{name} {number}" for name, number in versions.items()] if isinstance(versions, Mapping) else []
    commit, mark, edited = str(manifest.get("commit") or "").partition("+")
    return ", ".join([*told, *([f"commit {commit[:12]}{mark}{edited}"] if commit else [])])
