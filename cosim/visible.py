"""Text that others wrote, as it may be shown: no letter of it does anything to the terminal."""

import sys
from typing import TextIO
from unicodedata import category

_HIDDEN = {"Cc", "Cs", "Zl", "Zp"}
"""Control characters, halves of surrogate pairs, and separators of lines and paragraphs."""

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Letters that turn the direction of what follows, and so show a text that is not there."""


def visible(text: str, keep: str = "") -> str:
    r"""Return a text with everything a terminal would obey written out as an escape.

    ``keep`` are control characters that stay as they are, such as the line ends between
    the lines of a message.

    Examples
    --------
    >>> print(visible("a\x1b[31mb"), visible("\u202egnp.exe"), visible("a\nb"), visible("µ ö 語"))
    a\x1b[31mb \u202egnp.exe a\nb µ ö 語
    >>> visible("a\nb", keep="\n")
    'a\nb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter if letter in keep or not (category(letter) in _HIDDEN or letter in _BIDI) else _escaped(letter)
        for letter in text
    )


def show_line(line: object, *, file: TextIO | None = None, flush: bool = False) -> None:
    """Print a line that others may have had a part in; the modules of the command line call it ``print``."""
    print(visible(str(line)), file=sys.stdout if file is None else file, flush=flush)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")
