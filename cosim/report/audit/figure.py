"""The findings of an audit as a figure for print: a row of panels for each measure."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from cosim.report.audit.words import label_of
from cosim.report.lettering import lettered
from cosim.report.publication import STYLE, WIDTHS_IN
from cosim.report.span_style import OWNER_COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = "os^Dvp*XP<>h"
_ROW_IN, _HEAD_IN = 0.06, 0.75
_MOST_TOLD = 100.0


def audit_figure(found: Mapping[str, Any]) -> "Figure":
    """Return the figure: how alternatives move, how far the proposed is ahead, and how far orders agree."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names, measures = found["alternatives"], found["measures"]
    turns = [one["name"] for one in found["turns"]]
    height = len(measures) * (_HEAD_IN + len(turns) * max(0.16, _ROW_IN * len(names) * 0.6)) + 0.3
    with lettered(STYLE):
        figure = Figure(figsize=(WIDTHS_IN["page"], height))
        FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained", h_pad=0.04, w_pad=0.04)
        axes = figure.subplots(len(measures), 3, squeeze=False, sharey=True, width_ratios=(3, 3, 1.6))
        for row, measure in zip(axes, measures, strict=True):
            _draw_moves(row[0], measure, turns, names)
            _draw_leads(row[1], measure, turns, names)
            _draw_order(row[2], measure, turns)
            row[0].set_yticks(range(len(turns)), [fill(one, 24) for one in turns])
            row[0].set_ylim(len(turns) - 0.4, -0.6)
            for one in row:
                one.set_axisbelow(True)
                for at in range(1, len(turns), 2):
                    one.axhspan(at - 0.5, at + 0.5, color="0.95", lw=0)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        columns = min(len(names), 5)
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _draw_moves(axes: "Axes", measure: Mapping[str, Any], turns: Sequence[str], names: Sequence[str]) -> None:
    """Draw each mean over the one as published, with its paired interval."""
    for which, name in enumerate(names):
        points = []
        for row in measure["rows"][1:]:
            move = next((one for one in row["moves"] if one["alternative"] == name), None)
            if move is not None and move["moved"] is not None:
                ends = (move["moved"], move["moved_low"], move["moved_high"])
                points.append((turns.index(row["turn"]), *(np.nan if one is None else one for one in ends)))
        _dots(axes, 1.0 + np.array(points), which, len(names), name, shift=1.0, floor=1e-3)
    axes.axvline(1.0, color="0.6", lw=0.6)
    axes.set_xlabel(f"{label_of(measure)}, over that as published")
    means = [
        1.0 + one["moved"] for row in measure["rows"] for one in row["moves"] if one["moved"] is not None
    ]
    if means and 0.0 < min(means) < max(means) / 3.0:
        axes.set_xscale("log")
        axes.set_xlim(0.5 * min(means), 2.0 * max(means))  # an interval may reach below zero
        _plain_ticks(axes)


def _plain_ticks(axes: "Axes") -> None:
    """Label a logarithmic axis with plain numbers, few enough to read."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_xlim()
    steps = (1.0, 2.0, 5.0) if high / low < 300.0 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_leads(axes: "Axes", measure: Mapping[str, Any], turns: Sequence[str], names: Sequence[str]) -> None:
    """Draw the proposed over each rival where compared by ratio, else how far it is ahead, over its mean."""
    by_ratio, shares = measure["by_ratio"], [0.0]
    for which, name in enumerate(names):
        points = []
        for row in measure["rows"]:
            pair = next((one for one in row["pairs"] if one["rival"] == name), None)
            if pair is not None and pair["ahead"] is not None:
                ends = (pair["ahead"], pair["ahead_low"], pair["ahead_high"])
                points.append((turns.index(row["turn"]), *(np.nan if one is None else one for one in ends)))
        drawn = np.array(points)
        if by_ratio and points:
            drawn[:, 1:] = 1.0 - drawn[:, [1, 3, 2]]
        _dots(axes, drawn, which, len(names), name)
        shares += [one[1] for one in points]
    axes.axvline(float(by_ratio), color="0.6", lw=0.6)
    if by_ratio:
        axes.set_xscale("log")
        axes.set_xlim(
            0.5 * (1.0 - max(shares)), 2.0 * (1.0 - min(shares))
        )  # of few seeds, an interval may go far
        axes.set_xlabel(f"{measure['proposed']} over the rival")
        _plain_ticks(axes)
        return
    most = max(map(abs, shares))
    if most > 1.5:  # a rival many times as good would squeeze all others
        from matplotlib.ticker import FixedLocator, FuncFormatter

        axes.set_xscale("symlog", linthresh=1.0)
        powers = 10.0 ** np.arange(0, np.ceil(np.log10(most)) + 1.0, 2.0 if most > 1e3 else 1.0)
        axes.xaxis.set_major_locator(FixedLocator([*-powers[::-1], 0.0, *powers]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(f"{measure['proposed']} ahead by, over the rival's mean")


def _dots(
    axes: "Axes",
    points: Any,
    which: int,
    of: int,
    name: str,
    *,
    shift: float = 0.0,
    floor: float | None = None,
) -> None:
    """Draw rows of place, mean and ends; without points only the entry of the legend."""
    style: dict[str, Any] = {
        "marker": _MARKS[which % len(_MARKS)],
        "color": OWNER_COLOURS[which % len(OWNER_COLOURS)],
        "ms": 2.8,
        "lw": 0.7,
        "ls": "",
        "label": name,
    }
    if not len(points):
        axes.plot([], [], **style)
        return
    places = points[:, 0] - shift + 0.7 * ((which + 0.5) / of - 0.5)
    low, high = (np.where(np.isnan(one), points[:, 1], one) for one in points[:, 2:].T)
    low = low if floor is None else np.maximum(low, floor)
    errors = np.maximum([points[:, 1] - low, high - points[:, 1]], 0.0)
    axes.errorbar(points[:, 1], places, xerr=errors, elinewidth=0.7, **style)


def _draw_order(axes: "Axes", measure: Mapping[str, Any], turns: Sequence[str]) -> None:
    """Draw Kendall's tau of the order with the one as published, and how often the winner is the same."""
    for row in measure["rows"][1:]:
        at = turns.index(row["turn"])
        if row["tau"] is not None:
            low, high = (row["tau"] if one is None else one for one in (row["tau_low"], row["tau_high"]))
            errors = [[row["tau"] - low], [high - row["tau"]]]
            axes.errorbar(row["tau"], at, xerr=errors, marker="o", ms=3, color="0.2", elinewidth=0.7)
        if row["same_winner"] is not None:
            told = f"{_MOST_TOLD * row['same_winner']:.0f} %"
            axes.annotate(told, (1.02, at), xycoords=("axes fraction", "data"), va="center", fontsize=5.5)
    axes.set_xlim(-1.08, 1.08)
    axes.axvline(1.0, color="0.6", lw=0.6)
    axes.set_xlabel("Kendall's tau with the order\nas published; same winner")
