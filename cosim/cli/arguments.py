"""Arguments that need more than a type."""

from cosim.errors import ScenarioError


def round_range(text: str | None) -> tuple[int | None, int | None]:
    """Return the first and last round of ``3`` or ``1:4``; nothing for nothing.

    Raises
    ------
    ScenarioError
        If it says no range of rounds.

    Examples
    --------
    >>> round_range("3"), round_range("1:4"), round_range(None)
    ((3, 3), (1, 4), (None, None))
    """
    if text is None:
        return None, None
    first, colon, last = text.partition(":")
    last = last if colon else first
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise ScenarioError(f"--rounds {text}: must be a round or a range of them, such as 3 or 1:4.")
    return int(first), int(last)
