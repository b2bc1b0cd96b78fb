"""The timeline as a picture: a lane per actor, and the loss over simulated time beneath it."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cosim.files import write_output
from cosim.report.chart import Bars, Chart, Lane
from cosim.report.learning import of_task
from cosim.report.lettering import lettered
from cosim.report.span_style import LINE_COLOURS, span_style
from cosim.report.spans import is_client
from cosim.report.stacks import HATCH_COLOUR, WAITING_COLOUR, Part, bin_edges, draw_stack, is_crowded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch


def draw(shown: Chart, path: Path, *, force: bool = False) -> None:
    """Write a chart as a PNG.

    Raises
    ------
    RecordError
        If the file is there and ``force`` is not set, or cannot be written.
    """
    with lettered({"hatch.linewidth": 0.5, "font.size": 9.0, "legend.fontsize": 9.0}):
        content = BytesIO()
        _figure(shown).savefig(content, format="png")
    write_output(path, content.getvalue(), force=force)


def _figure(shown: Chart) -> "Figure":
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = 0.6 + 0.34 * min(len(shown.lanes), 12) + 0.13 * max(len(shown.lanes) - 12, 0)
    panels: list[tuple[float, Callable[[Axes, Chart], None]]] = [(height, draw_lanes)]
    if shown.crowd:
        panels.insert(0, (1.2, draw_crowd))
    if shown.losses:
        panels.append((1.7, draw_losses))
    if shown.latency_limit is not None:
        panels.append((1.7, _draw_limited))
    heights = [of_panel for of_panel, _ in panels]
    figure = Figure(figsize=(11.0, sum(heights) + 1.0), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for one, (_, draw_panel) in zip(axes, panels, strict=True):
        draw_panel(one, shown)
    _draw_legend(figure, shown)
    return figure


_UNITS = (("h", 3600e9), ("min", 60e9), ("s", 1e9), ("ms", 1e6), ("us", 1e3), ("ns", 1.0))
_MOST_LABELS = 16


def time_unit(length_ns: int) -> tuple[str, float]:
    """Return the largest unit of which the length holds at least two."""
    return next((unit for unit in _UNITS if length_ns >= 2 * unit[1]), _UNITS[-1])


def draw_lanes(axes: "Axes", shown: Chart) -> None:
    """Draw a lane for each client and server, with all spans, rounds and the axis of time."""
    unit, scale = time_unit(shown.to_ns - shown.from_ns)
    shortest_ns = 0.0015 * (shown.to_ns - shown.from_ns)  # what is shorter would be no wider than a hair
    draw_bars(axes, shown, scale, shortest_ns, linewidth=0.8)
    labelled = labelled_rows(shown.lanes)
    axes.set_yticks(labelled, [shown.lanes[row].label for row in labelled])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(shown.lanes) - 0.5, -0.5)
    margin = 0.005 * (shown.to_ns - shown.from_ns)
    axes.set_xlim((shown.from_ns - margin) / scale, (shown.to_ns + margin) / scale)
    axes.set_xlabel(f"simulated time, {unit}")
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.5, zorder=0.5)
    _draw_rounds(axes, shown, scale)
    _strip(axes, left=False)


def draw_crowd(axes: "Axes", shown: Chart) -> None:
    """Stack how many of all clients do what at a time, on the axis of the lanes below."""
    _, scale = time_unit(shown.to_ns - shown.from_ns)
    window_ns, width_in = (shown.from_ns, shown.to_ns), width_in_of(axes)
    each = sum(len(part.start_ns) for part in shown.crowd) / max(shown.num_clients, 1)
    edges_ns = bin_edges(window_ns, each, width_in)
    most = max(shown.num_clients, 1)
    axes.axhspan(0, most, color=WAITING_COLOUR, linewidth=0, zorder=0)
    draw_stack(axes, shown.crowd, shown.names, edges_ns, scale=scale, bottom=0.0, height=most, most=most)
    margin = 0.005 * (shown.to_ns - shown.from_ns)
    axes.set_xlim((shown.from_ns - margin) / scale, (shown.to_ns + margin) / scale)
    axes.set_ylim(0, most)
    axes.set_yticks([0, most])
    axes.set_ylabel("clients")
    axes.tick_params(axis="x", labelbottom=False)
    _strip(axes, left=True)


def width_in_of(axes: "Axes") -> float:
    """Return about how wide axes are, in."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return float(axes.get_position().width * figure.get_figwidth())


def crowded_rows(shown: Chart, width_in: float) -> set[int]:
    """Return the lanes whose spans cannot be told apart on such a width: those are drawn as shares."""
    return {row for row, lane in enumerate(shown.lanes) if is_crowded(_num_lasting(lane), width_in)}


def _num_lasting(lane: Lane) -> int:
    return sum(int((bars.end_ns > bars.start_ns).sum()) for bars in lane.bars)


def draw_bars(axes: "Axes", shown: Chart, scale: float, shortest_ns: float, linewidth: float) -> None:
    """Draw all spans, name by name: a thin line while they waited, a tick for what is shorter than given.

    Lanes with more spans than can be told apart are stacks of shares of time; the ground is waiting.
    """
    width_in = width_in_of(axes)
    crowded = crowded_rows(shown, width_in)
    window_ns = shown.from_ns, shown.to_ns
    for row in range(len(shown.lanes)):
        axes.axhspan(row - 0.4, row + 0.4, color=WAITING_COLOUR, linewidth=0, zorder=0)
    if crowded:
        edges_ns = bin_edges(window_ns, max(_num_lasting(shown.lanes[row]) for row in crowded), width_in)
        for row in sorted(crowded):
            parts = [
                Part(
                    one.name, one.is_transfer, *(np.clip(at, *window_ns) for at in (one.start_ns, one.end_ns))
                )
                for one in shown.lanes[row].bars
            ]
            draw_stack(axes, parts, shown.names, edges_ns, scale=scale, bottom=row + 0.4, height=-0.8)
    for name in shown.names:
        found = [
            (row, bars) for row, lane in enumerate(shown.lanes) for bars in lane.bars if bars.name == name
        ]
        if found:
            _draw_name(axes, shown, name, found, crowded, scale, shortest_ns, linewidth)


def _draw_name(
    axes: "Axes",
    shown: Chart,
    name: str,
    found: Sequence[tuple[int, Bars]],
    crowded: set[int],
    scale: float,
    shortest_ns: float,
    linewidth: float,
) -> None:
    """Draw the spans of one name, in all lanes at once; in crowded ones what takes no time, if it is rare."""
    from matplotlib.collections import PolyCollection

    drawn = span_style(name, found[0][1].is_transfer, shown.names)
    row = np.concatenate([np.full(len(bars.start_ns), row) for row, bars in found])
    asked_ns, start_ns, end_ns = (
        np.concatenate([getattr(bars, what) for _, bars in found])
        for what in ("asked_ns", "start_ns", "end_ns")
    )
    single = ~np.isin(row, list(crowded))
    rare = {
        at for at, bars in found if not is_crowded((bars.end_ns == bars.start_ns).sum(), width_in_of(axes))
    }
    waited = single & (start_ns > asked_ns)
    axes.hlines(
        row[waited],
        asked_ns[waited] / scale,
        start_ns[waited] / scale,
        colors=drawn.colour,
        linewidth=linewidth,
        zorder=1,
    )
    left, right, top, bottom = start_ns / scale, end_ns / scale, row - 0.4, row + 0.4
    corners = [
        np.stack(corner, axis=1)[single]
        for corner in ((left, top), (right, top), (right, bottom), (left, bottom))
    ]
    boxes = PolyCollection(
        list(np.stack(corners, axis=1)),
        facecolor=drawn.colour,
        edgecolor=HATCH_COLOUR,
        linewidth=0.0,
        hatch=drawn.hatch,
        zorder=2,
    )
    axes.add_collection(boxes, autolim=False)
    short = (single & (end_ns - start_ns < shortest_ns)) | (np.isin(row, list(rare)) & (end_ns == start_ns))
    axes.vlines(
        left[short],
        row[short] - 0.4,
        row[short] + 0.4,
        colors=drawn.colour,
        linewidth=1.25 * linewidth,
        zorder=3,
    )


def _draw_rounds(axes: "Axes", shown: Chart, scale: float) -> None:
    """Mark where rounds begin, if they do at several instants; there is room for a dozen labels."""
    least_ns = (shown.to_ns - shown.from_ns) / (12 + 1e-6)
    last_ns = shown.from_ns - 2.0 * least_ns
    for label, from_ns in shown.rounds if len(shown.rounds) > 1 else ():
        axes.axvline(from_ns / scale, color="#000000", linewidth=0.6, linestyle=(0, (4, 3)), zorder=4)
        if from_ns - last_ns >= least_ns:
            last_ns = from_ns
            axes.annotate(
                label,
                (from_ns / scale, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(2, 2),
                textcoords="offset points",
                fontsize=8,
            )


def labelled_rows(lanes: Sequence[Lane]) -> list[int]:
    """Return the rows that get a label: each server, and as many clients as there is room for."""
    every = -(-len(lanes) // _MOST_LABELS)
    num_clients = sum(is_client(lane.actor) for lane in lanes)
    clients = [row for row in range(0, num_clients, every) if every == 1 or row + every // 2 < num_clients]
    return [*clients, *range(num_clients, len(lanes))]


def legend_handles(shown: Chart, width_in: float) -> "list[Patch | Line2D]":
    """Return what names the colours of a chart's spans, drawn about so wide."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    is_transfer = {bars.name: bars.is_transfer for lane in shown.lanes for bars in lane.bars}
    patches: list[Patch | Line2D] = []
    for name in shown.names:
        drawn = span_style(name, is_transfer[name], shown.names)
        label = name.replace("_", " ")
        patches.append(
            Patch(facecolor=drawn.colour, hatch=drawn.hatch, edgecolor=HATCH_COLOUR, linewidth=0, label=label)
        )
    patches.append(Patch(facecolor=WAITING_COLOUR, linewidth=0, label="waiting"))
    if crowded_rows(shown, width_in):
        patches.append(Patch(fill=False, linewidth=0, label="stacked: shares of time"))
    if any((bars.start_ns > bars.asked_ns).any() for lane in shown.lanes for bars in lane.bars):
        patches.append(Line2D([], [], color="#888888", linewidth=0.8, label="waits for a queue or the air"))
    return patches


def _draw_legend(figure: "Figure", shown: Chart) -> None:
    figure.legend(
        handles=legend_handles(shown, width_in_of(figure.axes[0])),
        title=shown.title,
        title_fontproperties={"weight": "bold", "size": 11},
        alignment="left",
        loc="outside upper left",
        ncols=4,
        frameon=False,
        fontsize=9,
        handlelength=2.6,
    )


def draw_losses(axes: "Axes", shown: Chart, *, marks_window: bool = True) -> None:
    """Draw the losses of the whole run; the rounds that the lanes show are marked unless not wanted."""
    unit, scale = time_unit(shown.length_ns)
    styles: dict[str, dict[str, Any]] = {
        "train_loss": {"color": "#56B4E9", "linewidth": 1.0, "label": "training"},
        "eval_loss": {
            "color": "#000000",
            "linewidth": 1.4,
            "marker": "o",
            "markersize": 4,
            "label": "held out",
        },
    }
    if width_in_of(axes) < 4.0:
        styles["train_loss"] |= {"linewidth": 0.7}
        styles["eval_loss"] |= {"linewidth": 0.9, "markersize": 2}
    tasks = list(dict.fromkeys(task for _, task in shown.losses))
    for (name, task), (times_ns, values) in shown.losses.items():
        drawn = styles[name] | {"label": of_task(styles[name]["label"], task)}
        if len(tasks) > 1:
            drawn["color"] = LINE_COLOURS[tasks.index(task) % len(LINE_COLOURS)]
        axes.plot(times_ns / scale, values, **drawn)
    if marks_window and shown.to_ns - shown.from_ns < 0.95 * shown.length_ns:
        axes.axvspan(
            shown.from_ns / scale, shown.to_ns / scale, color="#E4E4E4", zorder=0, label="lanes above"
        )
    axes.set_xlim(0.0, max(shown.length_ns, 1) / scale)
    axes.set_xlabel(f"simulated time, {unit}")
    axes.set_ylabel("loss, nats")
    axes.legend(frameon=False, ncols=3, loc="upper right")
    axes.grid(color="#DDDDDD", linewidth=0.5)
    _strip(axes, left=True)


def _draw_limited(axes: "Axes", shown: Chart) -> None:
    """Draw the latency of each round against its limit, the virtual queue, and the mean of what was kept."""
    told = shown.latency_limit
    assert told is not None
    unit, scale = time_unit(shown.length_ns)
    ends = told.ends_ns / scale
    begins = np.concatenate([[ends[0] - told.latency_s[0] * 1e9 / scale], ends])
    axes.plot(ends, told.latency_s, color="#0072B2", marker="o", markersize=3, linewidth=1.0, label="latency")
    mean_s = told.latency_s.cumsum() / np.arange(1, len(ends) + 1)
    axes.plot(ends, mean_s, color="#000000", linewidth=1.4, label="its mean so far")
    axes.stairs(told.limit_s, begins, baseline=None, color="#D55E00", linestyle="--", label="limit")
    if told.queue_s is not None:
        axes.plot(begins, told.queue_s, color="#CC79A7", linewidth=1.0, label="virtual queue")
    kept = axes.twinx()
    ratios = 100.0 * np.nanmean(told.sparsification_ratios, axis=1)
    kept.stairs(ratios, begins, baseline=None, color="#999999", linewidth=1.0, label="kept (right)")
    kept.set_ylim(0.0, 100.0)
    kept.set_ylabel("kept, %")
    kept.spines["top"].set_visible(False)
    axes.set_xlim(0.0, max(shown.length_ns, 1) / scale)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel(f"simulated time, {unit}")
    axes.set_ylabel("latency of a round, s")
    lines = [*axes.get_legend_handles_labels()[0], *kept.get_legend_handles_labels()[0]]
    axes.legend(handles=lines, frameon=False, fontsize=9, ncols=5, loc="lower center")
    axes.grid(color="#DDDDDD", linewidth=0.5)
    axes.spines["top"].set_visible(False)


def _strip(axes: "Axes", *, left: bool) -> None:
    for side in ("top", "right", *(() if left else ("left",))):
        axes.spines[side].set_visible(False)
