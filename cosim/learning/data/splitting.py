"""Taking examples apart: what is tested on, and what is kept of more than are wanted."""

from collections.abc import Sequence
from typing import TypeVar

from cosim.rng import Stream

T = TypeVar("T")


def taken(groups: Sequence[str], count: int, chance: Stream, *, at_least_one: bool) -> set[int]:
    """Return rows of about ``count`` examples: shuffled groups, each whole, while they fit.

    Parameters
    ----------
    groups
        The group of each example.
    at_least_one
        Take a group that is too large where none was taken before.
    """
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    names = list(members)
    found: set[int] = set()
    for index in chance.generator().permutation(len(names)):
        rows = members[names[index]]
        if len(found) + len(rows) <= count or (at_least_one and not found):
            found.update(rows)
    return found


def split_off(
    examples: Sequence[T], groups: Sequence[str], fraction: float, chance: Stream
) -> tuple[list[T], list[T]]:
    """Return what is left and what is split off: whole groups while they fit, and at least one."""
    count = max(1, round(fraction * len(examples)))
    test = taken(groups, count, chance, at_least_one=True)
    left = [example for row, example in enumerate(examples) if row not in test]
    return left, [example for row, example in enumerate(examples) if row in test]


def at_most(examples: list[T], groups: Sequence[str], count: int | None, chance: Stream) -> list[T]:
    """Return the examples, or as many as are wanted of them."""
    if count is None or len(examples) <= count:
        return examples
    kept = taken(groups, count, chance, at_least_one=False)
    return [example for row, example in enumerate(examples) if row in kept]
