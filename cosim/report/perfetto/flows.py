"""Arrows of a trace: every tensor that travels, from where it was made to where it is used."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cosim.report.spans import Spans
from cosim.units import Ints

_CAUSES_AT_ONCE = 1 << 18


@dataclass(frozen=True, eq=False)
class Flows:
    """Which transfers leave and reach each span that computes; a flow has the number of its transfer.

    Attributes
    ----------
    made, made_end
        Transfers of what each span made, one span after the other; those of span
        ``i`` end before ``made_end[i]``. Shapes (num_flows,) and (num_spans,).
    used, used_end
        Transfers of what each span used, likewise.
    """

    made: Ints
    made_end: Ints
    used: Ints
    used_end: Ints

    @classmethod
    def of(cls, spans: Spans) -> "Flows":
        """Return the flows of a run.

        Of all a transfer waited for, its sender's own work made what it carries;
        of all that waited for it, its receiver's own work uses it. Where several clients send
        or receive at once, the own work of any client does.
        """
        leaves, reaches = [], []
        for first, last in _blocks(np.cumsum(spans.num_parents)):
            child, parent = spans.parents_of(first, last)
            mixed = spans.is_transfer[child] != spans.is_transfer[parent]
            child, parent = child[mixed], parent[mixed]
            sends = spans.is_transfer[child]
            several_send = sends & spans.is_superposed[child]
            several_receive = ~sends & spans.is_joint[parent] & ~spans.is_superposed[parent]
            to_server = ~sends & spans.is_superposed[parent] & (spans.actor[child] == spans.actor[parent])
            from_own = np.where(
                several_send, spans.client[parent] >= 0, sends & (spans.actor[child] == spans.actor[parent])
            )
            to_own = to_server | np.where(
                several_receive,
                spans.client[child] >= 0,
                ~sends & (spans.actor[child] == spans.peer[parent]),
            )
            leaves.append((parent[from_own], child[from_own]))
            reaches.append((child[to_own], parent[to_own]))
        made, used = _joined(leaves), _joined(reaches)
        return cls(*_grouped(*made, len(spans)), *_grouped(*used, len(spans)))


def _joined(pairs: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    return np.concatenate([one for one, _ in pairs]), np.concatenate([other for _, other in pairs])


def _blocks(ends: Ints) -> Iterator[tuple[int, int]]:
    """Return ranges of spans with about as many causes each: a barrier of n has n times n of them."""
    first = 0
    while first < len(ends):
        done = int(ends[first - 1]) if first else 0
        last = max(int(np.searchsorted(ends, done + _CAUSES_AT_ONCE, side="right")), first + 1)
        yield first, last
        first = last


def _grouped(span: Ints, transfer: Ints, num_spans: int) -> tuple[Ints, Ints]:
    counts = np.bincount(span, minlength=num_spans)
    return transfer[np.argsort(span, kind="stable")], np.cumsum(counts)
