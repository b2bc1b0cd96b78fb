"""Arrows of a trace: every tensor that travels, from where it was made to where it is used."""

from dataclasses import dataclass

import numpy as np

from cosim.report.spans import Spans
from cosim.units import Ints


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
        of all that waited for it, its receiver's own work uses it.
        """
        child = np.repeat(np.arange(len(spans)), np.diff(spans.parents_end, prepend=0))
        parent = spans.parents
        leaves = (
            spans.is_transfer[child]
            & ~spans.is_transfer[parent]
            & (spans.actor[child] == spans.actor[parent])
        )
        reaches = (
            ~spans.is_transfer[child] & spans.is_transfer[parent] & (spans.actor[child] == spans.peer[parent])
        )
        made, made_end = _grouped(parent[leaves], child[leaves], len(spans))
        used, used_end = _grouped(child[reaches], parent[reaches], len(spans))
        return cls(made, made_end, used, used_end)


def _grouped(span: Ints, transfer: Ints, num_spans: int) -> tuple[Ints, Ints]:
    counts = np.bincount(span, minlength=num_spans)
    return transfer[np.argsort(span, kind="stable")], np.cumsum(counts)
