"""Sectors: several base stations at a site, each with an antenna that looks its way."""

from abc import abstractmethod
from typing import Literal

import numpy as np
from pydantic import Field

from cosim.radio.base_stations import BaseStations
from cosim.units import Floats, Ints

_LEAST_POWER = 1e-12  # of an array in the direction of a null: minus infinity dB is no gain


class Sectored(BaseStations):
    """Base stations whose sites have one or several sectors with antennas of TR 38.901.

    An antenna is a column of elements above each other, half a wavelength apart unless
    set otherwise, fed with phases that tilt the beam electrically. With ``isotropic``
    antennas there is no gain, and sectors of a site are the same. What they gain comes
    on top of ``radio.antenna_gain_db``.

    Settings
    --------
    num_sectors, first_bearing_deg
        Sectors of each site, evenly spread, and where the first looks, degrees
        counter-clockwise from the x axis.
    num_elements, spacing_wavelengths
        Elements of a column, and their distance.
    downtilt_deg
        Electrical tilt below the horizon, degrees.
    handover_hysteresis_db
        How much stronger than the serving station another must be, before fading, for
        a client to change.

    Source
    ------
    3GPP TR 38.901 V19.2, clause 7.3: element of Table 7.3-1, column with the weights of
    clause 7.3 (the DFT tilt of TR 36.873, clause 7.1); sectors: Table 7.8-1.
    """

    num_sectors: int = Field(default=3, ge=1, le=12)
    first_bearing_deg: float = Field(default=30.0, ge=-360.0, le=360.0)
    antenna: Literal["tr_38901", "isotropic"] = "tr_38901"
    num_elements: int = Field(default=10, ge=1, le=1024)
    spacing_wavelengths: float = Field(default=0.5, gt=0.0, le=10.0)
    downtilt_deg: float = Field(default=12.0, ge=-90.0, le=90.0)
    handover_hysteresis_db: float = Field(default=0.0, ge=0.0, le=400.0)

    @property
    def hysteresis_db(self) -> float:
        """As the setting says."""
        return self.handover_hysteresis_db

    @property
    def peak_gain_db(self) -> float | None:
        """Of the element and the column."""
        if self.antenna == "isotropic":
            return None
        return _PEAK_DB + 10.0 * float(np.log10(self.num_elements))

    @abstractmethod
    def sites_m(self) -> Floats:
        """Return where the sites are, m, shape (num_sites, 2)."""

    def positions_m(self) -> Floats:
        return np.repeat(self.sites_m(), self.num_sectors, axis=0)

    def site_of_station(self) -> Ints:
        return np.repeat(np.arange(len(self.sites_m())), self.num_sectors)

    def gains_db(self, away_m: Floats, heights_m: Floats | float) -> Floats | float:
        if self.antenna == "isotropic":
            return 0.0
        along_m = np.hypot(away_m[..., 0], away_m[..., 1])
        azimuth_deg = np.degrees(np.arctan2(away_m[..., 1], away_m[..., 0]))
        zenith_deg = np.degrees(np.arctan2(along_m, heights_m))
        every = np.tile(np.arange(self.num_sectors), len(self.sites_m()))
        bearing_deg = self.first_bearing_deg + 360.0 / self.num_sectors * every
        aside_deg = (azimuth_deg - bearing_deg + 180.0) % 360.0 - 180.0
        return element_gain_db(aside_deg, zenith_deg) + self._column_gain_db(zenith_deg)

    def _column_gain_db(self, zenith_deg: Floats) -> Floats:
        """Return what the column adds to an element, dB."""
        tilted = np.cos(np.radians(zenith_deg)) - np.cos(np.radians(90.0 + self.downtilt_deg))
        step = np.pi * self.spacing_wavelengths * tilted  # half the phase from one element to the next
        parallel = np.abs(np.sin(step)) < 1e-9
        ratio = np.sin(self.num_elements * step) / np.where(parallel, 1.0, np.sin(step))
        power = np.where(parallel, self.num_elements, ratio**2 / self.num_elements)
        return np.asarray(10.0 * np.log10(np.maximum(power, _LEAST_POWER)))


_PEAK_DB, _WIDTH_DEG, _FLOOR_DB = 8.0, 65.0, 30.0


def element_gain_db(azimuth_deg: Floats, zenith_deg: Floats) -> Floats:
    """Return the gain of one element, dBi: 8 at most, 65 degrees wide, never 30 dB below.

    Source
    ------
    3GPP TR 38.901 V19.2, Table 7.3-1.

    Examples
    --------
    >>> element_gain_db(np.array([0.0, 32.5, 180.0]), np.array([90.0, 90.0, 90.0]))
    array([  8.,   5., -22.])
    """
    vertical_db = np.minimum(12.0 * ((zenith_deg - 90.0) / _WIDTH_DEG) ** 2, _FLOOR_DB)
    horizontal_db = np.minimum(12.0 * (azimuth_deg / _WIDTH_DEG) ** 2, _FLOOR_DB)
    return np.asarray(_PEAK_DB - np.minimum(vertical_db + horizontal_db, _FLOOR_DB))
