"""Values as people read them, in tables and in messages."""

from reprlib import Repr
from typing import Any

_MOST_LETTERS = 80


def short(value: Any) -> str:
    """Return a value as a message repeats it: as Python writes it, with dots for what would be too long.

    Examples
    --------
    >>> short("10e6"), len(short("x" * 10_000)) < 100, short([[1] * 500] * 500)[:12], short(10**10_000)
    ("'10e6'", True, '[[1, 1, 1, 1', 'a whole number of 33220 bits')
    """
    return clipped(_REPR.repr(value))


def clipped(text: str, most: int = _MOST_LETTERS) -> str:
    """Return a text that a message repeats, with dots for its middle where it is too long.

    Examples
    --------
    >>> clipped("radio.fading.kind=none"), clipped("x" * 10_000, 20)
    ('radio.fading.kind=none', 'xxxxxxxxx ... xxxxxx')
    """
    if len(text) <= most:
        return text
    tail = (most - 5) * 2 // 5
    return f"{text[: most - 5 - tail]} ... {text[-tail:]}"


class _Short(Repr):
    """Writes no more of a value than a message shows."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 5
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = 20
        self.maxstring = self.maxother = _MOST_LETTERS - 2

    def repr_int(self, x: int, level: int) -> str:
        bits = x.bit_length()
        return f"a whole number of {bits} bits" if bits > 8 * _MOST_LETTERS else repr(x)


_REPR = _Short()


def shown(value: Any) -> str:
    """Return a setting's value as a person reads it, on one line; None is a setting left out.

    Examples
    --------
    >>> shown(1e7), shown(0.1), shown(True), shown({"kind": "rician", "k_factor": 3.0}), shown([1, 2])
    ('1e7', '0.1', 'true', 'rician(k_factor=3)', '[1, 2]')
    """
    if value is None:
        return "left out"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict):
        inner = ", ".join(f"{name}={shown(one)}" for name, one in value.items() if name != "kind")
        if "kind" not in value:
            return f"{{{inner}}}"
        return f"{value['kind']}({inner})" if inner else str(value["kind"])
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)


def _number(value: float) -> str:
    """Return the shortest text that is this float, an exponent without its zeros."""
    if value.is_integer() and abs(value) < 1e5:
        return str(int(value))
    mantissa, letter, exponent = repr(value).partition("e")
    if not letter and value.is_integer() and abs(value) < 1e16:
        digits = str(int(value)).rstrip("0")
        zeros = len(str(int(value))) - len(digits)
        if zeros >= 5:
            return f"{digits}e{zeros}"
        return str(int(value))
    return f"{mantissa}e{int(exponent)}" if letter else mantissa
