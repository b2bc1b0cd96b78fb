"""The rows of the timeline: each actor has as many as it did things at once, so that no two spans overlap."""

from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from cosim.report.spans import Spans, is_client
from cosim.units import Ints


@dataclass(frozen=True, eq=False)
class Rows:
    """Which span is in which row.

    Attributes
    ----------
    whose
        For each row the actor, as an index, and the number of the row among the actor's.
    begins
        Where each row begins in ``spans``, and the end, shape (num_rows + 1,).
    spans
        Row after row, the spans in it by begin; what several clients send or receive at once
        is in a row of each of them.
    """

    whose: tuple[tuple[int, int], ...]
    begins: Ints
    spans: Ints

    @classmethod
    def of(cls, spans: Spans) -> "Rows":
        """Return the rows: clients by number, then servers.

        A client's hold what it computes, sends and receives; a server's what it
        computes, and what servers send each other.
        """
        of_server = np.flatnonzero((spans.client < 0) & ~spans.is_joint)
        of_clients, clients = spans.of_clients
        span = np.concatenate([of_clients, of_server])
        owner = np.concatenate([clients, spans.actor[of_server]])
        whose: list[tuple[int, int]] = []
        parts: list[Ints] = []
        order = np.lexsort((span, spans.end_ns[span], spans.start_ns[span], owner))
        edges = np.searchsorted(owner[order], np.arange(len(spans.actors) + 1))
        for actor in range(len(spans.actors)):
            mine = span[order[edges[actor] : edges[actor + 1]]]
            if not len(mine):
                if is_client(spans.actors[actor]):  # a client that did nothing is still seen
                    whose.append((actor, 0))
                    parts.append(mine)
                continue
            row = _packed(spans.start_ns[mine], spans.end_ns[mine])
            for number in range(int(row.max()) + 1):
                whose.append((actor, number))
                parts.append(mine[row == number])
        counts = np.array([len(part) for part in parts], dtype=np.int64)
        return cls(
            whose=tuple(whose),
            begins=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            spans=np.concatenate(parts) if parts else np.empty(0, dtype=np.int64),
        )


def _packed(start_ns: Ints, end_ns: Ints) -> Ints:
    """Return the row of each interval, by begin: the lowest that is free, shape (num_intervals,).

    Examples
    --------
    >>> _packed(np.array([0, 5, 10]), np.array([10, 12, 11])).tolist()
    [0, 1, 0]
    """
    if (start_ns[1:] >= np.maximum.accumulate(end_ns)[:-1]).all():
        return np.zeros(len(start_ns), dtype=np.int64)
    rows = np.zeros(len(start_ns), dtype=np.int64)
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    num_rows = 0
    for index, (start, end) in enumerate(zip(start_ns.tolist(), end_ns.tolist(), strict=True)):
        while busy and busy[0][0] <= start:
            heappush(free, heappop(busy)[1])
        if free:
            row = heappop(free)
        else:
            row, num_rows = num_rows, num_rows + 1
        rows[index] = row
        heappush(busy, (end, row))
    return rows
