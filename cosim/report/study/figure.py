"""A study as a figure for print: a panel a question, and the credibility box below."""

from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from cosim.report.figures import Panel
from cosim.report.lettering import lettered
from cosim.report.publication import STYLE, WIDTHS_IN, figure_format, save
from cosim.report.quantities import percent
from cosim.report.study.findings import best_pair
from cosim.report.study.panels import (
    draw_convergence,
    draw_effect,
    draw_forest,
    draw_front,
    draw_heat,
    draw_indices,
    draw_points,
    draw_response,
    forest_rows,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL_IN, _ROW_IN, _LINE_IN = 2.05, 0.135, 0.108
_MOST_MEASURES = 4
_MOST_RANGES = 4
_LETTERS_A_LINE = 178


def write_study_figure(content: dict[str, Any], path: Path) -> None:
    """Write the figure, PNG or PDF by the name of the file; one that is there is replaced.

    Parameters
    ----------
    content
        As :func:`cosim.report.study.content.study_content` gives it.
    path
        Ends in ``.png`` or ``.pdf``.

    Raises
    ------
    RecordError
        If the file is neither or cannot be written.
    """
    kind = figure_format(path)
    save(study_figure(content), path, kind, force=True)


def study_figure(content: dict[str, Any]) -> "Figure":
    """Return the figure, two columns of panels wide."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = panels_of(content) or [(0.6, "nothing varies", _draw_nothing)]
    rows = [panels[at : at + 2] for at in range(0, len(panels), 2)]
    heights = [max(height for height, *_ in row) for row in rows]
    head, box = head_lines(content), box_lines(content)
    parts_in = [_LINE_IN * len(head) + 0.2, sum(heights) + 0.4 * len(heights), _LINE_IN * len(box) + 0.14]
    with lettered(STYLE):
        figure = Figure(figsize=(WIDTHS_IN["page"], sum(parts_in)))
        FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained", h_pad=0.04, w_pad=0.03, hspace=0.02, wspace=0.03)
        top, above, below = figure.subfigures(3, 1, height_ratios=parts_in, squeeze=False)[:, 0]
        top.text(0.008, 0.95, content["name"], fontsize=9.5, fontweight="bold", va="top")
        top.text(0.008, 0.95 - 0.19 / parts_in[0], "\n".join(head), fontsize=6.2, va="top", linespacing=1.25)
        lines = above.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
        letters = iter("abcdefghijklmnopqrstuvwxyz")
        for line, row in zip(lines, rows, strict=True):
            for place, (_, title, draw) in zip(
                line.subfigures(1, len(row), squeeze=False)[0], row, strict=True
            ):
                axes = place.subplots()
                title = f"({next(letters)}) {title}"
                axes.set_title(title, loc="left", fontsize=7.5, fontweight="bold", pad=3)
                draw(axes)
                for side in ("top", "right"):
                    axes.spines[side].set_visible(False)
        _draw_box(below, box)
    return figure


def panels_of(content: dict[str, Any]) -> list[Panel]:
    """Return the panels there is something for, in the order they are read."""
    varying = [one for one in content["measures"] if one["differs"]][:_MOST_MEASURES]
    panels: list[Panel] = [
        (_PANEL_IN, measure["label"], partial(draw_response, content=content, measure=measure))
        for measure in varying
        if measure["response"] is not None
    ]
    if varying and len(varying[0]["effects"]) > 2:
        panels += [
            (
                _PANEL_IN,
                f"{varying[0]['label']} over {content['factors'][effect['factor']]['label']}",
                partial(draw_effect, content=content, measure=varying[0], effect=effect),
            )
            for effect in varying[0]["effects"]
        ]
    if content["design"] == "ranges" and varying:
        main = varying[0]
        order = sorted(
            (at for at, factor in enumerate(content["factors"]) if factor["numeric"]),
            key=lambda at: -(main["indices"]["total"]["value"][at] if main["indices"] else 0.0),
        )
        for factor in order[:_MOST_RANGES]:
            title = f"{main['label']} over {content['factors'][factor]['label']}"
            panels.append(
                (_PANEL_IN, title, partial(draw_points, content=content, measure=main, factor=factor))
            )
    for measure in varying[:2]:
        rows = forest_rows(content, measure)
        if rows:
            height = max(_PANEL_IN, _ROW_IN * len(rows) + 0.3)
            title = f"{measure['label']}, paired differences"
            panels.append((height, title, partial(draw_forest, content=content, measure=measure)))
    if varying and (pair := best_pair(varying[0])) is not None:
        main = varying[0]
        panels.append(
            (
                _PANEL_IN,
                f"interaction, {main['label']}",
                partial(draw_heat, content=content, measure=main, heat=pair),
            )
        )
    if content["fronts"]:
        front = content["fronts"][0]
        panels.append((_PANEL_IN, "trade-off", partial(draw_front, content=content, front=front)))
    if content["convergence"]["cases"]:
        panels.append((_PANEL_IN, "convergence", partial(draw_convergence, content=content)))
    indexed = [one for one in varying if one["indices"] is not None][:3]
    if indexed:
        panels.append((_PANEL_IN, "sensitivity", partial(draw_indices, content=content, measures=indexed)))
    return panels


def head_lines(content: dict[str, Any]) -> list[str]:
    """Return what is below the name: the question, and what points and bars are."""
    level = f"{100 * content['confidence']:g} %"
    return [
        *wrap(content["description"], 150),
        *(part for line in content["unvaried"] for part in wrap(line, 150)),
        f"Means over replications with {level} intervals; hollow: no detectable difference.",
    ]


def box_lines(content: dict[str, Any]) -> list[str]:
    """Return the credibility box as lines that fit the width."""
    rows = [*content["credibility"]]
    told: dict[str, list[str]] = {}
    for one in content["measures"]:
        if one["indices"] is not None and one["differs"]:
            told.setdefault(_told(one["indices"]), []).append(one["label"])
    rows += [[f"indices of {', '.join(labels)}", text] for text, labels in told.items()]
    lines = []
    for what, text in rows:
        lines += wrap(f"{what}: {text}", _LETTERS_A_LINE, subsequent_indent="    ")
    for what in ("failed", "diverged"):
        for one in content[what][:3]:
            line = f"{what}: {one['case']}, replication {one['replication']}: {one['reason']}"
            lines += wrap(line, _LETTERS_A_LINE)
    return lines


def _told(indices: dict[str, Any]) -> str:
    if indices["explained"] is None:
        return str(indices["told"])
    return f"{indices['told']}; it predicts {percent(indices['explained'])} of the variance of cases left out"


def _draw_nothing(axes: "Axes") -> None:
    axes.set_axis_off()
    axes.text(0.0, 0.5, "Every measure is the same in all cases.", fontsize=7)


def _draw_box(place: Any, lines: list[str]) -> None:
    from matplotlib.patches import Rectangle

    place.add_artist(
        Rectangle(
            (0.008, 0.02),
            0.984,
            0.96,
            transform=place.transSubfigure,
            facecolor="#F6F6F6",
            edgecolor="#CCCCCC",
            lw=0.5,
        )
    )
    place.text(0.015, 0.94, "\n".join(lines), fontsize=5.3, va="top", ha="left", linespacing=1.3)
