"""Names in figures: shown letter by letter, and in a font that has their letters where there is one."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_FURTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans CJK TC", "Source Han Sans SC"),
    *(
        "WenQuanYi Micro Hei",
        "WenQuanYi Zen Hei",
        "Droid Sans Fallback",
        "IPAexGothic",
        "IPAGothic",
        "TakaoPGothic",
    ),
    *(
        "VL Gothic",
        "NanumGothic",
        "UnDotum",
        "PingFang SC",
        "Hiragino Sans",
        "Hiragino Sans GB",
        "Apple SD Gothic Neo",
    ),
    *(
        "Microsoft YaHei",
        "SimHei",
        "SimSun",
        "MS Gothic",
        "Yu Gothic",
        "Meiryo",
        "Malgun Gothic",
        "Arial Unicode MS",
    ),
    *(
        "Noto Sans",
        "Noto Sans Arabic",
        "Noto Sans Hebrew",
        "Noto Sans Devanagari",
        "Noto Sans Thai",
        "FreeSans",
    ),
    *("Noto Sans Symbols", "Noto Sans Symbols 2", "Noto Emoji", "Symbola", "Segoe UI Symbol", "Unifont"),
)
"""Fonts with letters that matplotlib's own lacks, the likely ones of all systems."""

_OF_NO_USE = (r"Glyph .* missing from", r"constrained_layout not applied", r".*[Tt]ight layout not applied")
"""What matplotlib says of a name in letters nobody has, or far too long: it is drawn as well as may be."""


@contextmanager
def lettered(style: dict[str, Any]) -> Iterator[None]:
    """Make and save figures in a style; every text in them is shown as it is, ``$`` and all.

    A letter that no installed font has is drawn as an empty box.
    """
    from matplotlib import rc_context

    fonts = {"font.family": ["sans-serif", *_installed()], "text.parse_math": False, "text.usetex": False}
    with warnings.catch_warnings(), rc_context({**style, **fonts}):
        for message in _OF_NO_USE:
            warnings.filterwarnings("ignore", message=message)
        yield


def legend_label(name: str) -> str:
    """Return a name as the label of something drawn; matplotlib leaves those with a leading ``_`` out.

    Examples
    --------
    >>> legend_label("_x"), legend_label("x_")
    (' _x', 'x_')
    """
    return f" {name}" if name.startswith("_") else name


@cache
def _installed() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return tuple(name for name in _FURTHER_FONTS if name in there)
