"""What of a client's power arrives on average: place, serving base station, path loss and shadowing."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from cosim.radio.channel_settings import ChannelSettings
from cosim.rng import Stream
from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class LargeScale:
    """Some instants; arrays are of shape (num_instants, num_clients), read-only.

    Attributes
    ----------
    positions_m, station_m
        Where each client is, and the base station that serves it, m, shape
        (num_instants, num_clients, 2).
    distances_m, path_loss_db, shadowing_db
        To that base station.
    mean_gains
        Linear power gain from there, before fading.
    """

    positions_m: Floats
    station_m: Floats
    distances_m: Floats
    path_loss_db: Floats
    shadowing_db: Floats
    mean_gains: Floats

    @classmethod
    def at(cls, radio: ChannelSettings, begin_m: Floats, root: Stream, time_ns: Ints) -> Self:
        """Return it at some instants.

        Parameters
        ----------
        begin_m
            Where the clients begin, m, shape (num_clients, 2).
        root
            Chance of the radio.
        time_ns
            Beginnings of blocks of the mobility, ns, shape (num_instants,).
        """
        positions_m = radio.mobility.positions_m(begin_m, root.child("mobility"), time_ns)
        stations_m = radio.base_stations.positions_m()
        between_m = positions_m[:, :, np.newaxis] - stations_m  # (num_instants, num_clients, num_stations, 2)
        distances_m = np.hypot(between_m[..., 0], between_m[..., 1])
        path_loss_db = radio.path_loss.loss_db(distances_m)
        shadowing_db = np.broadcast_to(
            _shadowing_db(radio, root, len(begin_m), len(stations_m)), path_loss_db.shape
        )
        mean_gains = 10.0 ** ((radio.antenna_gain_db - path_loss_db - shadowing_db) / 10.0)
        serving = radio.base_stations.serving(mean_gains)[..., np.newaxis]

        def of_serving(values: Floats) -> Floats:
            return _frozen(np.take_along_axis(values, serving, axis=-1)[..., 0])

        return cls(
            positions_m=_frozen(np.array(positions_m)),
            station_m=_frozen(stations_m[serving[..., 0]]),
            distances_m=of_serving(distances_m),
            path_loss_db=of_serving(path_loss_db),
            shadowing_db=of_serving(shadowing_db),
            mean_gains=of_serving(mean_gains),
        )


def _shadowing_db(radio: ChannelSettings, root: Stream, num_clients: int, num_stations: int) -> Floats:
    """Return the shadowing between each client and base station, dB, shape (num_clients, num_stations)."""
    first = root.child("shadowing")
    streams = [first, *(first.child("station", number) for number in range(1, num_stations))]
    return np.stack([radio.shadowing.draw_db(one, num_clients) for one in streams], axis=-1)


def _frozen(values: Floats) -> Floats:
    values.flags.writeable = False
    return values
