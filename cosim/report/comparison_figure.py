"""Several runs as a figure for print: the clients, what decided the time, and the losses, on one axis."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cosim.errors import RecordError
from cosim.files import check_output
from cosim.record.folder import Record
from cosim.report.attribution import Attribution, attribute
from cosim.report.gantt import HATCH_COLOUR, time_unit
from cosim.report.learning import held_out_losses, of_task
from cosim.report.lettering import legend_label, lettered
from cosim.report.page.comparison_page import run_titles
from cosim.report.publication import STYLE, WIDTHS_IN, figure_format, save
from cosim.report.rounds import Rounds
from cosim.report.span_style import span_style
from cosim.report.spans import Spans, length_ns
from cosim.units import Floats, Ints

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NUM_BINS = 600
_CROWD_IN, _PATH_IN, _LOSS_IN = 0.62, 0.16, 1.1
_RUN_COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
_RUN_LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1)), "-.")
_TASK_MARKERS = ("o", "s", "^", "D")
_PAUSE = "#D9D9D9"


def write_comparison_figure(
    records: Sequence[Record],
    path: Path,
    *,
    first_round: int | None = None,
    last_round: int | None = None,
    width: Literal["column", "page"] = "column",
    force: bool = False,
) -> None:
    """Write several runs above each other as a figure for print, PNG or PDF by the name of the file.

    Parameters
    ----------
    records
        At least two runs.
    path
        Ends in ``.png`` or ``.pdf``.
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


def occupancy(start_ns: Ints, end_ns: Ints, edges_ns: Floats) -> Floats:
    """Return how many intervals go on at a time, on average between edges, shape (num_edges - 1,).

    Examples
    --------
    >>> occupancy(np.array([0, 5]), np.array([10, 10]), np.array([0.0, 5.0, 10.0, 20.0])).tolist()
    [1.0, 2.0, 0.0]
    """

    def until(times_ns: Ints) -> Floats:
        ordered = np.sort(times_ns).astype(np.float64)
        sums = np.concatenate([[0.0], np.cumsum(ordered)])
        count = np.searchsorted(ordered, edges_ns)
        return np.asarray(count * edges_ns - sums[count])

    return np.asarray(np.diff(until(start_ns) - until(end_ns)) / np.diff(edges_ns))


def _window(record: Record, spans: Spans, first: int | None, last: int | None) -> tuple[int, int]:
    """Return from when to when a run is shown, ns."""
    total_ns = length_ns(record, spans)
    if first is None or last is None:
        return 0, total_ns
    rounds = Rounds.of(record, total_ns)
    return rounds.window_ns(rounds.between(record, first, last))


def _figure(
    records: Sequence[Record], all_spans: Sequence[Spans], windows: Sequence[tuple[int, int]], width_in: float
) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    attributions = [attribute(record, spans) for record, spans in zip(records, all_spans, strict=True)]
    total_ns = max(max(to_ns - from_ns for from_ns, to_ns in windows), 1)
    names = tuple(dict.fromkeys(name for spans in all_spans for name in spans.names))
    titles = run_titles(records)
    losses = {
        (index, task): [
            (time_ns - from_ns, loss) for time_ns, _, loss in course if from_ns <= time_ns <= to_ns
        ]
        for index, (record, (from_ns, to_ns)) in enumerate(zip(records, windows, strict=True))
        for task, course in held_out_losses(record).items()
    }
    heights = [_CROWD_IN, _PATH_IN] * len(records) + ([_LOSS_IN] if any(losses.values()) else [])
    unit, scale = time_unit(total_ns)
    num_columns = 2 if width_in < 5.0 else 4
    height_in = sum(heights) + 0.1 * len(heights) + 0.5 + 0.14 * -(-(len(names) + 1) // num_columns)
    with lettered(STYLE):
        layout = ConstrainedLayoutEngine(h_pad=0.01, w_pad=0.01, hspace=0.01)
        figure = Figure(figsize=(width_in, height_in), layout=layout)
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(heights), 1, height_ratios=heights, sharex=True, squeeze=False)[:, 0]
        edges_ns = np.linspace(0.0, total_ns, _NUM_BINS + 1)
        for index, spans in enumerate(all_spans):
            crowd, path = panels[2 * index], panels[2 * index + 1]
            _draw_crowd(crowd, spans, names, edges_ns, windows[index], scale)
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
    axes: "Axes",
    spans: Spans,
    names: tuple[str, ...],
    edges_ns: Floats,
    window_ns: tuple[int, int],
    scale: float,
) -> None:
    """Stack how many clients do what at a time."""
    from_ns, to_ns = window_ns
    base = np.zeros(_NUM_BINS)
    rows, _ = spans.of_clients
    for at, name in enumerate(spans.names):
        chosen = rows[(spans.name[rows] == at) & (spans.duration_ns[rows] > 0)]
        chosen = chosen[(spans.end_ns[chosen] > from_ns) & (spans.start_ns[chosen] < to_ns)]
        if not len(chosen):
            continue
        drawn = span_style(name, bool(spans.is_transfer[chosen][0]), names)
        top = base + occupancy(
            spans.start_ns[chosen] - from_ns, np.minimum(spans.end_ns[chosen], to_ns) - from_ns, edges_ns
        )
        axes.stairs(top, edges_ns / scale, baseline=base, fill=True, color=drawn.colour, linewidth=0)
        base = top
    most = max(len(spans.clients), 1)
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
    """Draw the cause of every instant along the critical path."""
    by_phase: dict[str, list[tuple[float, float]]] = {}
    for stretch in attribution.stretches:
        phase = stretch.cause.phase if stretch.cause.activity == "working" else ""
        start_ns, end_ns = max(stretch.start_ns, window_ns[0]), min(stretch.end_ns, window_ns[1])
        if start_ns >= end_ns:
            continue
        box = ((start_ns - window_ns[0]) / scale, (end_ns - start_ns) / scale)
        by_phase.setdefault(phase, []).append(box)
    for phase, boxes in by_phase.items():
        drawn = span_style(phase, on_air[phase], names) if phase else None
        axes.broken_barh(
            boxes,
            (0.0, 1.0),
            facecolor=drawn.colour if drawn else _PAUSE,
            edgecolor=HATCH_COLOUR,
            hatch=drawn.hatch if drawn else "-----",
            linewidth=0.0,
        )
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
    pause = Patch(
        facecolor=_PAUSE, hatch="-----", edgecolor=HATCH_COLOUR, linewidth=0, label="queueing, waiting"
    )
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
