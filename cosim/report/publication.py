"""A figure for print: chosen rounds as lanes, and who held which subchannel meanwhile, a column wide."""

from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cosim.errors import RecordError
from cosim.files import check_output, write_output
from cosim.record.folder import Record
from cosim.report.gantt import HATCH_COLOUR, Chart, chart, draw_bars, labelled_rows, time_unit
from cosim.report.lettering import lettered
from cosim.report.span_style import OWNER_COLOURS, span_style
from cosim.report.spans import is_client
from cosim.report.subchannel_grants import SubchannelGrants

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

WIDTHS_IN = {"column": 3.5, "page": 7.16}
"""One and two columns of a two-column IEEE page, inches."""

DOTS_PER_INCH = 600

_FORMATS = {".png": "png", ".pdf": "pdf"}
_LANE_IN = 0.15
_MOST_TALL_LANES = 14
_SUBCHANNEL_IN, _LEAST_GRID_IN, _MOST_GRID_IN = 0.055, 0.3, 1.1
_MOST_NUMBERS = 400
_LEAST_POINTS = 3.2
_MOST_OWNERS = len(OWNER_COLOURS)
STYLE = {
    "font.family": "sans-serif",
    "font.size": 7.0,
    "axes.linewidth": 0.5,
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.0,
    "xtick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "hatch.linewidth": 0.35,
    "pdf.fonttype": 42,  # letters stay letters: publishers refuse type 3 fonts
}
_LIGHT_INK_ON = ("#0072B2", "#009E73", "#D55E00", "#7F7F7F")


@dataclass(frozen=True, eq=False)
class Grid:
    """Who held which subchannels of a link, as boxes of neighbouring subchannels.

    Attributes
    ----------
    link
        Its name.
    num_subchannels
        Of the link.
    boxes
        (client, first subchannel, number of subchannels, from_ns, to_ns) of each.
    """

    link: str
    num_subchannels: int
    boxes: tuple[tuple[int, int, int, int, int], ...]


def write_figure(
    record: Record,
    path: Path,
    *,
    first_round: int | None = None,
    last_round: int | None = None,
    width: Literal["column", "page"] = "column",
    force: bool = False,
) -> None:
    """Write chosen rounds of a run as a figure for print, PNG or PDF by the name of the file.

    Parameters
    ----------
    record
        The run.
    path
        Ends in ``.png`` (600 dots an inch) or ``.pdf``.
    first_round, last_round
        Rounds to show, both included; the first round alone without them.
    width
        As wide as one column or as a page.
    force
        Replace a file that is there.

    Raises
    ------
    RecordError
        If the run has no span in these rounds or cannot be read, or the file is
        neither kind, is there already or cannot be written.
    """
    kind = figure_format(path)
    check_output(path, force=force)
    shown = chart(record, first_round, last_round)
    save(figure_of(shown, grids(record, shown), WIDTHS_IN[width]), path, kind, force=force)


def figure_format(path: Path) -> str:
    """Return ``png`` or ``pdf``.

    Raises
    ------
    RecordError
        If the name of the file ends in neither.
    """
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise RecordError(f"{path}: a figure is a .png or a .pdf; give the file one of these endings.")
    return kind


def save(figure: "Figure", path: Path, kind: str, *, force: bool) -> None:
    """Write a figure whole or not at all, the same bytes each time.

    Raises
    ------
    RecordError
        If the file is there and ``force`` is not set, or cannot be written.
    """
    no_date = {"CreationDate": None} if kind == "pdf" else {"Software": "cosim"}
    content = BytesIO()
    with lettered(STYLE):
        figure.savefig(content, format=kind, dpi=DOTS_PER_INCH, metadata=no_date)
    write_output(path, content.getvalue(), force=force)


def grids(record: Record, shown: Chart) -> tuple[Grid, ...]:
    """Return who held which subchannels while a chart's lanes go on; free links have none."""
    held = SubchannelGrants.of(record, shown.length_ns)
    within = (held.start_ns < shown.to_ns) & (held.end_ns > shown.from_ns)
    found = []
    for index, link in enumerate(held.links):
        mine = np.flatnonzero(within & (held.link == index))
        if not len(mine):
            continue
        start_ns = np.maximum(held.start_ns[mine], shown.from_ns)
        end_ns = np.minimum(held.end_ns[mine], shown.to_ns)
        order = np.lexsort((held.subchannel[mine], end_ns, start_ns, held.client[mine]))
        rows = np.stack([held.client[mine], held.subchannel[mine], start_ns, end_ns], axis=1)[order]
        new = np.ones(len(rows), dtype=np.bool_)
        new[1:] = (np.diff(rows[:, [0, 2, 3]], axis=0) != 0).any(axis=1) | (np.diff(rows[:, 1]) != 1)
        firsts = np.flatnonzero(new)
        counts = np.diff(np.append(firsts, len(rows)))
        boxes = tuple(
            (int(client), int(first), int(number), int(from_ns), int(to_ns))
            for (client, first, from_ns, to_ns), number in zip(rows[firsts], counts, strict=True)
        )
        found.append(Grid(link, held.num_subchannels[index], boxes))
    return tuple(found)


def figure_of(shown: Chart, shown_grids: tuple[Grid, ...], width_in: float) -> "Figure":
    """Return the figure: lanes above, a panel for each link below, and a legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    parts = _parts(shown)
    lanes_in = [_LANE_IN * min(len(part.lanes), _MOST_TALL_LANES) + _extra_in(part) for part in parts]
    num_columns = 2 if width_in < 5.0 else 4
    handles = [*_phases(shown), *_owners(shown_grids)]
    num_legend_rows = -(-len(handles) // num_columns)
    heights = [*lanes_in, *map(_grid_in, shown_grids)]
    height_in = sum(heights) + 0.12 * len(heights) + 0.35 + 0.14 * num_legend_rows
    with lettered(STYLE):
        layout = ConstrainedLayoutEngine(h_pad=0.015, w_pad=0.01, hspace=0.02)
        figure = Figure(figsize=(width_in, height_in), layout=layout)
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(heights), 1, height_ratios=heights, sharex=True, squeeze=False)[:, 0]
        unit, scale = time_unit(shown.to_ns - shown.from_ns)
        for panel, part in zip(panels, parts, strict=False):
            _draw_lanes(panel, part, scale)
        for panel, grid in zip(panels[len(parts) :], shown_grids, strict=True):
            _draw_grid(panel, grid, scale, (shown.to_ns - shown.from_ns) / scale, width_in)
        for panel in panels:
            for side in ("top", "right", "left"):
                panel.spines[side].set_visible(False)
            panel.tick_params(axis="y", length=0, pad=1.5)
        panels[0].set_xlim(shown.from_ns / scale, shown.to_ns / scale)
        panels[-1].set_xlabel(f"simulated time, {unit}", labelpad=1.5)
        _draw_legend(figure, handles, num_columns)
    return figure


def _parts(shown: Chart) -> tuple[Chart, ...]:
    """Return the lanes in one part, or, where there are many clients, the servers in one of their own."""
    clients = tuple(lane for lane in shown.lanes if is_client(lane.actor))
    if len(shown.lanes) <= _MOST_TALL_LANES or not clients or len(clients) == len(shown.lanes):
        return (shown,)
    servers = tuple(lane for lane in shown.lanes if not is_client(lane.actor))
    return replace(shown, lanes=clients), replace(shown, lanes=servers)


def _extra_in(part: Chart) -> float:
    return 0.012 * min(max(len(part.lanes) - _MOST_TALL_LANES, 0), 100)


def _grid_in(grid: Grid) -> float:
    return min(max(_SUBCHANNEL_IN * grid.num_subchannels, _LEAST_GRID_IN), _MOST_GRID_IN)


def _draw_lanes(axes: "Axes", shown: Chart, scale: float) -> None:
    shortest_ns = 0.002 * (shown.to_ns - shown.from_ns)
    for row in range(len(shown.lanes)) if len(shown.lanes) <= _MOST_TALL_LANES else ():
        axes.axhspan(row - 0.4, row + 0.4, color="#F4F4F4", linewidth=0, zorder=0)
    draw_bars(axes, shown, scale, shortest_ns, linewidth=0.5)
    for _, from_ns in shown.rounds if len(shown.rounds) > 1 else ():
        axes.axvline(from_ns / scale, color="#000000", linewidth=0.5, linestyle=(0, (4, 3)), zorder=4)
    labelled = labelled_rows(shown.lanes)
    axes.set_yticks(labelled, [shown.lanes[row].actor.replace("-", " ") for row in labelled])
    axes.set_ylim(len(shown.lanes) - 0.5, -0.5)


def _draw_grid(axes: "Axes", grid: Grid, scale: float, length: float, width_in: float) -> None:
    """Draw boxes in the colour of their owner, with the owner's number where there is room for it."""
    from matplotlib.collections import PolyCollection

    points_each = _grid_in(grid) * 72.0 / grid.num_subchannels
    points_per_time = 0.75 * width_in * 72.0 / max(length, 1e-12)
    by_colour: dict[str, list[list[tuple[float, float]]]] = {}
    for client, first, number, from_ns, to_ns in grid.boxes:
        left, right, top, bottom = from_ns / scale, to_ns / scale, first - 0.5, first + number - 0.5
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        by_colour.setdefault(OWNER_COLOURS[client % len(OWNER_COLOURS)], []).append(corners)
    edge = 0.25 if points_each > 1.5 else 0.0
    for colour, boxes in by_colour.items():
        axes.add_collection(
            PolyCollection(boxes, facecolors=colour, edgecolors="white", linewidths=edge), autolim=False
        )
    for client, first, number, from_ns, to_ns in grid.boxes if len(grid.boxes) <= _MOST_NUMBERS else ():
        colour = OWNER_COLOURS[client % len(OWNER_COLOURS)]
        begin, wide = from_ns / scale, (to_ns - from_ns) / scale
        height_points = points_each * number
        size = min(0.85 * height_points, 5.5)
        text = str(client)
        if size >= _LEAST_POINTS and wide * points_per_time > 0.7 * size * len(text):
            ink = "white" if colour in _LIGHT_INK_ON else "black"
            axes.text(
                begin + wide / 2.0,
                first + (number - 1) / 2.0,
                text,
                color=ink,
                fontsize=size,
                ha="center",
                va="center_baseline",
                clip_on=True,
            )
    axes.set_ylim(grid.num_subchannels - 0.5, -0.5)
    axes.set_yticks([0, grid.num_subchannels - 1] if grid.num_subchannels > 1 else [0])
    axes.set_ylabel(
        grid.link.replace("_", "\n"), fontsize=6.0, rotation=0, ha="right", va="center", labelpad=8
    )


def _phases(shown: Chart) -> "list[Patch]":
    from matplotlib.patches import Patch

    is_transfer = {bars.name: bars.is_transfer for lane in shown.lanes for bars in lane.bars}
    styles = {name: span_style(name, is_transfer[name], shown.names) for name in shown.names}
    return [
        Patch(
            facecolor=drawn.colour,
            hatch=2 * drawn.hatch,
            edgecolor=HATCH_COLOUR,
            linewidth=0,
            label=name.replace("_", " "),
        )
        for name, drawn in styles.items()
    ]


def _owners(shown_grids: tuple[Grid, ...]) -> "list[Patch]":
    """Return a key of the owners, if they are few enough to have a colour each."""
    from matplotlib.patches import Patch

    clients = sorted({client for grid in shown_grids for client, *_ in grid.boxes})
    if len(clients) > _MOST_OWNERS:
        return []
    return [
        Patch(facecolor=OWNER_COLOURS[client % _MOST_OWNERS], linewidth=0, label=f"held by client {client}")
        for client in clients
    ]


def _draw_legend(figure: "Figure", handles: "list[Patch]", num_columns: int) -> None:
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=num_columns,
        frameon=False,
        fontsize=6.5,
        handlelength=2.0,
        handleheight=0.9,
        columnspacing=1.2,
        labelspacing=0.25,
        borderpad=0.1,
    )
