"""The rounds of a record, as its scheme played them: one after the other, side by side, or none at all."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cosim.errors import RecordError
from cosim.record.folder import Record
from cosim.report.spans import Chosen, Spans
from cosim.units import Ints

RoundKey = tuple[str, int]
"""The task of a round, empty for the only one, and its number."""


@dataclass(frozen=True, eq=False)
class Rounds:
    """What reports read of ``rounds.parquet``, by begin; arrays are of shape (num_rounds,).

    Attributes
    ----------
    keys
        Task and number of each.
    number, start_ns, end_ns
        As recorded; one that goes on ends where the record does.
    is_over
        Which have ended.
    participants
        The clients in each.
    """

    keys: tuple[RoundKey, ...]
    number: Ints
    start_ns: Ints
    end_ns: Ints
    is_over: Chosen
    participants: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, record: Record, total_ns: int) -> "Rounds":
        """Return the rounds of a run that lasted until ``total_ns``.

        Raises
        ------
        RecordError
            If they cannot be read, or one ends before it begins or is there twice.
        """
        table = record.rounds
        start_ns, end_ns = (table[name].to_pylist() for name in ("start_ns", "end_ns"))
        tasks, numbers, participants = (table[name].to_pylist() for name in ("task", "round", "participants"))
        is_over = np.array([end is not None for end in end_ns], dtype=np.bool_)
        ends_ns = [
            max(total_ns, start) if end is None else end for start, end in zip(start_ns, end_ns, strict=True)
        ]
        keys = tuple(zip(tasks, numbers, strict=True))
        _refuse_impossible(record, keys, start_ns, ends_ns)
        order = sorted(range(len(keys)), key=lambda row: (start_ns[row], ends_ns[row], keys[row]))
        rows = np.array(order, dtype=np.int64)
        return cls(
            keys=tuple(keys[row] for row in order),
            number=np.array(numbers, dtype=np.int64)[rows],
            start_ns=np.array(start_ns, dtype=np.int64)[rows],
            end_ns=np.array(ends_ns, dtype=np.int64)[rows],
            is_over=is_over[rows],
            participants=tuple(tuple(participants[row]) for row in order),
        )

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def labels(self) -> list[str]:
        """What each is called."""
        return [round_label(*key) for key in self.keys]

    @cached_property
    def most_at_once(self) -> int:
        """How many go on at a time at most; where one ends as another begins, that is one."""
        lasting = self.end_ns > self.start_ns
        begun = np.arange(1, int(lasting.sum()) + 1)
        ended = np.searchsorted(np.sort(self.end_ns[lasting]), self.start_ns[lasting], side="right")
        return int((begun - ended).max(initial=0)) or min(len(self), 1)

    @property
    def overlap(self) -> bool:
        """Whether two of them ever go on at a time."""
        return self.most_at_once > 1

    def between(self, record: Record, first: int | None, last: int | None) -> Ints:
        """Return the rows of the rounds from one number to another, both included.

        The first round alone without any; only ``first`` without ``last``.

        Raises
        ------
        RecordError
            If there is none.
        """
        if not len(self):
            raise RecordError(f"{record.path}: has no rounds; leave out --rounds to see the whole run.")
        from_ = int(self.number[0]) if first is None else first
        to = from_ if last is None else last
        rows = np.flatnonzero((self.number >= from_) & (self.number <= to))
        if not len(rows):
            has = f"it has rounds {self.number.min()} to {self.number.max()}"
            raise RecordError(f"{record.path}: has no rounds {from_} to {to}; {has}.")
        return rows

    def begins(self, rows: Ints) -> Iterator[tuple[str, int]]:
        """Yield which of some rounds begin when, ns; those that begin at one instant together."""
        labels = self.labels
        instants, firsts, counts = np.unique(self.start_ns[rows], return_index=True, return_counts=True)
        for from_ns, first, count in zip(instants.tolist(), firsts.tolist(), counts.tolist(), strict=True):
            label, numbers = labels[rows[first]], np.sort(self.number[rows[first : first + count]])
            if count > 1 and not self.has_tasks and (np.diff(numbers) == 1).all():
                label = range_label(int(numbers[0]), int(numbers[-1]))
            elif count > 1:
                label = f"{label} and {count - 1} more"
            yield label, from_ns

    @property
    def has_tasks(self) -> bool:
        """Whether numbers alone do not tell rounds apart."""
        return any(task for task, _ in self.keys)

    def window_ns(self, rows: Ints) -> tuple[int, int]:
        """Return from when to when some rounds go on, ns."""
        return int(self.start_ns[rows].min()), int(self.end_ns[rows].max())


def range_label(first: int, last: int) -> str:
    """Return what the rounds from one number to another are called.

    Examples
    --------
    >>> range_label(2, 2), range_label(2, 5)
    ('round 2', 'rounds 2 to 5')
    """
    return f"round {first}" if first == last else f"rounds {first} to {last}"


def round_label(task: str, number: int) -> str:
    """Return what a round is called.

    Examples
    --------
    >>> round_label("", 3), round_label("speech", 3)
    ('round 3', 'round 3 of speech')
    """
    return f"round {number} of {task}" if task else f"round {number}"


def span_keys(spans: Spans, rows: Ints) -> list[RoundKey]:
    """Return the round of some spans."""
    tasks, numbers = spans.task[rows].tolist(), spans.round[rows].tolist()
    return [(spans.tasks[task], number) for task, number in zip(tasks, numbers, strict=True)]


def _refuse_impossible(
    record: Record, keys: tuple[RoundKey, ...], start_ns: list[int], end_ns: list[int]
) -> None:
    """Refuse a record with a round that ends before it begins, or two of one number."""
    place = f"{record.path}/rounds.parquet"
    for key, start, end in zip(keys, start_ns, end_ns, strict=True):
        if not 0 <= start <= end:
            raise RecordError(
                f"{place}: {round_label(*key)} goes on from {start} to {end} ns; "
                "the record is damaged: run the scenario again."
            )
    if len(set(keys)) < len(keys):
        ((twice, _),) = Counter(keys).most_common(1)
        raise RecordError(
            f"{place}: {round_label(*twice)} is there twice; the record is damaged: run the scenario again."
        )
