"""The page of several runs side by side, on one time axis."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cosim.files import check_output, write_output
from cosim.record.folder import Record
from cosim.report.attribution import Attribution
from cosim.report.comparison import Comparison, compare_all, differences
from cosim.report.learning import of_task
from cosim.report.outcome import Summary, client_shares
from cosim.report.page.columns import Columns
from cosim.report.page.content import add_rounds, curves_content, names_content
from cosim.report.page.document import document
from cosim.report.quantities import duration
from cosim.report.rounds import RoundKey, Rounds, round_label
from cosim.report.spans import Spans

_SCRIPTS = ["shared/data.js", "shared/theme.js", "comparison/strips.js", "comparison/main.js"]


def write_comparison_page(records: Sequence[Record], path: Path, *, force: bool = False) -> None:
    """Write several runs side by side as one HTML file that needs no network.

    Parameters
    ----------
    records
        At least two runs; differences are against the first.
    path
        The file.
    force
        Replace a file that is there.

    Raises
    ------
    RecordError
        If there are fewer than two runs or one cannot be read, or the file cannot
        be written or is there already.
    """
    check_output(path, force=force)
    content = comparison_content(records)
    title = "Comparison of " + " and ".join(run["title"] for run in content["runs"])
    write_output(path, document("comparison/page.html", title, _SCRIPTS, content).encode(), force=force)


def comparison_content(records: Sequence[Record]) -> dict[str, Any]:
    """Return all that the page of several runs shows.

    Raises
    ------
    RecordError
        If there are fewer than two runs, or one cannot be read.
    """
    compared = compare_all(records)
    summaries = [compared[0].before, *(one.after for one in compared)]
    attributions = [compared[0].attributions[0], *(one.attributions[1] for one in compared)]
    all_spans = [Spans.of(record) for record in records]
    on_air = {name: is_transfer for spans in all_spans for name, is_transfer in _names(spans)}
    names = tuple(on_air)
    columns = Columns()
    runs = []
    for index, title in enumerate(run_titles(records)):
        parts = records[index], all_spans[index], summaries[index], attributions[index]
        comparison = compared[index - 1] if index else None
        runs.append(_run(columns, index, names, *parts, comparison) | {"title": title})
    return {
        "names": names_content(names, on_air),
        "runs": runs,
        "totals": _totals(summaries, compared),
        "rounds": _rounds(compared),
        "columns": columns.packed(),
    }


def run_titles(records: Sequence[Record]) -> list[str]:
    """Return what each run is called: its name, or its folder where names are not enough to tell."""
    names = [str(record.manifest.get("name", record.path.name)) for record in records]
    if len(set(names)) == len(names):
        return names
    folders = [record.path.name for record in records]
    told = folders if len(set(folders)) == len(folders) else [str(record.path) for record in records]
    return [f"{name} ({folder})" for name, folder in zip(names, told, strict=True)]


def _names(spans: Spans) -> list[tuple[str, bool]]:
    return [(name, bool(spans.is_transfer[spans.name == at][0])) for at, name in enumerate(spans.names)]


def _run(
    columns: Columns,
    index: int,
    names: tuple[str, ...],
    record: Record,
    spans: Spans,
    summary: Summary,
    attribution: Attribution,
    comparison: Comparison | None,
) -> dict[str, Any]:
    prefix = f"run{index}"
    rows, _ = spans.of_clients
    shown = rows[spans.duration_ns[rows] > 0]
    renamed = np.array([names.index(name) for name in spans.names], dtype=np.int64)
    columns.add(f"{prefix}.name", renamed[spans.name[shown]] if len(spans) else [], "u2")
    columns.add(f"{prefix}.start", spans.start_ns[shown], "f8")
    columns.add(f"{prefix}.end", spans.end_ns[shown], "f8")
    add_rounds(columns, Rounds.of(record, summary.length_ns), f"{prefix}.")
    number = {share.cause: at for at, share in enumerate(attribution.shares)}
    stretches = attribution.stretches
    is_work = [one.cause.activity == "working" for one in stretches]
    kinds = [
        names.index(one.cause.phase) if works else len(names)
        for one, works in zip(stretches, is_work, strict=True)
    ]
    columns.add(f"{prefix}.stretch.start", [one.start_ns for one in stretches], "f8")
    columns.add(f"{prefix}.stretch.end", [one.end_ns for one in stretches], "f8")
    columns.add(f"{prefix}.stretch.kind", kinds, "u2")
    columns.add(f"{prefix}.stretch.cause", [number[one.cause] for one in stretches], "u4")
    return {
        "column": prefix,
        "status": summary.status,
        "lengthNs": summary.length_ns,
        "numClients": len(summary.clients),
        "curves": curves_content(columns, record, spans, f"{prefix}.curve"),
        "causes": [share.cause.label for share in attribution.shares],
        "shares": [{"label": share.cause.label, "ns": share.time_ns} for share in attribution.shares[:100]],
        "partingNs": comparison.divergence.time_ns if comparison and comparison.divergence else None,
        "parting": _parting(comparison),
        "learning": _learning(comparison),
        "settings": _settings(comparison),
    }


def _parting(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    parting = comparison.divergence
    if parting is None:
        return "The same timeline, span for span."
    return (
        f"First differs at {duration(parting.time_ns)}, in {parting.place}: "
        f"{parting.before}; here {parting.after}."
    )


def _settings(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    settings = comparison.settings
    return f"Settings that differ: {differences(settings)}." if settings else "All settings are the same."


def _learning(comparison: Comparison | None) -> str:
    if comparison is None or comparison.other_learning is None:
        return ""
    told = (
        f"differs in {len(rounds)} round(s)" if rounds else "is the same, value for value"
        for rounds in comparison.other_learning.values()
    )
    whats = (of_task("What was learned", task) for task in comparison.other_learning)
    return " ".join(f"{what} {is_so}." for what, is_so in zip(whats, told, strict=True))


def _totals(summaries: Sequence[Summary], compared: Sequence[Comparison]) -> list[dict[str, Any]]:
    rows = [_total("simulated time", "time", [one.length_ns for one in summaries])]
    if len(compared) == 1:
        rows += [
            _total(f"to {old.label}", "time", [old.time_ns, new.time_ns]) for old, new in compared[0].levels
        ]
    for name in dict.fromkeys(phase.name for one in summaries for phase in one.phases):
        covered = [{phase.name: phase.covered_ns for phase in one.phases}.get(name) for one in summaries]
        rows.append(_total(name.replace("_", " "), "time", covered))
    for what, shares in zip(("computing", "on air", "waiting"), client_shares(summaries), strict=False):
        rows.append(_total(f"clients {what}", "share", list(shares)))
    rows.append(_total("energy", "J", [sum(one.energy_j.values()) for one in summaries]))
    return rows


def _total(label: str, kind: str, values: Sequence[float | None]) -> dict[str, Any]:
    return {"label": label, "kind": kind, "values": list(values)}


def _rounds(compared: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return how long each round took in every run, ns; None in a run that does not have it."""
    lengths: dict[RoundKey, list[int | None]] = {}
    for index, comparison in enumerate(compared):
        for pair in comparison.rounds:
            row = lengths.setdefault((pair.task, pair.round), [None] * (len(compared) + 1))
            before, after = pair.length_ns
            row[0] = before if pair.begin_ns[0] is not None else None
            row[index + 1] = after if pair.begin_ns[1] is not None else None
    return [
        {"round": round_label(*key).removeprefix("round "), "lengths": lengths[key]}
        for key in sorted(lengths)
    ]
