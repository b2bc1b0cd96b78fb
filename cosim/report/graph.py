"""The causal graph of a run: its critical path, the slack of every span, and the run at other speeds.

A span begins when the last of the spans it waited for has ended. Where it began
later than that, the record does not say why (a deadline passed, the air changed):
such a wait is kept as long as it was.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from cosim.record.log import expanded
from cosim.report.spans import Spans
from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class Causes:
    """What every span waited for, with equal sets of causes told only once.

    After a barrier of n clients each of them waits for the same n spans: n
    causes rather than n times n.

    Attributes
    ----------
    which
        The set each span waited for, shape (num_spans,); -1 for none.
    first_span
        The first span that waited for each set, shape (num_sets,).
    begins
        Where each set begins among the members; the number of members at the
        end, shape (num_sets + 1,).
    members
        The spans in each set, one set after the other.
    """

    which: Ints
    first_span: Ints
    begins: Ints
    members: Ints

    @classmethod
    def of(cls, spans: Spans) -> "Causes":
        """Return the causes of all spans."""
        sizes = np.diff(spans.causes_end, prepend=0)
        stored = np.flatnonzero(sizes)
        which = np.full(len(sizes), -1, dtype=np.int64)  # of each stored set, among those told once
        if not len(stored):
            none = np.empty(0, dtype=np.int64)
            return cls(np.full(len(spans), -1), none, np.zeros(1, dtype=np.int64), none)
        begins = (spans.causes_end - sizes)[stored]
        sums = np.add.reduceat(_mixed(spans.causes), begins)  # 64 bits of it tell sets apart
        _, first, which[stored] = np.unique(sums, return_index=True, return_inverse=True)
        members, ends = expanded(stored[first], spans.causes, spans.causes_end)
        of_span = which[spans.cause]
        first_span = np.full(len(first), len(spans))
        waiting = np.flatnonzero(of_span >= 0)
        np.minimum.at(first_span, of_span[waiting], waiting)
        return cls(of_span, first_span, np.concatenate([[0], ends]), members)

    def last_of_each(self, end_ns: Ints) -> Ints:
        """Return the member of each set that ends last, of two the smaller number, shape (num_sets,)."""
        if not len(self.first_span):
            return np.empty(0, dtype=np.int64)
        begins = self.begins[:-1]
        latest = np.maximum.reduceat(end_ns[self.members], begins)
        is_last = end_ns[self.members] == np.repeat(latest, np.diff(self.begins))
        return np.asarray(np.minimum.reduceat(np.where(is_last, self.members, len(self.which)), begins))

    @cached_property
    def sets(self) -> list[list[int]]:
        """The members of each set."""
        members, begins = self.members.tolist(), self.begins.tolist()
        return [members[begin:end] for begin, end in pairwise(begins)]


@dataclass(frozen=True, eq=False)
class Retimed:
    """When every span would begin and end; both of shape (num_spans,), ns."""

    start_ns: Ints
    end_ns: Ints

    @property
    def length_ns(self) -> int:
        """When the last one ends, ns; 0 if there is none."""
        return int(self.end_ns.max()) if len(self.end_ns) else 0


def last_parents(spans: Spans, causes: Causes | None = None) -> Ints:
    """Return the parent of each span that ended last, shape (num_spans,); -1 for a span with none.

    Of two that ended at one instant it is the one with the smaller number.
    """
    causes = causes or Causes.of(spans)
    lasts = np.append(causes.last_of_each(spans.end_ns), -1)
    return np.asarray(lasts[causes.which])


def unexplained_ns(spans: Spans, parents: Ints) -> Ints:
    """Return for how long each span began after its last parent had ended, ns, shape (num_spans,).

    Zero for nearly all of them: the rest waited for something that is no span.
    ``parents`` are those of :func:`last_parents`.
    """
    ready_ns = np.where(parents >= 0, spans.end_ns[parents], 0) if len(spans) else spans.start_ns
    return np.asarray(spans.start_ns - ready_ns)


def critical_path(spans: Spans) -> Ints:
    """Return the spans that decided how long the run took, first to last; none for a run without spans.

    From the span that ended last (of several, the one with the smallest number)
    back through the parent that ended last. It is a longest path of the graph:
    what a span on it takes longer, the run takes longer. A path through a queue
    goes through what was served before: the run would have been no shorter had
    the work arrived earlier.
    """
    if not len(spans):
        return np.empty(0, dtype=np.int64)
    parents = last_parents(spans).tolist()
    at = int(spans.end_ns.argmax())
    path = []
    while at >= 0:
        path.append(at)
        at = parents[at]
    return np.array(path[::-1], dtype=np.int64)


def slack_ns(spans: Spans) -> Ints:
    """Return how much later each span could end without the run ending later, ns, shape (num_spans,).

    For durations as they were and every queue served in the order it was: zero
    on the critical path. Where something waited for what is no span, the wait
    is kept as it was, so there the slack is the least it can be.
    """
    causes = Causes.of(spans)
    parents = last_parents(spans, causes)
    took_ns = (spans.end_ns - spans.start_ns + unexplained_ns(spans, parents)).tolist()
    run_end_ns = int(spans.end_ns.max()) if len(spans) else 0
    latest_end = [run_end_ns] * len(spans)
    of_set = [run_end_ns] * len(causes.first_span)
    first_span, which = causes.first_span.tolist(), causes.which.tolist()
    for span in range(len(spans) - 1, -1, -1):
        number = which[span]
        if number < 0:
            continue
        of_set[number] = min(of_set[number], latest_end[span] - took_ns[span])
        if first_span[number] == span:  # all others that wait for this set were seen before
            ready_by = of_set[number]
            for member in causes.sets[number]:
                if ready_by < latest_end[member]:
                    latest_end[member] = ready_by
    return np.array(latest_end, dtype=np.int64) - spans.end_ns


def retimed(spans: Spans, speed: Floats | Ints, causes: Causes | None = None) -> Retimed:
    """Return the run with every span ``speed`` times faster, shape (num_spans,); 1 leaves it as it was.

    One pass over the graph, in which a span begins when its last parent has
    ended. To the nanosecond what a run on such devices and links records, if

    - grants and rates stay as they were, but for the factor: no fading, and no transfer that is
      given another rate on its way;
    - who waits for whom stays as it was: queues are served in the same order, and
      none forms or vanishes;
    - speeds are whole numbers: a duration is rounded up to the clock's grid, and
      rounding up twice is then rounding up once. For others it is within a nanosecond a span.

    Raises
    ------
    ValueError
        If a speed is not positive, or there is not one for every span.
    """
    if speed.shape != (len(spans),) or not (speed > 0).all():
        raise ValueError("there must be one positive speed for every span")
    causes = causes or Causes.of(spans)
    wait_ns = unexplained_ns(spans, last_parents(spans, causes)).tolist()
    lasts_ns = np.ceil(spans.duration_ns / speed).astype(np.int64).tolist()
    which, sets = causes.which.tolist(), causes.sets
    ready_ns: list[int] = [-1] * len(sets)
    starts: list[int] = []
    ends: list[int] = []
    for number, wait, lasts in zip(which, wait_ns, lasts_ns, strict=True):
        start = wait
        if number >= 0:
            ready = ready_ns[number]
            if ready < 0:
                ready = ready_ns[number] = max([ends[member] for member in sets[number]])
            start += ready
        starts.append(start)
        ends.append(start + lasts)
    return Retimed(np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64))


def _mixed(numbers: Ints) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    """Return numbers that look like chance, so that sums of different sets differ (splitmix64)."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
