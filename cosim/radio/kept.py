"""Values that are kept while they are in use."""

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Kept(OrderedDict[K, V]):
    """A table of so many values at most; the one that was used least recently goes first."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def find(self, key: K) -> V | None:
        """Return a value that is kept, and keep it longer."""
        found = self.get(key)
        if found is not None:
            self.move_to_end(key)
        return found

    def keep(self, key: K, value: V) -> V:
        """Keep a value and return it."""
        self[key] = value
        if len(self) > self._most:
            self.popitem(last=False)
        return value
