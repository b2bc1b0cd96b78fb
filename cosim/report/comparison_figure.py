"""Several runs as a figure for print: the clients, what decided the time, and the losses, on one axis."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cosim.errors import RecordError
from cosim.files import check_output
from cosim.record.folder import Record
from cosim.report.attribution import Attribution, attribute
from cosim.report.figures import Panel, write_both, write_panels
from cosim.report.gantt import time_unit, width_in_of
from cosim.report.learning import held_out_losses, of_task
from cosim.report.lettering import legend_label, lettered
from cosim.report.page.comparison_page import run_titles
from cosim.report.publication import STYLE, WIDTHS_IN, figure_format, save
from cosim.report.rounds import Rounds
from cosim.report.span_style import span_style
from cosim.report.spans import Spans, length_ns
from cosim.report.stacks import (
    HATCH_COLOUR,
    WAITING_COLOUR,
    Part,
    bin_edges,
    draw_stack,
    is_crowded,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CROWD_IN, _PATH_IN, _LOSS_IN = 0.62, 0.16, 1.1
_RUN_COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
_RUN_LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1)), "-.")
_RUN_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----")
_TASK_MARKERS = ("o", "s", "^", "D")


def write_comparison_figure(
    records: Sequence[Record],
    path: Path,
    *,
    first_round: int | None = None,
    last_round: int | None = None,
    width: Literal["column", "page"] = "column",
    force: bool = False,
) -> None:
    """Write several runs above each other as a figure for print, PNG, PDF or SVG by the name of the file.

    Parameters
    ----------
    records
        At least two runs.
    path
        Ends in ``.png``, ``.pdf`` or ``.svg``.
    first_round, last_round
        Show these rounds alone, both included, each run from where it began the
        first of them; the whole runs from their start without them.
    width
        As wide as one column or as a page.
    force
        Replace a file that is there.

    Raises
    ------
    RecordError
        If there are fewer than two runs, or one does not have these rounds or cannot be read, or the file is
        neither kind, is there already or cannot be written.
    """
    kind = figure_format(path)
    check_output(path, force=force)
    if len(records) < 2:
        raise RecordError(f"a comparison needs at least two runs, got {len(records)}.")
    all_spans = [Spans.of(record) for record in records]
    last = first_round if last_round is None else last_round
    windows = [_window(*pair, first_round, last) for pair in zip(records, all_spans, strict=True)]
    save(_figure(records, all_spans, windows, WIDTHS_IN[width]), path, kind, force=force)


def write_comparison_figures(records: Sequence[Record], folder: Path, *, force: bool = False) -> list[Path]:
    """Write several runs as figures for a paper, a column wide, each as PDF and as SVG.

    ``activity`` has what the clients do and what decides the time of each run, ``delay`` what the
    critical path went into, ``loss`` the held-out loss over simulated time where there is one.

    Raises
    ------
    RecordError
        As :func:`write_comparison_figure`, or if a file is there and ``force`` is not set.
    """
    all_spans = [Spans.of(record) for record in records]
    windows = [_window(*pair, None, None) for pair in zip(records, all_spans, strict=True)]
    activity = _figure(records, all_spans, windows, WIDTHS_IN["column"], with_losses=False)
    titles, losses = run_titles(records), _losses(records, windows)
    attributions = [attribute(*pair) for pair in zip(records, all_spans, strict=True)]
    unit, scale = time_unit(max(max(to_ns for _, to_ns in windows), 1))

    def loss(axes: "Axes") -> None:
        _draw_losses(axes, losses, titles, scale)
        axes.set_xlabel(f"simulated time, {unit}", labelpad=1.5)
        axes.set_xlim(left=0.0)

    num_causes = len(dict.fromkeys(name for one in attributions for name in one.by_phase()))
    delay_in = 0.35 + 0.13 * num_causes * len(records)
    panels: list[Panel] = [
        (delay_in, "delay", lambda axes: _draw_delay(axes, attributions, titles, scale, unit))
    ]
    if any(losses.values()):
        panels.append((1.9, "loss", loss))
    return [
        *write_both(activity, folder / "activity", force=force),
        *write_panels(panels, folder, force=force),
    ]


def _losses(
    records: Sequence[Record], windows: Sequence[tuple[int, int]]
) -> dict[tuple[int, str], list[tuple[int, float]]]:
    """Return the held-out losses of each run and task, by the time since its window begins, ns."""
    return {
        (index, task): [
            (time_ns - from_ns, loss) for time_ns, _, loss in course if from_ns <= time_ns <= to_ns
        ]
        for index, (record, (from_ns, to_ns)) in enumerate(zip(records, windows, strict=True))
        for task, course in held_out_losses(record).items()
    }


def _draw_delay(
    axes: "Axes", attributions: Sequence[Attribution], titles: Sequence[str], scale: float, unit: str
) -> None:
    """Draw what the critical path went into: a bar of each run for each phase, the longest first."""
    times = [one.by_phase() for one in attributions]
    names = sorted(
        {name for one in times for name in one}, key=lambda name: -max(one.get(name, 0) for one in times)
    )
    height = 0.8 / len(times)
    for index, (time, title) in enumerate(zip(times, titles, strict=True)):
        axes.barh(
            np.arange(len(names)) - 0.4 + height * (index + 0.5),
            [time.get(name, 0) / scale for name in names],
            height=0.9 * height,
            facecolor=_RUN_COLOURS[index % len(_RUN_COLOURS)],
            edgecolor="white",
            hatch=_RUN_HATCHES[index % len(_RUN_HATCHES)],
            linewidth=0.0,
            label=legend_label(title),
        )
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"on the critical path, {unit}", labelpad=1.5)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="lower right")
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.4)


def _window(record: Record, spans: Spans, first: int | None, last: int | None) -> tuple[int, int]:
    """Return from when to when a run is shown, ns."""
    total_ns = length_ns(record, spans)
    if first is None or last is None:
        return 0, total_ns
    rounds = Rounds.of(record, total_ns)
    return rounds.window_ns(rounds.between(record, first, last))


def _figure(
    records: Sequence[Record],
    all_spans: Sequence[Spans],
    windows: Sequence[tuple[int, int]],
    width_in: float,
    *,
    with_losses: bool = True,
) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    attributions = [attribute(record, spans) for record, spans in zip(records, all_spans, strict=True)]
    total_ns = max(max(to_ns - from_ns for from_ns, to_ns in windows), 1)
    names = tuple(dict.fromkeys(name for spans in all_spans for name in spans.names))
    titles = run_titles(records)
    losses = _losses(records, windows) if with_losses else {}
    heights = [_CROWD_IN, _PATH_IN] * len(records) + ([_LOSS_IN] if any(losses.values()) else [])
    unit, scale = time_unit(total_ns)
    num_columns = 2 if width_in < 5.0 else 4
    height_in = sum(heights) + 0.1 * len(heights) + 0.5 + 0.14 * -(-(len(names) + 1) // num_columns)
    with lettered(STYLE):
        layout = ConstrainedLayoutEngine(h_pad=0.01, w_pad=0.01, hspace=0.01)
        figure = Figure(figsize=(width_in, height_in), layout=layout)
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(heights), 1, height_ratios=heights, sharex=True, squeeze=False)[:, 0]
        for index, spans in enumerate(all_spans):
            crowd, path = panels[2 * index], panels[2 * index + 1]
            _draw_crowd(crowd, spans, names, windows[index], scale)
            crowd.set_title(titles[index], loc="left", fontsize=7.0, fontweight="bold", pad=2.0)
            _draw_path(path, attributions[index], names, _on_air(all_spans), windows[index], scale)
        if any(losses.values()):
            _draw_losses(panels[-1], losses, titles, scale)
        for panel in panels:
            for side in ("top", "right"):
                panel.spines[side].set_visible(False)
        panels[0].set_xlim(0.0, total_ns / scale)
        panels[-1].set_xlabel(f"simulated time, {unit}", labelpad=1.5)
        _draw_legend(figure, names, _on_air(all_spans), num_columns)
    return figure


def _on_air(all_spans: Sequence[Spans]) -> dict[str, bool]:
    return {
        name: bool(spans.is_transfer[spans.name == at][0])
        for spans in all_spans
        for at, name in enumerate(spans.names)
    }


def _draw_crowd(
    axes: "Axes", spans: Spans, names: tuple[str, ...], window_ns: tuple[int, int], scale: float
) -> None:
    """Stack how many clients do what at a time."""
    from_ns, to_ns = window_ns
    rows, _ = spans.of_clients
    rows = rows[
        (spans.duration_ns[rows] > 0) & (spans.end_ns[rows] > from_ns) & (spans.start_ns[rows] < to_ns)
    ]
    parts = []
    for at, name in enumerate(spans.names):
        chosen = rows[spans.name[rows] == at]
        if len(chosen):
            times = (np.clip(one[chosen], from_ns, to_ns) - from_ns for one in (spans.start_ns, spans.end_ns))
            parts.append(Part(name, bool(spans.is_transfer[chosen[0]]), *times))
    most, last_ns = max(len(spans.clients), 1), max(to_ns - from_ns, 1)
    edges_ns = bin_edges((0, last_ns), len(rows) / most, width_in_of(axes))
    axes.fill_between([0.0, last_ns / scale], most, color=WAITING_COLOUR, linewidth=0, zorder=0)
    draw_stack(axes, parts, names, edges_ns, scale=scale, bottom=0.0, height=most, most=most)
    axes.set_ylim(0, most)
    axes.set_yticks([0, most])
    axes.set_ylabel("clients", labelpad=1.0)


def _draw_path(
    axes: "Axes",
    attribution: Attribution,
    names: tuple[str, ...],
    on_air: dict[str, bool],
    window_ns: tuple[int, int],
    scale: float,
) -> None:
    """Draw the cause of every instant along the critical path, or shares where there are too many."""
    by_phase: dict[str, list[tuple[int, int]]] = {}
    for stretch in attribution.stretches:
        phase = stretch.cause.phase if stretch.cause.activity == "working" else ""
        start_ns, end_ns = max(stretch.start_ns, window_ns[0]), min(stretch.end_ns, window_ns[1])
        if start_ns < end_ns:
            by_phase.setdefault(phase, []).append((start_ns - window_ns[0], end_ns - window_ns[0]))
    last_ns = max(window_ns[1] - window_ns[0], 1)
    number = sum(map(len, by_phase.values()))
    axes.fill_between([0.0, last_ns / scale], 1.0, color=WAITING_COLOUR, linewidth=0, zorder=0)
    by_phase.pop("", None)
    if is_crowded(number, width_in_of(axes)):
        parts = [Part(phase, on_air[phase], *np.array(times).T) for phase, times in by_phase.items()]
        edges_ns = bin_edges((0, last_ns), number, width_in_of(axes))
        draw_stack(axes, parts, names, edges_ns, scale=scale, bottom=0.0, height=1.0)
    else:
        for phase, times in by_phase.items():
            drawn = span_style(phase, on_air[phase], names)
            boxes = [(start_ns / scale, (end_ns - start_ns) / scale) for start_ns, end_ns in times]
            look: dict[str, Any] = {
                "facecolor": drawn.colour,
                "edgecolor": HATCH_COLOUR,
                "hatch": drawn.hatch,
            }
            axes.broken_barh(boxes, (0.0, 1.0), linewidth=0.0, **look)
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks([0.5], ["decisive"])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _draw_losses(
    axes: "Axes",
    losses: Mapping[tuple[int, str], list[tuple[int, float]]],
    titles: Sequence[str],
    scale: float,
) -> None:
    tasks = list(dict.fromkeys(task for _, task in losses))
    for (index, task), course in losses.items():
        axes.plot(
            [time_ns / scale for time_ns, _ in course],
            [loss for _, loss in course],
            color=_RUN_COLOURS[index % len(_RUN_COLOURS)],
            linestyle=_RUN_LINES[index % len(_RUN_LINES)],
            linewidth=1.0,
            marker=_TASK_MARKERS[tasks.index(task) % len(_TASK_MARKERS)],
            markersize=1.8,
            label=of_task(legend_label(titles[index]), task),
        )
    axes.set_ylabel("held-out loss, nats", labelpad=1.0)
    axes.legend(frameon=False, fontsize=6.5, loc="upper right", handlelength=3.0)
    axes.grid(color="#DDDDDD", linewidth=0.4)


def _draw_legend(figure: "Figure", names: tuple[str, ...], on_air: dict[str, bool], num_columns: int) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=drawn.colour,
            hatch=2 * drawn.hatch,
            edgecolor=HATCH_COLOUR,
            linewidth=0,
            label=name.replace("_", " "),
        )
        for name, drawn in ((name, span_style(name, on_air[name], names)) for name in names)
    ]
    pause = Patch(facecolor=WAITING_COLOUR, linewidth=0, label="queueing, waiting")
    figure.legend(
        handles=[*handles, pause],
        loc="outside lower center",
        ncols=num_columns,
        frameon=False,
        fontsize=6.5,
        handlelength=2.0,
        columnspacing=1.2,
        labelspacing=0.25,
        borderpad=0.1,
    )
