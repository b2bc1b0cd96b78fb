"""How fast every transfer was, against what its grant gave it."""

from dataclasses import dataclass

import numpy as np

from cosim.report.air import Budgets
from cosim.report.spans import Spans
from cosim.report.subchannel_grants import SubchannelGrants
from cosim.report.usage import shared_ns
from cosim.units import NS_PER_S, Floats, Ints


@dataclass(frozen=True, eq=False)
class Rates:
    """The transfers that took time; arrays are of shape (num_transfers,).

    Attributes
    ----------
    spans
        Their numbers, ascending.
    bit_per_s
        Bits over time on the air.
    with_queue_bit_per_s
        Bits over the time since it was asked for.
    num_subchannels
        Subchannels its client held meanwhile, on average over the transfer.
    granted_bit_per_s
        What the grant gave at the start, for the gains of that instant; NaN where it is not known.
    """

    spans: Ints
    bit_per_s: Floats
    with_queue_bit_per_s: Floats
    num_subchannels: Floats
    granted_bit_per_s: Floats

    @property
    def of_grant(self) -> Floats:
        """The rate as a share of what the grant gave at the start.

        One without fading and re-rating; below, the air grew worse on the way.
        """
        return self.bit_per_s / self.granted_bit_per_s


def rates(spans: Spans, grants: SubchannelGrants, budgets: Budgets | None = None) -> Rates:
    """Return the rate of every transfer that took time; what grants gave is known from ``budgets``.

    What several clients send or receive at once has no client whose grant it uses, and is left out.
    """
    rows = np.flatnonzero(spans.is_transfer & (spans.end_ns > spans.start_ns) & (spans.client >= 0))
    lasts_ns = spans.duration_ns[rows]
    granted = np.full(len(spans), np.nan)
    if budgets is not None and len(budgets.spans):
        granted[budgets.spans] = np.add.reduceat(budgets.rate_bit_per_s, budgets.offsets[:-1])
    return Rates(
        spans=rows,
        bit_per_s=spans.bits[rows] * NS_PER_S / lasts_ns,
        with_queue_bit_per_s=spans.bits[rows] * NS_PER_S / (spans.end_ns - spans.asked_ns)[rows],
        num_subchannels=_held_ns(spans, grants, rows) / lasts_ns,
        granted_bit_per_s=granted[rows],
    )


def _held_ns(spans: Spans, grants: SubchannelGrants, rows: Ints) -> Ints:
    """Return for how long its client held each subchannel during a transfer, summed over them, ns."""
    held_ns = np.zeros(len(rows), dtype=np.int64)
    key = spans.link[rows] * len(spans.actors) + spans.client[rows]
    order = np.argsort(key, kind="stable")
    different, begins = np.unique(key[order], return_index=True)
    for which, mine in zip(different.tolist(), np.split(order, begins[1:]), strict=False):
        link, client = divmod(which, len(spans.actors))
        name, number = spans.links[link], int(spans.actors[client].rpartition("-")[2])
        if name in grants.links:
            held = (grants.link == grants.links.index(name)) & (grants.client == number)
            windows = spans.start_ns[rows[mine]], spans.end_ns[rows[mine]]
            held_ns[mine] = shared_ns(grants.start_ns[held], grants.end_ns[held], *windows)
    return held_ns
