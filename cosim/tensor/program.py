"""The order of a run's spans as a program: which are evaluated together, one level after the other."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from cosim.tensor.draws import Flow
from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class Queue:
    """Requests that meet at one place and are served in order of arrival, ties in the order of the rows.

    ``capacity``: of a device; 0 of a band that one has at a time.
    """

    spans: Ints
    capacity: int


@dataclass(frozen=True, eq=False)
class Level:
    """Spans whose causes have all ended in levels before.

    Attributes
    ----------
    spans
        Of this level, shape (num_spans,).
    causes, first_cause
        Spans that are waited for, set after set, and where each set begins; sets that several
        spans wait for are there once.
    cause_of
        The set of each span.
    at_once
        Places in ``spans`` of those that wait for nothing, whose set means nothing.
    lasts_ns
        Of what is computed, and 0 of what is sent, shape (num_spans,).
    transfers
        Places in ``spans`` of what is sent on something that is free when it is asked for.
    queues
        Places in ``spans`` of those that may have to wait.
    reached
        The share of its time after which the run that was played had ended all of them.
    """

    spans: Ints
    causes: Ints
    first_cause: Ints
    cause_of: Ints
    at_once: Ints
    lasts_ns: Ints
    transfers: Ints
    queues: tuple[Queue, ...]
    reached: float


class Meeting(NamedTuple):
    """Spans that meet at one place, ties in this order, and the ``capacity`` of a :class:`Queue`."""

    spans: Sequence[int]
    capacity: int


@dataclass(frozen=True, eq=False)
class Program:
    """The spans of a run.

    Attributes
    ----------
    causes
        Sets of spans that are waited for, each once.
    cause_of
        The set of each span.
    level
        Of each span: all that it waits for are in levels before.
    meetings
        Spans of one level that may have to wait for each other.
    lasts_ns
        Of what is computed, and 0 of what is sent.
    energy_j
        Of what is computed, J, and 0 of what is sent, shape (num_spans,).
    flow, bits
        What each transfer is sent on, -1 where nothing takes time, and its size.
    flows
        What is sent on.
    round
        Of each span.
    start_ns, end_ns
        When each began and ended in the run, shape (num_spans,).
    """

    causes: Sequence[Sequence[int]]
    cause_of: Sequence[int]
    level: Sequence[int]
    meetings: Sequence[Meeting]
    lasts_ns: Sequence[int]
    energy_j: Floats
    flow: Ints
    bits: Ints
    flows: Sequence[Flow]
    round: Ints
    start_ns: Ints
    end_ns: Ints

    @property
    def num_spans(self) -> int:
        """How many spans there are."""
        return len(self.round)

    @property
    def length_ns(self) -> int:
        """How long the run took, ns."""
        return int(self.end_ns.max(initial=0))

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        fields = ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        return {name: one.tolist() if isinstance(one, np.ndarray) else one for name, one in fields}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the program from its JSON value."""
        fields = dict(value)
        for name in ("energy_j", "flow", "bits", "round", "start_ns", "end_ns"):
            fields[name] = np.array(fields[name])
        fields["meetings"] = [Meeting(*one) for one in fields["meetings"]]
        fields["flows"] = [(link, tuple(members)) for link, members in fields["flows"]]
        return cls(**fields)

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The levels, in the order in which they are evaluated."""
        spans_at: dict[int, list[int]] = defaultdict(list)
        for span, number in enumerate(self.level):
            spans_at[number].append(span)
        meetings_at: dict[int, list[Meeting]] = defaultdict(list)
        for meeting in self.meetings:
            meetings_at[self.level[meeting.spans[0]]].append(meeting)
        return tuple(self._level(spans_at[number], meetings_at[number]) for number in sorted(spans_at))

    def _level(self, spans: Sequence[int], meetings: Sequence[Meeting]) -> Level:
        place = {span: at for at, span in enumerate(spans)}
        sets: dict[int, int] = {}
        causes = [self.cause_of[span] for span in spans]
        cause_of = [sets.setdefault(one, len(sets)) if self.causes[one] else 0 for one in causes]
        waiting = {span for meeting in meetings for span in meeting.spans}
        sizes = [len(self.causes[one]) for one in sets]
        return Level(
            np.array(spans),
            np.array([cause for one in sets for cause in self.causes[one]], dtype=np.int64),
            np.cumsum([0, *sizes[:-1]]) if sizes else np.zeros(0, dtype=np.int64),
            np.array(cause_of),
            _ints(at for at, one in enumerate(causes) if not self.causes[one]),
            _ints(self.lasts_ns[span] for span in spans),
            _ints(place[span] for span in spans if self.flow[span] >= 0 and span not in waiting),
            tuple(Queue(_ints(place[one] for one in met), capacity) for met, capacity in meetings),
            float(self.end_ns[spans].max()) / max(self.length_ns, 1),
        )


def _ints(numbers: Iterable[int]) -> Ints:
    return np.fromiter(numbers, dtype=np.int64)
