"""Small whole numbers drawn one at a time, as numpy's generator draws them and several times faster."""

from collections.abc import Iterator, Sequence
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
        self._words: Iterator[int] = iter(())
        self._half: int | None = None

    def pick(self, things: Sequence[T]) -> T:
        """Return one of some things, each as likely; of one thing, that thing without a draw."""
        count = len(things)
        if count == 1:
            return things[0]
        found = self._half_word() * count
        if found & _LOW < count:
            least = (_LOW + 1 - count) % count
            while found & _LOW < least:
                found = self._half_word() * count
        return things[found >> 32]

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """Return some things in an order of which each is as likely."""
        found = list(things)
        for last in range(len(found) - 1, 0, -1):
            mask = (1 << last.bit_length()) - 1
            while (other := self._half_word() & mask) > last:
                pass
            found[last], found[other] = found[other], found[last]
        return found

    def random(self) -> float:
        """Return a number that is uniform on [0, 1)."""
        return (self._word() >> 11) * 2.0**-53

    def _word(self) -> int:
        for word in self._words:
            return word
        self._words = iter(self._bits.random_raw(_WORDS_AT_ONCE).tolist())
        return next(self._words)

    def _half_word(self) -> int:
        """Return 32 bits: first the low ones of a word, then those that it left over."""
        half = self._half
        if half is not None:
            self._half = None
            return half
        word = self._word()
        self._half = word >> 32
        return word & _LOW
