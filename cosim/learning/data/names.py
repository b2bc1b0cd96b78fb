"""What to say of a name that a text file, a table or a corpus does not have."""

from collections.abc import Iterable
from difflib import get_close_matches

from cosim.errors import quoted


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return what to say of a name nobody knows, with the known ones and the likely one.

    Examples
    --------
    >>> unknown("column", "txt", ["text", "label"])
    "no column 'txt'; known: label, text; did you mean 'text'?"
    """
    names = sorted(known)
    shown = ", ".join(repr(name)[1:-1] for name in names[:20]) or "none"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    close = get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"no {what} {quoted(name)}; known: {shown}{more}{hint}"
