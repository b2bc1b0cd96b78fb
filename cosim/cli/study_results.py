"""What came of a study, on the terminal."""

import sys
from collections.abc import Iterator, Mapping
from math import isnan
from typing import TYPE_CHECKING, Any

from cosim.report.quantities import count
from cosim.studies.results import Results
from cosim.visible import show_line as print  # names may come from anybody

if TYPE_CHECKING:
    from rich.console import Console

    from cosim.report.study.record import StudyRecord

_MOST_CASES = 24
_MOST_FACTORS = 4


def show_results(results: Results) -> None:
    """Print each case's interval of the first measure, and what differs from its baseline."""
    import csv

    from cosim.report.study.record import StudyRecord
    from cosim.report.study.unlike import unvaried_lines
    from cosim.report.terminal import on_stdout, say

    with (results.path / "summary.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    manifest = results.manifest
    for one in manifest["measures"]:
        if rows and all(not row["mean"] for row in rows if row["measure"] == one["name"]):
            print(f"warning: measures: no run has a value for {one['name']!r}.", file=sys.stderr)
    first = manifest["measures"][0]
    told = [row for row in rows if row["measure"] == first["name"]]
    console = on_stdout()
    unit = f", {first['unit']}" if first["unit"] else ""
    sure = f"{100 * manifest['confidence']:g} %"
    over = f"{sure} intervals over {manifest['replications']} runs"
    say(console, f"{manifest['name']}: {first['name']}{unit}, {over}")
    record = StudyRecord.open(results.path)
    for line in unvaried_lines(manifest):
        say(console, line)
    if record.is_sampled:
        for line in _ranked(record, first["name"]):
            say(console, line)
    else:
        _show_cases(record, told, console)
    if manifest["tight"] is False:
        asked = f"wider than asked for ({manifest['until']})"
        say(console, f"intervals are still {asked}; max_replications allows no more")


def _show_cases(record: "StudyRecord", told: list[dict[str, str]], console: "Console") -> None:
    """Print a table of the first cases: mean, interval and what differs from the baseline."""
    from cosim.report.terminal import say, table_of

    is_compared = any(row["baseline"] for row in told)
    named = _columns(record)
    table = table_of(
        *((heading, "left") for heading in named),
        *(("mean", "right"), ("interval", "right")),
        *([("against baseline", "right"), ("detectable", "left")] if is_compared else []),
    )
    for row in told[:_MOST_CASES]:
        cells = [levels[row["case"]] for levels in named.values()]
        cells += [_short(row["mean"]), _between(row["low"], row["high"])]
        table.add_row(*cells, *([_change(row), row["detectable"]] if is_compared else []))
    console.print(table)
    if len(told) > _MOST_CASES:
        say(console, f"and {count(len(told) - _MOST_CASES)} more case(s); summary.csv has all of them")


def _columns(record: "StudyRecord") -> dict[str, dict[str, str]]:
    """Return what tells cases apart, heading to entries: levels where these do, else names."""
    factors = record.factors
    levels = [tuple(one.level_labels[one.level[row]] for one in factors) for row in range(len(record.cases))]
    headings = {one.label for one in factors}
    is_told = 0 < len(headings) == len(factors) <= _MOST_FACTORS and len(set(levels)) == len(levels)
    if not is_told:
        return {"case": {name: name for name in record.cases}}
    return {
        one.label: {case: levels[row][at] for row, case in enumerate(record.cases)}
        for at, one in enumerate(factors)
    }


def _ranked(record: "StudyRecord", measure: str) -> Iterator[str]:
    """Return what to say of cases drawn from ranges: their ranges, and which settings it depends on."""
    from cosim.report.study.findings import findings

    found = findings(record, measure)
    means = sorted(
        (row["mean"], name) for row, name in zip(found["cases"], record.cases, strict=True) if row["n"]
    )
    for which, (mean, name) in (("least", means[0]), ("most", means[-1])) if means else ():
        at = record.cases.index(name)
        settings = ", ".join(f"{one.label} {one.level_labels[one.level[at]]}" for one in record.factors)
        yield f"  {which:<6} {mean:.4g} in {name}: {settings}"
    indices = found["indices"]
    if indices is None:
        yield f"  {found['noIndices']}"
        return
    first, total = indices["first"], indices["total"]
    for at in sorted(range(len(record.factors)), key=lambda one: -total["value"][one]):
        alone, with_others = _share(first, at), _share(total, at)
        yield f"  {record.factors[at].label} makes {alone} of the variance alone, {with_others} with others"
    yield f"  {indices['told']}"


def _share(shares: Mapping[str, Any], at: int) -> str:
    """Return an index and its interval as shares of a hundred."""
    value, low, high = (shares[name][at] for name in ("value", "low", "high"))
    between = "" if low is None or isnan(low) else f" [{100 * max(low, 0):.0f}, {100 * min(high, 1):.0f}]"
    return f"{100 * value:.0f}{between} %"


def _change(row: dict[str, str]) -> str:
    if not row["relative_difference"]:
        return "" if row["baseline"] else "baseline"
    share, difference = float(row["relative_difference"]), float(row["difference"])
    if not row["difference_low"] or not share:
        return f"{share:+.2%}"
    size = difference / share  # of the baseline's mean
    low, high = float(row["difference_low"]) / size, float(row["difference_high"]) / size
    return f"{share:+.2%} [{low:+.2%}, {high:+.2%}]"


def _short(text: str) -> str:
    return f"{float(text):.4g}" if text else "none"


def _between(low: str, high: str) -> str:
    return f"[{float(low):.4g}, {float(high):.4g}]" if low and not isnan(float(low)) else ""
