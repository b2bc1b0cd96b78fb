"""What holds before fading, over time: where clients are, and which base station serves them."""

from typing import TYPE_CHECKING

import numpy as np

from cosim.errors import ScenarioError
from cosim.radio.channel_settings import ChannelSettings
from cosim.radio.kept import Kept
from cosim.radio.large_scale import LargeScale
from cosim.radio.mobility.static import Static
from cosim.rng import stream
from cosim.units import Floats, Ints

if TYPE_CHECKING:
    from cosim.radio.path import Users

_MOST_KEPT = 16
_HANDOVER_BLOCKS = 64  # from one instant whose serving stations are kept to the next


class LargeScales:
    """The large scale of all clients at any time; a pure function of (settings, seed, time).

    Raises
    ------
    ScenarioError
        If the placement cannot place that many clients, or one begins outside of the layout.
    """

    def __init__(self, radio: ChannelSettings, num_clients: int, seed: int) -> None:
        self._radio, self._root = radio, stream(seed, "radio")
        places_m = radio.placement.place(self._root.child("placement"), num_clients)
        self._begin_m = radio.mobility.begin_m(places_m)
        _check_places(radio, self._begin_m)
        self._kept: Kept[tuple[int, int], LargeScale] = Kept(_MOST_KEPT)
        self._gone: Kept[tuple[int, int], Floats] = Kept(_MOST_KEPT)
        self._serving: dict[int, Ints] = {}
        self._users: dict[int, Users] = {}

    def at(self, time_ns: int) -> LargeScale:
        """Return what holds at an instant, for one instant."""
        return self.over(np.array([time_ns]))[0]

    def over(self, time_ns: Ints) -> tuple[LargeScale, Ints]:
        """Return what holds over some blocks, and which of its instants each block has."""
        holds_ns = self._radio.mobility.block_ns
        number = np.zeros(len(time_ns), dtype=np.int64) if holds_ns is None else time_ns // holds_ns
        first, beyond = int(number[0]), int(number[-1]) + 1
        found = self._kept.find((first, beyond))
        if found is None:
            found = self._kept.keep((first, beyond), self._drawn(first, beyond))
        return found, number - first

    def gone_m(self, time_ns: Ints) -> Floats:
        """Return how far every client has gone, m, shape (num_instants, num_clients)."""
        key = int(time_ns[0]), len(time_ns)
        found = self._gone.find(key)
        if found is None:
            chance = self._root.child("mobility")
            found = self._gone.keep(key, self._radio.mobility.travelled_m(self._begin_m, chance, time_ns))
        return found

    def other_users(self, count: int) -> "Users":
        """Return so many users of other cells, placed as clients are; they do not move."""
        if count not in self._users:
            from cosim.radio.path import Users

            chance = self._root.child("other users")
            resting = self._radio.model_copy(update={"mobility": Static()})
            begin_m = self._radio.placement.place(chance.child("placement"), count)
            scale = LargeScale.at(resting, begin_m, self._root, np.array([0]), of_clients=chance)
            self._users[count] = Users(scale.serving[0], scale.station_gains[0])
        return self._users[count]

    def _drawn(self, first: int, beyond: int) -> LargeScale:
        """Return what holds over some blocks of the mobility."""
        time_ns = np.arange(first, beyond) * (self._radio.mobility.block_ns or 0)
        return LargeScale.at(
            self._radio, self._begin_m, self._root, time_ns, before=self._served_before(first)
        )

    def _served_before(self, number: int) -> Ints | None:
        """Return which base station served each client before a block, where a handover depends on it.

        Worked out from the beginning on, so that it is the same whatever was asked for before.
        """
        if number == 0 or not self._radio.base_stations.hysteresis_db:
            return None
        first = max((known for known in self._serving if known <= number), default=0)
        while first < number:
            beyond = min(first - first % _HANDOVER_BLOCKS + _HANDOVER_BLOCKS, number)
            served: Ints = self._drawn(first, beyond).serving[-1]
            if beyond % _HANDOVER_BLOCKS == 0:
                self._serving[beyond] = served
            elif beyond == number:
                return served
            first = beyond
        return self._serving[number]


def _check_places(radio: ChannelSettings, begin_m: Floats) -> None:
    """Refuse clients that begin outside of the layout of base stations."""
    outside = np.flatnonzero(~radio.base_stations.covers(begin_m))
    if len(outside):
        x, y = begin_m[outside[0]]
        raise ScenarioError(
            f"radio.placement: client {outside[0]} begins at [{x:.4g}, {y:.4g}] m, outside of the layout of "
            f"radio.base_stations {radio.base_stations.kind!r}; place clients within, or lay out more sites."
        )
