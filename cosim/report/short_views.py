"""Rounds of very many clients as a picture and as a page: flows and quantiles in place of lanes."""

from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cosim.files import write_output
from cosim.record.folder import Record
from cosim.record.summaries import ALL, LEVELS
from cosim.report.gantt import time_unit
from cosim.report.lettering import lettered
from cosim.report.quantities import count, duration
from cosim.report.rounds import range_label
from cosim.report.short import phases_of, rows_in_short
from cosim.report.short_rounds import chosen_rounds
from cosim.report.span_style import span_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BANDS = ((0, 6, 0.15), (1, 5, 0.25), (2, 4, 0.4))  # places of LEVELS, and how dense
_MEDIAN = LEVELS.index(50)
_COLOURS = {"durations_ns": "#0072B2", "waits_ns": "#D55E00"}
_MOST_ROWS = 500
_WIDE = 30.0  # times the median, from which on what is longest would hide all else
_MOST_NAMED = 3  # rounds in which it says who was last


def write_short_picture(
    record: Record, path: Path, first: int | None, last: int | None, *, force: bool = False
) -> None:
    """Draw some rounds, and how clients fared in all of them, as a PNG.

    Raises
    ------
    RecordError
        If there are no such rounds, or the file cannot be written.
    """
    write_output(path, _drawn(record, first, last, "png"), force=force)


def write_short_page(
    record: Record, path: Path, first: int | None, last: int | None, *, force: bool = False
) -> None:
    """Write the same as an HTML page with its numbers, which needs no network; raises likewise."""
    name = str(record.manifest.get("name", record.path.name))
    svg = _drawn(record, first, last, "svg").decode()
    content = _PAGE.format(
        title=escape(f"{name}, cosim rounds"),
        name=escape(name),
        status=escape(record.state),
        kept=_SHORT if record.is_short else _MANY,
        engine=escape(str(record.manifest.get("engine", "events"))),
        picture=svg[svg.index("<svg") :],
        rounds=_table(_ROUNDS, _told_rounds(phases_of(record))),
        busiest=_table(_BUSIEST, _told_busiest(rows_in_short(record, "outliers"))),
    )
    write_output(path, content.encode(), force=force)


def _drawn(record: Record, first: int | None, last: int | None, kind: str) -> bytes:
    shown, rows = chosen_rounds(record, first, last), phases_of(record)
    of_all = [one for one in rows if one["kind"] == ALL]
    flows = [one for one in shown if one["kind"] != ALL and one["end_ns"] > one["begin_ns"]]
    names = tuple(dict.fromkeys(one["name"] for one in rows if one["kind"] != ALL))
    with lettered(
        {"hatch.linewidth": 0.5, "font.size": 9.0, "svg.fonttype": "none", "svg.hashsalt": "cosim"}
    ):
        figure, (above, *below) = _figure(len(dict.fromkeys(one["name"] for one in flows)))
        _draw_flows(above, flows, names)
        rounds = np.array([one["round"] for one in shown])
        what = range_label(int(rounds.min()), int(rounds.max()))
        above.set_title(f"{record.manifest.get('name', record.path.name)}, {what}", loc="left")
        for axes, name, label in zip(below, _COLOURS, ("busy", "waiting"), strict=True):
            _draw_quantiles(axes, of_all, name, f"each client {label}")
        content = BytesIO()
        figure.savefig(content, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


def _figure(num_flows: int) -> "tuple[Figure, Sequence[Axes]]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [0.6 + 0.7 * max(num_flows, 1), 1.9, 1.9]
    figure = Figure(figsize=(11.0, sum(heights) + 0.8), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(3, 1, height_ratios=heights)


def _draw_flows(axes: "Axes", flows: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Draw which share of each phase's spans has begun, and which has ended, over time."""
    lanes = list(dict.fromkeys(one["name"] for one in flows))
    length_ns = max((one["end_ns"] for one in flows), default=1) - min(
        (one["begin_ns"] for one in flows), default=0
    )
    unit, scale = time_unit(length_ns)
    share = np.array(LEVELS) / 100.0
    for one in flows:
        bottom = len(lanes) - 1 - lanes.index(one["name"])
        style = span_style(one["name"], one["kind"] == "transfer", names)
        times = np.sort(np.concatenate([one["starts_ns"], one["ends_ns"]]))
        begun, ended = (np.interp(times, one[name], share) for name in ("starts_ns", "ends_ns"))
        axes.fill_between(
            times / scale, bottom + 0.86 * ended, bottom + 0.86 * begun, color=style.colour, linewidth=1.4
        )
        if one["last"] and len(flows) <= _MOST_NAMED * len(lanes):
            axes.annotate(
                f"{one['last']} last",
                (one["end_ns"] / scale, bottom + 0.86),
                xytext=(4, -6),
                textcoords="offset points",
                fontsize=8,
                color="#555555",
            )
    axes.set_yticks(
        [len(lanes) - 1 - row + 0.43 for row in range(len(lanes))], [one.replace("_", " ") for one in lanes]
    )
    axes.set_ylim(-0.1, max(len(lanes), 1))
    axes.margins(x=0.08)
    axes.set_xlabel(
        f"simulated time, {unit}; of each phase the share of clients between its begin and its end"
    )
    _strip(axes)


def _draw_quantiles(axes: "Axes", rows: Sequence[dict[str, Any]], name: str, label: str) -> None:
    """Draw quantiles of the clients over the rounds: all of them, 90 % and half of them, and the median."""
    each = np.array([one[name] for one in rows], dtype=np.float64).reshape(-1, len(LEVELS))
    rounds = np.array([one["round"] for one in rows])
    unit, scale = time_unit(int(each.max(initial=1)))
    edges = np.repeat(np.append(rounds - 0.5, rounds[-1:] + 0.5), 2)[1:-1]
    for low, high, density in _BANDS:
        below, above = (np.repeat(each[:, place] / scale, 2) for place in (low, high))
        axes.fill_between(edges, below, above, color=_COLOURS[name], alpha=density, linewidth=0)
    axes.plot(edges, np.repeat(each[:, _MEDIAN] / scale, 2), color=_COLOURS[name], linewidth=1.2)
    if each.min(initial=1.0) > 0.0 and each.max() > _WIDE * np.median(each[:, _MEDIAN]):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0.0)
    axes.set_ylabel(f"{label}, {unit}")
    axes.set_xlabel("round; shades: all clients, 90 %, half of them; line: median")
    axes.locator_params(axis="x", integer=True)
    _strip(axes)


def _strip(axes: "Axes") -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.5, zorder=0.5)


_ROUNDS = (
    "round",
    "phase",
    "spans",
    "begins",
    "ends",
    "median",
    "95 %",
    "longest",
    "outliers",
    "last to end",
)
_BUSIEST = ("round", "client", "computing", "on air", "waiting", "energy, J", "outlier")


def _told_rounds(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            *(str(one["round"]), "each client, busy" if one["kind"] == ALL else one["name"]),
            *(count(one["num_spans"]), duration(one["begin_ns"]), duration(one["end_ns"])),
            *(duration(one["durations_ns"][LEVELS.index(level)]) for level in (50, 95, 100)),
            *(count(one["num_outliers"]), one["last"] or one["sender"]),
        )
        for one in rows
    ]


def _told_busiest(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            *(str(one["round"]), one["client"]),
            *(duration(one[name]) for name in ("compute_ns", "air_ns", "wait_ns")),
            *(f"{one['energy_j']:.3g}", "yes" if one["is_outlier"] else ""),
        )
        for one in rows
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in headings)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(one)}</td>' for one in row)}</tr>" for row in rows[:_MOST_ROWS]
    )
    more = f"<p>{count(len(rows) - _MOST_ROWS)} more rows</p>" if len(rows) > _MOST_ROWS else ""
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}"


_SHORT = "This run keeps summaries in place of spans."
_MANY = "It has too many clients for a lane each; its spans are in its folder."

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; color: #222; }}
svg {{ width: 100%; height: auto; background: #fff; }}
div {{ max-height: 28rem; overflow: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }}
th {{ position: sticky; top: 0; background: #fff; }}
td:nth-child(2), th:nth-child(2) {{ text-align: left; }}
</style></head><body>
<h1>{name}</h1>
<p>{status}; times by the {engine} engine. {kept}</p>
{picture}
<h2>Rounds</h2>
{rounds}
<h2>Clients that were busy the longest</h2>
{busiest}
</body></html>
"""
