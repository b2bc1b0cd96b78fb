"""What is drawn of the air of many channels, and who is granted what on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from cosim.radio.fading import Fading
from cosim.radio.grant import Grant
from cosim.radio.large_scales import LargeScales
from cosim.radio.settings import Radio
from cosim.rng import Stream, stream
from cosim.tensor.philox import Tables
from cosim.units import Floats, Ints

_MOST_KEPT = 32 << 20  # bytes of fading

Flow = tuple[str, tuple[int, ...]]
"""What is sent on: a link, and the clients that send or are sent to at once."""

Grants = Mapping[str, Sequence[Grant]]
"""By link, the grant of each client."""


@dataclass(frozen=True, eq=False)
class Air:
    """One channel: settings, the seed of the run, and who is granted what."""

    radio: Radio
    seed: int
    grants: Grants

    def grant(self, flow: Flow) -> Grant:
        """Return what a flow is sent on."""
        link, clients = flow
        each = [self.grants[link][client] for client in clients]
        return each[0] if len(each) == 1 else Grant.union(each)


@dataclass(eq=False)
class Draws:
    """What is drawn of the air, kept while the same is asked for: settings that draw nothing share it.

    Attributes
    ----------
    num_clients
        Of every channel.
    """

    num_clients: int
    _gains: dict[int, list[tuple[tuple[object, ...], Floats]]] = field(default_factory=dict)
    _fading: dict[tuple[int, str, tuple[int, ...], int, bytes], list[tuple[Fading, int, Floats]]] = field(
        default_factory=dict
    )

    _bytes: int = 0

    def mean_gains(self, radio: Radio, seed: int) -> Floats:
        """Return the gain of each client before fading, shape (num_clients,), where none moves."""
        parts = (
            *(radio.base_stations, radio.placement, radio.path_loss, radio.shadowing),
            *(radio.antenna_gain_db, radio.carrier_hz),
        )
        known = self._gains.setdefault(seed, [])
        found = next((gains for one, gains in known if one == parts), None)
        if found is None:
            found = LargeScales(radio, self.num_clients, seed).at(0).mean_gains[0]
            known.append((parts, found))
        return found

    def fading(
        self,
        radio: Radio,
        seed: int,
        link: str,
        clients: Sequence[int],
        columns: Sequence[Ints],
        first: int,
        count: int,
    ) -> Floats:
        """Return the fading of clients on some subchannels of each, shape (num_columns, num_clients, count).

        Fading of all subchannels alike has one column.
        """
        fading, width = radio.fading, radio.link(link).num_subchannels
        width = 1 if fading.selectivity == "flat" else width
        key = seed, link, tuple(clients), first, b"".join(one.tobytes() for one in columns)
        for one, its_width, drawn in self._fading.get(key, ()):
            if its_width == width and drawn.shape[2] == count and one == fading:
                return drawn
        base = of_fading(seed, link)
        rows = Tables.of([base.child(one) for one in clients], columns, [first] * len(clients), count)
        drawn = fading.draw(rows, Tables.OWN, rows.num_rows, width)
        if 1 < width == drawn.shape[1] > len(columns[0]):  # nothing is drawn, so of every column
            own = np.repeat(np.array(columns), count, axis=0)
            drawn = np.take_along_axis(drawn, own, axis=1)
        drawn = np.ascontiguousarray(drawn.T).reshape(-1, len(clients), count)
        self._make_room(drawn.nbytes)
        self._fading.setdefault(key, []).append((fading, width, drawn))
        return drawn

    def _make_room(self, num_bytes: int) -> None:
        self._bytes += num_bytes
        if self._bytes > _MOST_KEPT:
            self._fading.clear()
            self._bytes = num_bytes


def bandwidths_of(radio: Radio, link: str, grant: Grant) -> Floats:
    """Return the width of each subchannel of a grant, Hz."""
    split_hz = grant.bandwidths_hz
    return np.array(radio.link(link).widths_hz)[grant.subchannels] if split_hz is None else split_hz


@lru_cache
def of_fading(seed: int, link: str) -> Stream:
    """Return the chance of the fading of a link, which each client has a child of."""
    return stream(seed, "radio", "fading", link)
