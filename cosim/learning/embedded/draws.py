"""Small whole numbers drawn one at a time, as numpy's generator draws them and several times faster."""

from collections.abc import Sequence
from typing import TypeVar

from cosim.rng import Stream

T = TypeVar("T")

_WORDS_AT_ONCE = 1024
_LOW = 2**32 - 1


class Draws:
    """The numbers that ``stream.generator()`` gives, bit for bit, with words taken from it in bulk.

    A call of numpy for one number takes longer than the text around it.

    Source
    ------
    D. Lemire, "Fast random integer generation in an interval", ACM Trans. Model. Comput. Simul. 29(1), 2019;
    numpy's ``Generator.integers``, ``permutation`` and ``random``, whose order of words this follows.
    """

    def __init__(self, stream: Stream) -> None:
        self._bits = stream.generator().bit_generator
        self._halves: list[int] = []  # 32 bits each, the next one last: of a word the low ones come first

    def pick(self, things: Sequence[T]) -> T:
        """Return one of some things, each as likely; of one thing, that thing without a draw."""
        count = len(things)
        if count == 1:
            return things[0]
        found = (self._halves or self._more()).pop() * count
        if found & _LOW < count:
            least = (_LOW + 1 - count) % count
            while found & _LOW < least:
                found = (self._halves or self._more()).pop() * count
        return things[found >> 32]

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """Return some things in an order of which each is as likely."""
        found = list(things)
        for last in range(len(found) - 1, 0, -1):
            mask = (1 << last.bit_length()) - 1
            while (other := (self._halves or self._more()).pop() & mask) > last:
                pass
            found[last], found[other] = found[other], found[last]
        return found

    def random(self) -> float:
        """Return a number that is uniform on [0, 1); half a word that is left over stays the next."""
        left = [self._halves.pop()] if len(self._halves) % 2 else []
        halves = self._halves or self._more()
        word = halves.pop() | halves.pop() << 32
        halves += left
        return (word >> 11) * 2.0**-53

    def _more(self) -> list[int]:
        words = self._bits.random_raw(_WORDS_AT_ONCE).tolist()
        self._halves += [half for word in reversed(words) for half in (word >> 32, word & _LOW)]
        return self._halves
