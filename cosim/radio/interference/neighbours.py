"""Other cells of the same network, which send on the same subchannels."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.parts import LONGEST_S, Decibels
from cosim.radio.interference import Interference
from cosim.radio.path import Network, Path, Users
from cosim.radio.power_control import open_loop_psd_w_per_hz
from cosim.rng import Stream
from cosim.units import Floats, Ints, dbm_to_w, seconds_to_ns


class Neighbours(Interference):
    """Traffic of base stations other than the serving one, which takes no part in the learning.

    A neighbour uses each subchannel with probability ``load``. Downlinks: each base station sends
    ``station_tx_power_dbm`` over the whole link, evenly. Uplinks: each has users of its own, placed
    as ``radio.placement`` places clients and served by the strongest; one of them at a
    time sends over the whole link. Its power is ``user_max_tx_power_dbm`` or, with
    ``p0_dbm``, min(that, p0 + 10 log10 M + alpha PL) for M resource blocks of 180 kHz and
    the coupling loss PL to its own base station.

    Interferers do not fade. Without ``update_s`` there is always the mean power, over the load
    and over a neighbour's users; with it, who sends on which subchannel is drawn for every
    ``update_s``.

    Settings
    --------
    users_per_station
        Users placed for each base station, on average.

    Source
    ------
    Power control: 3GPP TS 38.213, clause 7.1.1. Ten users for each base station: 3GPP TR
    38.901, Table 7.8-1 (570 for 57 sectors).
    """

    kind: Literal["neighbours"] = "neighbours"
    load: float = Field(default=1.0, ge=0.0, le=1.0)
    station_tx_power_dbm: Decibels = 46.0
    user_max_tx_power_dbm: Decibels = 23.0
    p0_dbm: Decibels | None = None
    alpha: float = Field(default=1.0, ge=0.0, le=1.0)
    users_per_station: int = Field(default=10, ge=1, le=1000)
    update_s: float | None = Field(default=None, ge=1e-6, le=LONGEST_S)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"load": 0.5, "update_s": 0.01, "users_per_station": 3},
        {"p0_dbm": -80.0, "alpha": 0.8},
    )

    @property
    def block_ns(self) -> int | None:
        return None if self.update_s is None else seconds_to_ns(self.update_s)

    @property
    def users_of_each(self) -> int:
        """As the setting says."""
        return self.users_per_station

    def psd_w_per_hz(self, path: Path, bandwidths_hz: Floats) -> Floats:
        network = path.network
        if network is None or network.station_gains.shape[1] == 1 or not self.load:
            return np.zeros((1, 1))
        width_hz = float(bandwidths_hz.sum())
        if not path.is_uplink:
            psd = dbm_to_w(self.station_tx_power_dbm) / width_hz
            is_other = np.arange(network.station_gains.shape[1]) != network.serving[:, np.newaxis]
            heard = psd * np.where(is_other, network.station_gains, 0.0)  # (count, num_stations)
            return self._over_subchannels(path, heard, len(bandwidths_hz))
        users = network.users(self.users_of_each * network.station_gains.shape[1])
        received = self._user_psd(users, width_hz)[:, np.newaxis] * users.station_gains
        if self.block_ns is None:
            means = np.array([self._mean(received, users, int(station)) for station in network.serving])
            return self._over_subchannels(path, means, len(bandwidths_hz))
        return self._drawn_users(path, network, received, users, len(bandwidths_hz))

    def _user_psd(self, users: Users, width_hz: float) -> Floats:
        """Return what each user sends, W/Hz, shape (num_users,)."""
        most = dbm_to_w(self.user_max_tx_power_dbm) / width_hz
        if self.p0_dbm is None:
            return np.full(len(users.serving), most)
        own = np.take_along_axis(users.station_gains, users.serving[:, np.newaxis], axis=1)[:, 0]
        return np.minimum(open_loop_psd_w_per_hz(self.p0_dbm, self.alpha, own), most)

    def _mean(self, received: Floats, users: Users, station: int) -> Floats:
        """Return what a station hears on average of each neighbour's users, W/Hz, shape (num_stations,)."""
        num_stations = users.station_gains.shape[1]
        total = np.bincount(users.serving, weights=received[:, station], minlength=num_stations)
        mean = total / np.maximum(np.bincount(users.serving, minlength=num_stations), 1)
        mean[station] = 0.0
        return np.asarray(mean)

    def _over_subchannels(self, path: Path, heard: Floats, num_subchannels: int) -> Floats:
        """Return the sum over neighbours of the power that each has when it sends, W/Hz."""
        if self.block_ns is None or path.network is None:
            return np.asarray(self.load * heard.sum(axis=-1, keepdims=True))
        shape = heard.shape[1], num_subchannels
        sends = self._uniforms(path, "activity", shape) < self.load  # (count, num_stations, num_subchannels)
        return np.asarray((heard[:, :, np.newaxis] * sends).sum(axis=1))

    def _drawn_users(
        self, path: Path, network: Network, received: Floats, users: Users, num_subchannels: int
    ) -> Floats:
        """Return what is heard of one user of each neighbour on each subchannel, W/Hz."""
        num_stations = users.station_gains.shape[1]
        order = np.argsort(users.serving, kind="stable")
        counts = np.bincount(users.serving, minlength=num_stations)
        first = np.cumsum(counts) - counts
        which = self._uniforms(path, "user", (num_stations, num_subchannels))
        rank = np.minimum((which * counts[:, np.newaxis]).astype(np.int64), counts[:, np.newaxis] - 1)
        user = order[np.minimum(first[:, np.newaxis] + np.maximum(rank, 0), len(order) - 1)]
        heard = received[user, network.serving[:, np.newaxis, np.newaxis]]
        is_other = np.arange(num_stations) != network.serving[:, np.newaxis]
        sends = self._uniforms(path, "activity", (num_stations, num_subchannels)) < self.load
        sends &= (is_other & (counts > 0))[:, :, np.newaxis]
        return np.asarray((heard * sends).sum(axis=1))

    def _uniforms(self, path: Path, name: str, shape: tuple[int, int]) -> Floats:
        """Return draws of each block, which all paths of a link share, shape (count, *shape)."""
        assert path.network is not None
        assert self.block_ns is not None
        chance: Stream = path.network.stream.child(path.link, name)
        numbers: Ints = path.time_ns // self.block_ns
        low, high = int(numbers[0]), int(numbers[-1])
        table = chance.uniforms(low, high - low + 1, shape[0] * shape[1])
        return table[numbers - low].reshape(len(numbers), *shape)
