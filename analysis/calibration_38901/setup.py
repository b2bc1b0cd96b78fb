"""What the calibration plays: 3GPP TR 38.901, clause 7.8.1 (Table 7.8-1), with Tables 7.2-1 and 7.2-2.

The companies' curves (R1-165974, May 2016) were made with TR 38.900 V14, so high-loss walls are those of
editions up to 16.1 (infra-red reflecting glass 23 + 0.3 f dB). TR 38.900 also had another formula for
line of sight in UMa, 32.4 + 20 log10 d + 20 log10 f up to the breakpoint; here it is that of TR 38.901.

Where Table 7.8-1 leaves something open, a public calibration of QuaDRiGa with the same set-up decides: three
sectors at the indoor sites, sites in two rows of six, columns of ten elements half a wavelength
apart, fields of neither line of sight nor shadowing (clause 7.6.3 is not used).
"""

from dataclasses import dataclass
from typing import Any

from cosim.radio.settings import Radio

FREQUENCIES_GHZ = (6, 30, 70)
USERS_PER_SECTOR = 10

PERCENTILES = (5, 50, 95)
PUBLISHED = {
    "UMa-6GHz": ((-150.4, -120.3, -86.0), (-9.48, 5.83, 24.7)),
    "UMi-6GHz": ((-142.3, -112.2, -74.8), (-6.97, 5.54, 23.9)),
    "Indoor-6GHz": ((-71.1, -59.3, -45.0), (-4.39, 3.02, 17.9)),
}
"""Coupling gain and SINR at :data:`PERCENTILES`, dB: means over 21 companies, R1-165974."""


@dataclass(frozen=True)
class Case:
    """One environment at one frequency.

    Attributes
    ----------
    name
        As in the tables of the standard's calibration.
    radio
        Antennas, places and propagation.
    tx_power_dbm, bandwidth_hz, noise_figure_db
        Of a base station; of both; of a user.
    """

    name: str
    radio: Radio
    tx_power_dbm: float
    bandwidth_hz: float
    noise_figure_db: float

    @property
    def num_users(self) -> int:
        """Ten for each sector."""
        return USERS_PER_SECTOR * len(self.radio.base_stations.positions_m())


def cases() -> list[Case]:
    """Return all environments at all frequencies."""
    return [
        _case(place, ghz, radio, low_dbm if ghz == 6 else high_dbm)
        for place, radio, low_dbm, high_dbm in (
            ("UMa", _cells("tr_38901_uma", isd_m=500.0, min_distance_m=35.0), 49.0, 35.0),
            ("UMi", _cells("tr_38901_umi", isd_m=200.0, min_distance_m=10.0), 44.0, 35.0),
            ("Indoor", _office(), 24.0, 24.0),
        )
        for ghz in FREQUENCIES_GHZ
    ]


def _case(place: str, ghz: int, radio: dict[str, Any], tx_power_dbm: float) -> Case:
    settings = {"carrier_frequency_hz": ghz * 1e9, "antenna_gain_db": 0.0, **radio}
    return Case(
        name=f"{place}-{ghz}GHz",
        radio=Radio.model_validate(settings),
        tx_power_dbm=tx_power_dbm,
        bandwidth_hz=20e6 if ghz == 6 else 100e6,
        noise_figure_db=9.0 if ghz == 6 else 10.0,
    )


def _cells(environment: str, isd_m: float, min_distance_m: float) -> dict[str, Any]:
    """Return 19 sites of three sectors with wrap-around, tilted by 12 degrees, 80 % of the users indoors."""
    plan = {"kind": "hexagonal", "inter_site_distance_m": isd_m, "num_rings": 2}
    return {
        "base_stations": plan | {"downtilt_deg": 12.0},
        "placement": plan | {"min_distance_m": min_distance_m},
        "path_loss": {
            "kind": environment,
            "indoor_share": 0.8,
            "high_loss_share": 0.5,
            "spatially_consistent": False,
            "edition": "16.1",
        },
        "shadowing": {"kind": "tr_38901"},
    }


def _office() -> dict[str, Any]:
    """Return 12 sites of three sectors in an open office of 120 x 50 m, tilted by 20 degrees."""
    sites_m = [[20.0 * column - 50.0, 20.0 * row - 10.0] for row in range(2) for column in range(6)]
    return {
        "base_stations": {"kind": "given", "site_positions_m": sites_m, "downtilt_deg": 20.0},
        "placement": {"kind": "rectangle", "length_m": 120.0, "width_m": 50.0},
        "path_loss": {"kind": "tr_38901_inh", "office": "open", "spatially_consistent": False},
        "shadowing": {"kind": "tr_38901"},
    }
