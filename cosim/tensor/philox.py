"""Random numbers of many keys and counters in one go, bit for bit those of :mod:`cosim.rng`.

Apart from it, as that module is in the key of stored values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import local
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cosim.rng import Stream
from cosim.units import Floats, Ints

Words = NDArray[np.uint64]

_WORDS_PER_COUNTER = 4  # Philox4x64 gives four 64-bit words for one value of its counter
_WORDS_AT_ONCE = 1 << 14  # so that words that nobody wants do not go through the memory
_ROUNDS = 10
_MASK = (1 << 64) - 1
_FACTORS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B


@dataclass(frozen=True, slots=True, eq=False)
class Tables(Stream):
    """Some rows of the tables of several streams, one under the other, and of each only its columns.

    What is asked for from row ``OWN`` on are these rows; from row 0 on, row 0 of each in the place of its
    rows. Tables of one column are as they are.

    Attributes
    ----------
    streams, columns, first
        By table; columns of shape (num_columns,), as many of each.
    count
        Rows of each.
    """

    OWN: ClassVar[int] = 1

    streams: Sequence[Stream]
    columns: Sequence[Ints]
    first: Sequence[int]
    count: int

    @classmethod
    def of(cls, streams: Sequence[Stream], columns: Sequence[Ints], first: Sequence[int], count: int) -> Self:
        """Return the rows."""
        return cls(streams[0].key, streams, columns, first, count)

    @property
    def num_rows(self) -> int:
        """How many rows there are of all tables."""
        return len(self.streams) * self.count

    def child(self, *names: str | int) -> "Tables":
        """Return the same rows of the streams of this name below each."""
        return Tables.of([one.child(*names) for one in self.streams], self.columns, self.first, self.count)

    def uniforms(self, first: int, count: int, width: int) -> Floats:
        """Return the rows, shape (num_rows, num_columns), or (num_rows, 1); columns are contiguous."""
        columns = self.columns if width > 1 else [np.zeros(1, dtype=np.int64)] * len(self.streams)
        words = np.empty((len(columns[0]), len(self.streams), self.count), dtype=np.uint64)
        for number, stream in enumerate(self.streams):
            if first:
                _fill(words[:, number], stream.key, columns[number], self.first[number], width)
            else:
                _fill(words[:, number, :1], stream.key, columns[number], 0, width)
                words[:, number] = words[:, number, :1]
        return _uniform(words.reshape(len(words), -1)).T


@dataclass(eq=False)
class Keys:
    """The keys of many streams; those of a name below them are worked out once.

    Attributes
    ----------
    streams
        One after the other.
    """

    streams: Sequence[Stream]
    _below: dict[tuple[str | int, ...], "Keys"] = field(default_factory=dict)

    @cached_property
    def words(self) -> Words:
        """Lower and upper half of each, shape (num_streams, 2)."""
        return np.array([(one.key & _MASK, one.key >> 64) for one in self.streams], dtype=np.uint64)

    def child(self, *names: str | int) -> "Keys":
        """Return the keys of this name below each."""
        if names not in self._below:
            self._below[names] = Keys([one.child(*names) for one in self.streams])
        return self._below[names]


@dataclass(frozen=True, slots=True, eq=False)
class Rows(Stream):
    """Streams of some keys, one after the other, whose table has for each the row that it wants.

    What is asked for from row ``OWN`` on are these rows; from row 0 on, row 0 of all.
    """

    OWN: ClassVar[int] = 1

    keys: Keys
    which: Ints
    rows: Ints

    @classmethod
    def of(cls, keys: Keys, which: Ints, rows: Ints) -> Self:
        """Return the rows of some of the keys."""
        return cls(keys.streams[0].key, keys, which, rows)

    def child(self, *names: str | int) -> "Rows":
        """Return the streams of this name below each."""
        return Rows.of(self.keys.child(*names), self.which, self.rows)

    def uniforms(self, first: int, count: int, width: int) -> Floats:
        """Return a row of each, shape (num, width)."""
        rows = self.rows if first else np.zeros_like(self.rows)
        return uniforms_of(self.keys.words[self.which], rows, width)


@dataclass(frozen=True, slots=True, eq=False)
class Shared(Stream):
    """Streams that share the columns of a table: each column is that of the stream that owns it.

    Attributes
    ----------
    streams
        By number.
    owners
        Number of the stream of each column.
    """

    streams: Sequence[Stream]
    owners: Ints

    @classmethod
    def of(cls, streams: Sequence[Stream], owners: Ints) -> Self:
        """Return the table."""
        return cls(streams[0].key, streams, owners)

    def child(self, *names: str | int) -> "Shared":
        """Return the streams of this name below each."""
        return Shared.of([one.child(*names) for one in self.streams], self.owners)

    def uniforms(self, first: int, count: int, width: int) -> Floats:
        """Return the columns, shape (count, num_columns); of tables of one column, that of each owner."""
        words = np.empty((len(self.owners), count), dtype=np.uint64)
        for number in set(self.owners.tolist()):
            (columns,) = np.nonzero(self.owners == number)
            own = np.empty((len(columns), count), dtype=np.uint64)
            _fill(
                own, self.streams[number].key, columns if width > 1 else np.zeros_like(columns), first, width
            )
            words[columns] = own
        return _uniform(words).T


class _Own(local):
    """A generator of each thread, and a state to set it to."""

    def __init__(self) -> None:
        self.bits = np.random.Philox(key=0)
        self.state: Any = self.bits.state
        self.state["buffer_pos"] = _WORDS_PER_COUNTER  # empty
        self.counter, self.key = self.state["state"]["counter"], self.state["state"]["key"]


_own = _Own()


def _at(key: int, counter: int) -> np.random.Philox:
    """Return this thread's generator, set to a key and counter: a tenth of the time of another one."""
    _own.counter[0], _own.key[0], _own.key[1] = counter, key & _MASK, key >> 64
    _own.bits.state = _own.state
    return _own.bits


def _fill(words: Words, key: int, columns: Ints, first: int, width: int) -> None:
    """Write the words of some columns of a table, from a row on, shape (num_columns, count)."""
    counters_per_row = -(-width // _WORDS_PER_COUNTER)
    words_per_row = counters_per_row * _WORDS_PER_COUNTER
    bits, rows_at_once = _at(key, first * counters_per_row), max(_WORDS_AT_ONCE // words_per_row, 1)
    for begin in range(0, words.shape[1], rows_at_once):
        some = words[:, begin : begin + rows_at_once]
        every = bits.random_raw(some.shape[1] * words_per_row).reshape(-1, words_per_row)
        some[:] = every.T[columns]


def _uniform(words: Words) -> Floats:
    """Return words as uniforms on the open interval (0, 1): of 53 bits, so 1.0 is never reached."""
    uniforms = (words >> np.uint64(12)) + 0.5
    uniforms *= 2.0**-52
    return np.asarray(uniforms)


def uniforms_of(keys: Words, rows: Ints, width: int) -> Floats:
    """Return one row of the table of each stream, shape (num_streams, width), all in one go.

    Bit for bit ``streams[i].uniforms(rows[i], 1, width)[0]``: Philox4x64 with ten rounds, for
    many keys and counters at once, where making a generator for each takes longer than its numbers.

    Parameters
    ----------
    keys
        Halves of the key of each, shape (num_streams, 2).
    rows
        Which row of each, at least 0, shape (num_streams,).
    width
        Numbers in a row of each table.
    """
    counters_per_row = -(-width // _WORDS_PER_COUNTER)
    first = np.asarray(rows, dtype=np.uint64)[:, np.newaxis] * np.uint64(counters_per_row)
    within = np.arange(1, counters_per_row + 1, dtype=np.uint64)  # counted up before it is used
    counters: Words = np.asarray(first + within, dtype=np.uint64)
    words = philox(keys[:, :1], keys[:, 1:], counters)
    return _uniform(words.reshape(len(keys), -1)[:, :width])


def philox(low: Words, high: Words, counters: Words) -> Words:
    """Return the four words of each key and counter, shape (..., 4).

    Parameters
    ----------
    low, high, counters
        Halves of the key, and the lowest word of the counter, whose other words are zero; of
        shapes that go together.

    Source
    ------
    Salmon et al., section 3.3: Philox4x64-10.
    """
    zero = np.zeros_like(counters)
    words = [counters, zero, zero, zero]
    with np.errstate(over="ignore"):
        for number in range(_ROUNDS):
            a, b = (low + np.uint64(number * _WEYL[0] & _MASK)), (high + np.uint64(number * _WEYL[1] & _MASK))
            (high_0, low_0), (high_2, low_2) = (
                _times(words[2 * place], np.uint64(_FACTORS[place])) for place in (0, 1)
            )
            words = [high_2 ^ words[1] ^ a, low_2, high_0 ^ words[3] ^ b, low_0]
    return np.stack(np.broadcast_arrays(*words), axis=-1)


def _times(words: Words, factor: np.uint64) -> tuple[Words, Words]:
    """Return upper and lower half of products of 64 bits each."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    above, below, factor_above, factor_below = words >> half, words & mask, factor >> half, factor & mask
    crossed = above * factor_below + (below * factor_below >> half)
    other = below * factor_above + (crossed & mask)
    return above * factor_above + (crossed >> half) + (other >> half), words * factor
