"""What of a client's power arrives on average: place, serving base station, path loss and shadowing."""

from typing import NamedTuple, Self

import numpy as np

from cosim.radio.base_stations import BaseStations
from cosim.radio.channel_settings import ChannelSettings
from cosim.radio.geometry import Geometry
from cosim.rng import Stream
from cosim.units import Floats, Ints, db_to_linear


class LargeScale(NamedTuple):
    """Some instants; arrays are of shape (num_instants, num_clients), read-only.

    Attributes
    ----------
    positions_m, station_m
        Where each client is, and the base station that serves it or its nearest image,
        m, shape (num_instants, num_clients, 2).
    serving
        Number of that base station.
    distances_m, path_loss_db, shadowing_db, antenna_gain_db
        To that base station.
    mean_gains
        Linear power gain from there, before fading.
    station_gains
        The same from every base station, shape (num_instants, num_clients, num_stations).
    """

    positions_m: Floats
    station_m: Floats
    serving: Ints
    distances_m: Floats
    path_loss_db: Floats
    shadowing_db: Floats
    antenna_gain_db: Floats
    mean_gains: Floats
    station_gains: Floats

    @classmethod
    def at(
        cls,
        radio: ChannelSettings,
        begin_m: Floats,
        root: Stream,
        time_ns: Ints,
        *,
        before: Ints | None = None,
        of_clients: Stream | None = None,
    ) -> Self:
        """Return it at some instants.

        Parameters
        ----------
        begin_m
            Where the clients begin, m, shape (num_clients, 2).
        root
            Chance of the radio.
        time_ns
            Beginnings of blocks of the mobility, ns, shape (num_instants,).
        before
            Which base station served each client in the block before the first, shape
            (num_clients,); None if there was none.
        of_clients
            Chance of what clients take along, where they are not those of the scenario.
        """
        stations = radio.base_stations
        positions_m = radio.mobility.positions_m(begin_m, root.child("mobility"), time_ns)
        between_m = positions_m[:, :, np.newaxis] - stations.sites_m()  # (instants, clients, sites, 2)
        away_m = stations.nearest_m(between_m)
        own = root if of_clients is None else of_clients
        geometry = Geometry(positions_m, away_m, radio.carrier_hz, of_places=root, of_clients=own)
        propagation = radio.path_loss.propagation(geometry)
        shadowing_db = np.broadcast_to(
            radio.shadowing.losses_db(geometry, propagation), propagation.loss_db.shape
        )
        site = stations.site_of_station()
        heights_m = np.asarray(propagation.heights_m)[..., np.newaxis]
        pattern_db = stations.gains_db(away_m[:, :, site], heights_m)
        path_loss_db = propagation.loss_db[..., site]  # from here on (instants, clients, stations)
        shadowing_db = shadowing_db[..., site]
        antenna_gain_db = np.broadcast_to(radio.antenna_gain_db + pattern_db, path_loss_db.shape)
        gains = 10.0 ** ((antenna_gain_db - path_loss_db - shadowing_db) / 10.0)
        serving = _serving(stations, gains, before)

        def of_serving(values: Floats) -> Floats:
            return _frozen(np.take_along_axis(values, serving[..., np.newaxis], axis=-1)[..., 0])

        return cls(
            positions_m=_frozen(np.array(positions_m)),
            station_m=_frozen(_stations_m(stations, between_m - away_m, serving)),
            serving=serving,
            distances_m=of_serving(geometry.distances_m[..., site]),
            path_loss_db=of_serving(path_loss_db),
            shadowing_db=of_serving(shadowing_db),
            antenna_gain_db=of_serving(antenna_gain_db),
            mean_gains=of_serving(gains),
            station_gains=_frozen(gains),
        )


def _stations_m(stations: BaseStations, shifts_m: Floats, serving: Ints) -> Floats:
    """Return where the serving stations are: of each, the image that is shifted by what wraps around."""
    site = stations.site_of_station()[serving][..., np.newaxis, np.newaxis]
    shift_m = np.take_along_axis(shifts_m, np.broadcast_to(site, (*serving.shape, 1, 2)), axis=2)[:, :, 0]
    return np.asarray(stations.positions_m()[serving] + shift_m)


def _serving(stations: BaseStations, gains: Floats, before: Ints | None) -> Ints:
    """Return which station serves each client, shape (num_instants, num_clients)."""
    best = stations.serving(gains)
    if not stations.hysteresis_db:
        return best
    margin = db_to_linear(stations.hysteresis_db)
    serving = np.empty_like(best)
    now = best[0] if before is None else before
    for instant, of_stations in enumerate(gains):
        kept, other = (
            np.take_along_axis(of_stations, one[:, np.newaxis], axis=-1)[:, 0] for one in (now, best[instant])
        )
        now = serving[instant] = np.where(other > margin * kept, best[instant], now)
    return serving


def _frozen(values: Floats) -> Floats:
    values.flags.writeable = False
    return values
