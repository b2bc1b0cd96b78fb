"""The findings of an audit as one HTML file, without scripts."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from cosim.files import write_output
from cosim.report.audit.words import (
    label_of,
    lead,
    left_out_lines,
    row_told,
    times,
    verdict_lines,
    with_interval,
)
from cosim.report.page.document import asset, filled, head

_HOW = (
    "Moves and leads are means of pairs of one seed, over the mean as published and over the rival's; of "
    "times, energies and bits the geometric means of the pairs' ratios, a lead being what the proposed takes "
    "over what the rival does. Ahead or behind: the interval excludes no difference. Intervals do not allow "
    "for their number."
)


def write_audit_page(found: Mapping[str, Any], figure: Path, path: Path) -> None:
    """Write the page, the figure in it; one that is there is replaced.

    Raises
    ------
    RecordError
        If it cannot be written.
    """
    seeds = f"{len(found['seeds'])} seeds, {100 * found['confidence']:g} % intervals"
    text = filled(
        "audit/page.html",
        head=head(f"{found['name']}, cosim audit", map(asset, ("shared/page.css", "audit/page.css"))),
        name=escape(found["name"]),
        facts=escape(f"audit of {len(found['alternatives'])} alternatives, {seeds}, {found['status']}"),
        question=escape(found["description"]),
        answer="".join(f"<p>{escape(line)}</p>" for line in verdict_lines(found)),
        alt="How each turned assumption moves every alternative, the leads and the order; tables below.",
        figure=b64encode(figure.read_bytes()).decode(),
        tables="".join(_tables(found)),
    )
    write_output(path, text.encode(), force=True)


def _tables(found: Mapping[str, Any]) -> Iterator[str]:
    for measure in found["measures"]:
        unit = f", {measure['unit']}" if measure["unit"] else ""
        told = [row_told(row) for row in measure["rows"]]
        changed = [row["against rivals"] not in ("unchanged", "") for row in told]
        yield _table(f"{label_of(measure)}: order", list(told[0]), (row.values() for row in told), changed)
        rows = [_moves(row, found["alternatives"]) for row in measure["rows"]]
        yield _table(f"{label_of(measure)}{unit}: means and moves", ["turn", *found["alternatives"]], rows)
        leads = [_leads(measure, row, found["alternatives"]) for row in measure["rows"]]
        yield _table(
            f"{label_of(measure)}: lead of {measure['proposed']}", ["turn", *found["alternatives"]], leads
        )
    yield f"<p class='quiet'>{escape(_HOW)}</p>"
    turns = (
        (one["name"], one["assumption"], one["title"], one["source"], _settings(one["set"]))
        for one in found["turns"]
    )
    yield _table("Turns", ["turn", "a scenario assumes", "turned to", "source", "settings"], turns)
    if found["left_out"]:
        yield _table("Not turned", ["turn", "why"], left_out_lines(found["left_out"]))
    if found["not_together"]:
        yield _table("Not among all together", ["turn", "why"], left_out_lines(found["not_together"]))
    if found["failed"]:
        failed = ((one["case"], str(one["replication"]), one["reason"]) for one in found["failed"])
        yield _table("Failed runs, in no number", ["case", "replication", "reason"], failed)
    yield _table("Versions", ["package", "version"], found["versions"].items())


def _moves(row: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    yield row["turn"]
    of = {one["alternative"]: one for one in row["moves"]}
    for name in names:
        move = of.get(name)
        if move is None:
            yield "not turned"
            continue
        moved = f", {times(move['moved'])}" if move["moved"] else ""
        missing = f", {move['missing']} without" if move["missing"] else ""
        yield f"{with_interval(move['mean'], move['low'], move['high'])}{moved}{missing}"


def _leads(measure: Mapping[str, Any], row: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    yield row["turn"]
    of = {one["rival"]: one for one in row["pairs"]}
    for name in names:
        pair = of.get(name)
        yield "" if pair is None else f"{lead(measure, pair['ahead'])}, {pair['verdict']}"


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{path} = {value}" for path, value in settings.items())


def _table(
    heading: str, columns: Sequence[str], rows: Iterable[Iterable[str]], changed: Sequence[bool] = ()
) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in columns)
    lines = []
    for number, row in enumerate(rows):
        marked = " class='changed'" if number < len(changed) and changed[number] else ""
        lines.append(f"<tr{marked}>{''.join(f'<td>{escape(str(one))}</td>' for one in row)}</tr>")
    return (
        f"<h2>{escape(heading)}</h2><div class='wide'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
