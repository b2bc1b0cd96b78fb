"""Clustered delay lines of TR 38.901: fading whose Doppler shifts and antennas follow angles."""

from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cosim.radio.fading.delay_line import DelayLine, profile_of
from cosim.rng import Stream
from cosim.units import Floats

_RAYS = 20
_OFFSETS = "0.0447 0.1413 0.2492 0.3715 0.5129 0.6797 0.8844 1.1481 1.5195 2.1551"
"""Of the rays of a cluster, in spreads, to both sides: Table 7.5-3."""

_LAST_DELAY_OF_E = 20.6419  # the taps of TDL-E end at 20.6519
_SPREADS = {"A": "5 11 3 3", "B": "10 22 3 7", "C": "2 15 3 7", "D": "5 8 3 3", "E": "5 11 3 7"}
"""Of the rays of a cluster in azimuth of departure and arrival and zenith of both, degrees."""

_ANGLES = {
    "A": (
        "-178.1 -4.2 -4.2 -4.2 90.2 90.2 90.2 121.5 -81.7 158.4 -83 134.8 -153 -172 -129.9 -136 165.4 148.4 "
        "132.7 -118.6 -154.1 126.5 -56.2",
        "51.3 -152.7 -152.7 -152.7 76.6 76.6 76.6 -1.8 -41.9 94.2 51.9 -115.9 26.6 76.6 -7 -23 -47.2 110.4 "
        "144.5 155.3 102 -151.8 55.2",
        "50.2 93.2 93.2 93.2 122 122 122 150.2 55.2 26.4 126.4 171.6 151.4 157.2 47.2 40.4 43.3 161.8 10.8 "
        "16.7 171.7 22.7 144.9",
        "125.4 91.3 91.3 91.3 94 94 94 47.1 56 30.1 58.8 26 49.2 143.1 117.4 122.7 123.2 32.6 27.2 15.2 146 "
        "150.7 156.1",
    ),
    "B": (
        "9.3 9.3 9.3 -34.1 -65.4 -11.4 -11.4 -11.4 -67.2 52.5 -72 74.3 -52.2 -50.5 61.4 30.6 -72.5 -90.6 "
        "-77.6 -82.6 -103.6 75.6 -77.6",
        "-173.3 -173.3 -173.3 125.5 -88 155.1 155.1 155.1 -89.8 132.1 -83.6 95.3 103.7 -87.8 -92.5 -139.1 "
        "-90.6 58.6 -79 65.8 52.7 88.7 -60.4",
        "105.8 105.8 105.8 115.3 119.3 103.2 103.2 103.2 118.2 102 100.4 98.3 103.4 102.5 101.4 103 100 "
        "115.2 100.5 119.6 118.7 117.8 115.7",
        "78.9 78.9 78.9 63.3 59.9 67.5 67.5 67.5 82.6 66.3 61.6 58 78.2 82 62.4 78 60.9 82.9 60.8 57.3 59.9 "
        "60.1 62.3",
    ),
    "C": (
        "-46.6 -22.8 -22.8 -22.8 -40.7 0.3 0.3 0.3 73.1 -64.5 80.2 -97.1 -55.3 -64.3 -78.5 102.7 99.2 88.8 "
        "-101.9 92.2 93.3 106.6 119.5 -123.8",
        "-101 120 120 120 -127.5 170.4 170.4 170.4 55.4 66.5 -48.1 46.9 68.1 -68.7 81.5 30.7 -16.4 3.8 -13.7 "
        "9.7 5.6 0.7 -21.9 33.6",
        "97.2 98.6 98.6 98.6 100.6 99.2 99.2 99.2 105.2 95.3 106.1 93.5 103.7 104.2 93 104.2 94.9 93.1 92.2 "
        "106.7 93 92.9 105.2 107.8",
        "87.6 72.1 72.1 72.1 70.1 75.3 75.3 75.3 67.4 63.8 71.4 60.5 90.6 60.1 61 100.7 62.3 66.7 52.9 61.8 "
        "51.9 61.7 58 57",
    ),
    "D": (
        "0 0 89.2 89.2 89.2 13 13 13 34.6 -64.5 -32.9 52.6 -132.1 77.2",
        "-180 -180 89.2 89.2 89.2 163 163 163 -137 74.5 127.7 -119.6 -9.1 -83.8",
        "98.5 98.5 85.5 85.5 85.5 97.5 97.5 97.5 98.5 88.4 91.3 103.8 80.3 86.5",
        "81.5 81.5 86.9 86.9 86.9 79.4 79.4 79.4 78.2 73.6 78.3 87 70.6 72.9",
    ),
    "E": (
        "0 0 57.5 57.5 57.5 -20.1 16.2 9.3 9.3 9.3 19 32.7 0.5 55.9 57.6",
        "-180 -180 18.2 18.2 18.2 101.8 112.9 -155.5 -155.5 -155.5 -143.3 -94.7 147 -36.2 -26",
        "99.6 99.6 104.2 104.2 104.2 99.4 100.8 98.8 98.8 98.8 100.8 96.4 98.9 95.6 104.6",
        "80.4 80.4 80.4 80.4 80.4 80.8 86.3 82.7 82.7 82.7 82.9 88 81 88.6 78.3",
    ),
}
"""Of the clusters of each profile azimuth at station and client and zenith at station and client, degrees."""


class Rays(NamedTuple):
    """All rays of a profile, shape (num_clusters, 20): delays are of clusters, (num_clusters,).

    ``departure`` and ``arrival`` are azimuths at the base station and at the client, the others zeniths, rad.
    """

    delays: Floats
    powers: Floats
    departure: Floats
    arrival: Floats
    departure_zenith: Floats
    arrival_zenith: Floats


class ClusteredDelayLine(DelayLine):
    """Clusters of twenty rays, each of which comes from one direction and turns as the client moves that way.

    The Doppler shift of a ray is the largest one times the cosine between its
    direction and the client's, so that a spectrum is not Jakes'. Rays of a cluster are coupled at
    random and begin with random phases. The client moves level, towards ``movement_deg``; each
    its own way where that is left out. A base station has ``num_antennas`` in a horizontal line,
    half a wavelength apart, and adds up the powers of all: a gain is their mean, as what they gain
    together is in ``radio.antenna_gain_db``. One polarisation. Both directions have the same angles.

    Source
    ------
    3GPP TR 38.901 V19.2, clause 7.7.1, Tables 7.7.1-1 to 7.7.1-5; rays as in clause 7.5, steps 7 to 11.
    """

    kind: Literal["cdl"] = "cdl"
    num_antennas: int = Field(default=1, ge=1, le=256)
    movement_deg: float | None = Field(default=None, ge=-360.0, le=360.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"doppler_hz": 50.0},
        {"profile": "D", "doppler_hz": 20.0, "num_antennas": 2, "movement_deg": 30.0},
        {"profile": "B", "speed_m_per_s": 3.0, "carrier_hz": 2e9, "selectivity": "flat"},
    )

    def clusters(self, stream: Stream, swept: Floats) -> list[NDArray[np.complex128]]:
        """Return for each antenna the complex amplitudes, shape (count, num_clusters)."""
        rays = _rays(self.profile)
        shape = num_clusters, num_rays = rays.departure.shape
        drawn = stream.child("rays").uniforms(0, 4 * num_clusters, num_rays).reshape(4, *shape)
        orders = np.argsort(drawn[:3], axis=2)
        arrival, departure_zenith, arrival_zenith = (
            np.take_along_axis(angles, order, axis=1)
            for angles, order in zip(
                (rays.arrival, rays.departure_zenith, rays.arrival_zenith), orders, strict=True
            )
        )
        drawn_way = 2.0 * np.pi * stream.child("movement").uniforms(0, 1, 1)[0, 0]
        towards = drawn_way if self.movement_deg is None else np.radians(self.movement_deg)
        shift = np.sin(arrival_zenith) * np.cos(arrival - towards)  # of the largest Doppler shift
        ahead = np.pi * np.sin(departure_zenith) * np.sin(rays.departure)  # from one antenna to the next
        phase = 2.0 * np.pi * drawn[3]
        moved = np.sqrt(rays.powers) * np.exp(1j * (swept[:, np.newaxis, np.newaxis] * shift + phase))
        turns = [1.0, *(np.exp(1j * number * ahead) for number in range(1, self.num_antennas))]
        return [np.asarray((moved * turn).sum(axis=-1)) for turn in turns]  # of (count, clusters, rays)

    def copies(self, stream: Stream, swept: Floats) -> tuple[Floats, list[NDArray[np.complex128]]]:
        """Return the clusters of each antenna."""
        return self.delay_spread_s * _rays(self.profile).delays, self.clusters(stream, swept)


@cache
def _rays(name: str) -> Rays:
    """Return the rays of a profile; the line of sight of D and E is one ray in the place of twenty."""
    delays, powers = profile_of(name)
    if name == "E":
        delays = np.array([*delays[:-1], _LAST_DELAY_OF_E])
    half = np.array([float(one) for one in _OFFSETS.split()])
    offsets = np.stack([half, -half], axis=1).ravel()  # (20,)
    spreads = [float(one) for one in _SPREADS[name].split()]
    is_cluster = np.ones(len(delays))
    if name in ("D", "E"):
        is_cluster[0] = 0.0
    angles = [
        np.array([float(one) for one in row.split()])[:, np.newaxis]
        + spread * is_cluster[:, np.newaxis] * offsets
        for row, spread in zip(_ANGLES[name], spreads, strict=True)
    ]
    share = np.repeat(powers[:, np.newaxis] / _RAYS, _RAYS, axis=1)
    if name in ("D", "E"):
        share[0] = 0.0
        share[0, 0] = powers[0]
    return Rays(delays, share, *map(np.radians, angles))
