"""A figure for print, a column wide: chosen rounds as lanes, who held how much of the band, and the loss."""

from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cosim.errors import RecordError
from cosim.files import check_output, write_output
from cosim.record.folder import Record
from cosim.report.chart import Chart, chart
from cosim.report.gantt import (
    draw_bars,
    draw_crowd,
    draw_losses,
    labelled_rows,
    legend_handles,
    time_unit,
    width_in_of,
)
from cosim.report.lettering import lettered
from cosim.report.span_style import OWNER_COLOURS, ink_on
from cosim.report.spans import is_client
from cosim.report.stacks import bin_edges, occupancy
from cosim.report.subchannel_grants import SubchannelGrants
from cosim.units import Floats, Ints

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

WIDTHS_IN = {"column": 3.5, "page": 7.16}
"""One and two columns of a two-column IEEE page, inches."""

DOTS_PER_INCH = 600

_FORMATS = {".png": "png", ".pdf": "pdf", ".svg": "svg"}
_LANE_IN = 0.15
_MOST_TALL_LANES = 14
_BAND_IN, _LOSS_IN, _CROWD_IN = 0.42, 0.8, 0.6
_MOST_CHANGES = 200
_MOST_OWNERS = len(OWNER_COLOURS)
_OTHERS_COLOUR = "#C8C8C8"
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
    "legend.fontsize": 6.0,
    "pdf.fonttype": 42,  # letters stay letters: publishers refuse type 3 fonts
    "svg.hashsalt": "cosim",  # the same names of clips each time
}


@dataclass(frozen=True, eq=False)
class Band:
    """Who held subchannels of a link while the lanes go on.

    Attributes
    ----------
    link
        Its name.
    num_subchannels
        Of the link.
    client, start_ns, end_ns
        Who held one subchannel, and from when to when, shape (num_grants,).
    """

    link: str
    num_subchannels: int
    client: Ints
    start_ns: Ints
    end_ns: Ints


def write_figure(
    record: Record,
    path: Path,
    *,
    first_round: int | None = None,
    last_round: int | None = None,
    width: Literal["column", "page"] = "column",
    force: bool = False,
) -> None:
    """Write chosen rounds of a run as a figure for print, PNG, PDF or SVG by the name of the file.

    Parameters
    ----------
    record
        The run.
    path
        Ends in ``.png`` (600 dots an inch), ``.pdf`` or ``.svg``.
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
        of no such kind, is there already or cannot be written.
    """
    kind = figure_format(path)
    check_output(path, force=force)
    shown = chart(record, first_round, last_round)
    save(figure_of(shown, bands(record, shown), WIDTHS_IN[width]), path, kind, force=force)


def figure_format(path: Path) -> str:
    """Return ``png``, ``pdf`` or ``svg``.

    Raises
    ------
    RecordError
        If the name of the file ends in none of them.
    """
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise RecordError(
            f"{path}: a figure is a .png, a .pdf or a .svg; give the file one of these endings."
        )
    return kind


def save(figure: "Figure", path: Path, kind: str, *, force: bool) -> None:
    """Write a figure whole or not at all, the same bytes each time.

    Raises
    ------
    RecordError
        If the file is there and ``force`` is not set, or cannot be written.
    """
    no_date = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind, {"Software": "cosim"})
    content = BytesIO()
    with lettered(STYLE):
        figure.savefig(content, format=kind, dpi=DOTS_PER_INCH, metadata=no_date)
    write_output(path, content.getvalue(), force=force)


def bands(record: Record, shown: Chart) -> tuple[Band, ...]:
    """Return who held subchannels while a chart's lanes go on, link by link; free links have none."""
    held = SubchannelGrants.of(record, shown.length_ns)
    within = (held.start_ns < shown.to_ns) & (held.end_ns > shown.from_ns)
    found = []
    for index, link in enumerate(held.links):
        mine = np.flatnonzero(within & (held.link == index))
        if len(mine):
            window = shown.from_ns, shown.to_ns
            times = (np.clip(one[mine], *window) for one in (held.start_ns, held.end_ns))
            found.append(Band(link, held.num_subchannels[index], held.client[mine], *times))
    return tuple(found)


def figure_of(shown: Chart, shown_bands: tuple[Band, ...], width_in: float) -> "Figure":
    """Return the figure: lanes above, a panel for each link and the loss below, and a legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    parts = _parts(shown)
    crowd_in = [_CROWD_IN] if shown.crowd else []
    lanes_in = [_LANE_IN * min(len(part.lanes), _MOST_TALL_LANES) + _extra_in(part) for part in parts]
    over_time = [*crowd_in, *lanes_in, *([_BAND_IN] * len(shown_bands))]
    heights = [*over_time, *([_LOSS_IN] if shown.losses else [])]
    num_columns = 2 if width_in < 5.0 else 4
    owners = _owners(shown_bands)
    with lettered(STYLE):
        handles = [*legend_handles(shown, 0.78 * width_in), *_owner_keys(owners)]
        height_in = sum(heights) + 0.12 * len(heights) + 0.4 + 0.14 * -(-len(handles) // num_columns)
        layout = ConstrainedLayoutEngine(h_pad=0.015, w_pad=0.01, hspace=0.02)
        figure = Figure(figsize=(width_in, height_in + (0.3 if shown.losses else 0.0)), layout=layout)
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        left = list(panels)
        if shown.crowd:
            draw_crowd(left.pop(0), shown)
        _, scale = time_unit(shown.to_ns - shown.from_ns)
        for part in parts:
            _draw_lanes(left.pop(0), part, scale)
        for band in shown_bands:
            _draw_band(left.pop(0), band, owners, shown, scale)
        _share_time(list(panels[: len(over_time)]), shown)
        if shown.losses:
            draw_losses(left.pop(0), shown)
        _draw_legend(figure, handles, num_columns)
    return figure


def _share_time(panels: "list[Axes]", shown: Chart) -> None:
    """Give panels the same axis of time, written below the last."""
    unit, scale = time_unit(shown.to_ns - shown.from_ns)
    for panel in panels:
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
        panel.tick_params(axis="y", length=0, pad=1.5)
        panel.tick_params(axis="x", labelbottom=panel is panels[-1])
        panel.set_xlim(shown.from_ns / scale, shown.to_ns / scale)
    panels[-1].set_xlabel(f"simulated time, {unit}", labelpad=1.5)


def _parts(shown: Chart) -> tuple[Chart, ...]:
    """Return the lanes in one part, or, where there are many clients, the servers in one of their own."""
    clients = tuple(lane for lane in shown.lanes if is_client(lane.actor))
    if len(shown.lanes) <= _MOST_TALL_LANES or not clients or len(clients) == len(shown.lanes):
        return (shown,)
    servers = tuple(lane for lane in shown.lanes if not is_client(lane.actor))
    return replace(shown, lanes=clients), replace(shown, lanes=servers)


def _extra_in(part: Chart) -> float:
    return 0.012 * min(max(len(part.lanes) - _MOST_TALL_LANES, 0), 100)


def _draw_lanes(axes: "Axes", shown: Chart, scale: float) -> None:
    shortest_ns = 0.002 * (shown.to_ns - shown.from_ns)
    draw_bars(axes, shown, scale, shortest_ns, linewidth=0.5)
    for _, from_ns in shown.rounds if len(shown.rounds) > 1 else ():
        axes.axvline(from_ns / scale, color="#000000", linewidth=0.5, linestyle=(0, (4, 3)), zorder=4)
    labelled = labelled_rows(shown.lanes)
    axes.set_yticks(labelled, [shown.lanes[row].label.replace("-", " ") for row in labelled])
    axes.set_ylim(len(shown.lanes) - 0.5, -0.5)


def _owners(shown_bands: tuple[Band, ...]) -> tuple[int, ...]:
    """Return the clients that have a colour: all, or of very many those that held the most."""
    held: dict[int, int] = {}
    for band in shown_bands:
        for client in np.unique(band.client).tolist():
            mine = band.client == client
            held[client] = held.get(client, 0) + int((band.end_ns - band.start_ns)[mine].sum())
    if len(held) <= _MOST_OWNERS:
        return tuple(sorted(held))
    most = sorted(held, key=lambda client: (-held[client], client))[: _MOST_OWNERS - 1]
    return (*sorted(most), -1)


def shares(band: Band, owners: tuple[int, ...], edges_ns: Floats) -> Floats:
    """Return how many subchannels each owner holds, on average between edges.

    The shape is (num_owners, num_edges - 1); -1 among the owners is all others together.
    """
    rows = [band.client == one if one >= 0 else ~np.isin(band.client, owners) for one in owners]
    return np.stack([occupancy(band.start_ns[row], band.end_ns[row], edges_ns) for row in rows])


def _draw_band(axes: "Axes", band: Band, owners: tuple[int, ...], shown: Chart, scale: float) -> None:
    """Stack how many subchannels each client holds, with its number where the stack is wide enough."""
    edges_ns = np.unique(np.concatenate([band.start_ns, band.end_ns, [shown.from_ns, shown.to_ns]])).astype(
        float
    )
    if len(edges_ns) > _MOST_CHANGES:
        edges_ns = bin_edges((shown.from_ns, shown.to_ns), len(edges_ns), width_in_of(axes))
    base = np.zeros(len(edges_ns) - 1)
    longest = int(np.diff(edges_ns).argmax())
    for owner, held in zip(owners, shares(band, owners, edges_ns), strict=True):
        colour = _colour_of(owners, owner)
        top = base + held
        axes.stairs(top, edges_ns / scale, baseline=base, fill=True, facecolor=colour, linewidth=0.0)
        if held[longest] * _BAND_IN * 72.0 > 5.0 * band.num_subchannels and owner >= 0:
            at = (edges_ns[longest] + edges_ns[longest + 1]) / 2.0 / scale
            middle = base[longest] + held[longest] / 2.0
            style: dict[str, Any] = {
                "fontsize": 4.5,
                "ha": "center",
                "va": "center_baseline",
                "clip_on": True,
            }
            axes.text(at, middle, str(owner), color=ink_on(colour), **style)
        base = top
    axes.set_ylim(0, band.num_subchannels)
    axes.set_yticks([0, band.num_subchannels])
    label = f"{band.link.replace('_', chr(10))}\nsubchannels"
    axes.set_ylabel(label, fontsize=6.0, rotation=0, ha="right", va="center", labelpad=4)


def _colour_of(owners: tuple[int, ...], owner: int) -> str:
    return OWNER_COLOURS[owners.index(owner)] if owner >= 0 else _OTHERS_COLOUR


def _owner_keys(owners: tuple[int, ...]) -> "list[Patch]":
    from matplotlib.patches import Patch

    return [
        Patch(
            facecolor=_colour_of(owners, one),
            linewidth=0,
            label=f"held by client {one}" if one >= 0 else "held by others",
        )
        for one in owners
    ]


def _draw_legend(figure: "Figure", handles: "list[Patch | Line2D]", num_columns: int) -> None:
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
