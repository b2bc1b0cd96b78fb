"""The log of a running simulation: columns that grow, one row a piece of work, a metric or a grant."""

import math
from array import array
from collections.abc import Sequence
from typing import Any, Literal

Kind = Literal["compute", "transfer"]

_ROWS_AT_ONCE = 1024
_SPAN_COLUMNS = (
    *("kind", "name", "actor", "peer", "round", "local_step", "asked_ns", "start_ns", "end_ns"),
    *("bits", "flop", "energy_j", "work"),
)


class SpanLog:
    """Pieces of work that took simulated time, in the order in which they ended.

    Spans are numbered by that order, so a span's parents always have smaller
    numbers than the span itself.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._num_columned = 0
        self.parents = array("q")
        self.parents_end = array("q")
        self.kind: list[str] = []
        self.name: list[str] = []
        self.actor: list[str] = []
        self.peer: list[str] = []
        self.round = array("q")
        self.local_step = array("q")
        self.asked_ns = array("q")
        self.start_ns = array("q")
        self.end_ns = array("q")
        self.bits = array("d")
        self.flop = array("d")
        self.energy_j = array("d")
        self.work: list[str] = []

    def __len__(self) -> int:
        return self._num_columned + len(self._rows)

    def add(
        self,
        parents: Sequence[int],
        kind: Kind,
        name: str,
        actor: str,
        peer: str,
        round_: int,
        local_step: int,
        asked_ns: int,
        start_ns: int,
        end_ns: int,
        bits: int,
        flop: int,
        energy_j: float,
        work: str,
    ) -> int:
        """Add one span and return its number."""
        rows = self._rows
        times = asked_ns, start_ns, end_ns
        rows.append(
            (parents, kind, name, actor, peer, round_, local_step, *times, bits, flop, energy_j, work)
        )
        if len(rows) == _ROWS_AT_ONCE:
            self.settle()
        return self._num_columned + len(rows) - 1

    def end_of(self, span: int) -> int:
        """Return when a span ended, ns."""
        row = span - self._num_columned
        return int(self.end_ns[span] if row < 0 else self._rows[row][_SPAN_COLUMNS.index("end_ns") + 1])

    def settle(self) -> None:
        """Move the latest rows into the columns: together this takes a third of the time of one by one."""
        if not self._rows:
            return
        parents, *columns = zip(*self._rows, strict=True)
        for some in parents:
            self.parents.extend(some)
            self.parents_end.append(len(self.parents))
        for name, column in zip(_SPAN_COLUMNS, columns, strict=True):
            getattr(self, name).extend(column)
        self._num_columned += len(self._rows)
        self._rows.clear()


class MetricLog:
    """Measured values at instants."""

    def __init__(self) -> None:
        self.time_ns = array("q")
        self.round = array("q")
        self.local_step = array("q")
        self.actor: list[str] = []
        self.name: list[str] = []
        self.value = array("d")

    def __len__(self) -> int:
        return len(self.name)

    def add(
        self,
        time_ns: int,
        round_: int,
        local_step: int,
        actor: str,
        name: str,
        value: float,
    ) -> None:
        """Add one value."""
        self.time_ns.append(time_ns)
        self.round.append(round_)
        self.local_step.append(local_step)
        self.actor.append(actor)
        self.name.append(name)
        self.value.append(value)


class GrantLog:
    """Who owns which subchannel from which instant on; client "" means nobody does."""

    def __init__(self) -> None:
        self.time_ns = array("q")
        self.round = array("q")
        self.link: list[str] = []
        self.subchannel = array("q")
        self.client: list[str] = []
        self.tx_power_w = array("d")
        self.gain = array("d")
        self.bandwidth_hz = array("d")

    def __len__(self) -> int:
        return len(self.link)

    def add(
        self,
        time_ns: int,
        round_: int,
        link: str,
        subchannel: int,
        client: str,
        tx_power_w: float,
        gain: float,
        bandwidth_hz: float | None = None,
    ) -> None:
        """Add one change of hands.

        ``gain`` is the linear power gain at that instant; ``bandwidth_hz`` the width
        of a channel the band was carved anew into, None for the link's own subchannel.
        """
        self.time_ns.append(time_ns)
        self.round.append(round_)
        self.link.append(link)
        self.subchannel.append(subchannel)
        self.client.append(client)
        self.tx_power_w.append(tx_power_w)
        self.gain.append(gain)
        self.bandwidth_hz.append(math.nan if bandwidth_hz is None else bandwidth_hz)


class Log:
    """All that a run records while it goes."""

    def __init__(self) -> None:
        self.spans = SpanLog()
        self.metrics = MetricLog()
        self.grants = GrantLog()
