"""Figures for a paper, one panel each: PDF and SVG, a column wide."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosim.report.lettering import lettered
from cosim.report.publication import STYLE, WIDTHS_IN, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panel = tuple[float, str, Callable[["Axes"], None]]
"""How high a panel is, in, what it shows, and what draws it."""


def write_panels(panels: Sequence[Panel], folder: Path, *, force: bool = False) -> list[Path]:
    """Write each panel as a PDF and an SVG named after what it shows, without a title; return the files.

    Raises
    ------
    RecordError
        If one of them is there and ``force`` is not set, or cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    written = []
    for height_in, title, draw in panels:
        with lettered(STYLE):
            figure = Figure(figsize=(WIDTHS_IN["column"], height_in), layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.subplots()
            draw(axes)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        written += write_both(figure, folder / file_name(title), force=force)
    return written


def write_both(figure: "Figure", path: Path, *, force: bool) -> list[Path]:
    """Write a figure as PDF and as SVG; ``path`` is without an ending.

    Raises
    ------
    RecordError
        If one of them is there and ``force`` is not set, or cannot be written.
    """
    written = [path.with_name(f"{path.name}.{kind}") for kind in ("pdf", "svg")]
    for one in written:
        save(figure, one, one.suffix[1:], force=force)
    return written


def file_name(title: str) -> str:
    """Return a title as the name of a file.

    Examples
    --------
    >>> file_name("total delay, paired differences"), file_name("loss/µ")
    ('total_delay_paired_differences', 'loss')
    """
    words = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in title).split()
    return "_".join(words) or "panel"
