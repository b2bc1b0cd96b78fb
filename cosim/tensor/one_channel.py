"""A program on one channel, in plain numbers: an array of one number costs more than the number."""

from collections.abc import Callable, Sequence
from heapq import heapify, heapreplace

from cosim.tensor.program import Meeting, Program

Finish = Callable[[int, int], int]
"""When a transfer ends, ns, by its span and its beginning."""


class OneChannel:
    """The spans of a program, each in its turn.

    Parameters
    ----------
    program
        Their order.
    finish
        When a transfer ends.

    Attributes
    ----------
    start_ns, end_ns
        Of each span.
    """

    def __init__(self, program: Program, finish: Finish) -> None:
        self._program, self._finish, self._flow = program, finish, program.flow.tolist()
        self._latest: list[int | None] = [None if causes else 0 for causes in program.causes]
        self.start_ns, self.end_ns = ([0] * program.num_spans for _ in range(2))

    def play(self) -> None:
        """Find the times of all spans, level by level."""
        level, meets = self._program.level, dict[int, Meeting | None]()
        for meeting in self._program.meetings:
            first, *others = meeting.spans
            meets |= {first: meeting} | dict.fromkeys(others)
        for span in sorted(range(self._program.num_spans), key=level.__getitem__):
            met = meets.get(span)
            if met is not None:
                self._meet(met.spans, met.capacity)
            elif span not in meets:
                self._play(span, self._asked(span))

    def _asked(self, span: int) -> int:
        """Return when the last of those that a span waits for has ended, ns."""
        which = self._program.cause_of[span]
        latest = self._latest[which]
        if latest is None:
            ends = self.end_ns
            latest = self._latest[which] = max([ends[cause] for cause in self._program.causes[which]])
        return latest

    def _play(self, span: int, start_ns: int) -> int:
        """Let a span begin, and return its end, ns."""
        lasts = self._flow[span] < 0
        end_ns = start_ns + self._program.lasts_ns[span] if lasts else self._finish(span, start_ns)
        self.start_ns[span], self.end_ns[span] = start_ns, end_ns
        return end_ns

    def _meet(self, spans: Sequence[int], capacity: int) -> None:
        """Serve spans in the order in which they are asked for; a band (capacity 0) as one place."""
        free_ns = [0] * max(capacity, 1)
        heapify(free_ns)
        for span in sorted(spans, key=self._asked):  # ties stay in the order of the meeting
            heapreplace(free_ns, self._play(span, max(self._asked(span), free_ns[0])))
