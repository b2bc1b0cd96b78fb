"""What every base stations keeps, run over each part's examples."""

import numpy as np
import pytest

from cosim.radio.base_stations import BaseStations
from cosim.rng import stream
from cosim.testing.selection import parts_of

EXAMPLES = parts_of(BaseStations)


@pytest.mark.parametrize("part", EXAMPLES)
def test_every_client_is_served_by_a_base_station_that_is_there(part):
    num_stations, _ = part.positions_m().shape
    gains = stream(2, "gains").uniforms(0, 15, num_stations).reshape(5, 3, num_stations)
    serving = part.serving(gains)
    assert serving.shape == (5, 3)
    assert ((serving >= 0) & (serving < num_stations)).all()


@pytest.mark.parametrize("part", EXAMPLES)
def test_stations_are_at_sites_and_their_antennas_gain_no_more_than_they_say(part):
    np.testing.assert_array_equal(part.sites_m()[part.site_of_station()], part.positions_m())
    turns = 2.0 * np.pi * stream(2, "turns").uniforms(0, 200, 2)
    away_m = 100.0 * np.stack([np.cos(turns[:, 0]), np.sin(turns[:, 0])], axis=1)
    away_m = np.broadcast_to(away_m[:, np.newaxis], (200, len(part.positions_m()), 2))[np.newaxis]
    heights_m = (30.0 * np.sin(turns[:, 1]))[np.newaxis, :, np.newaxis]
    gains_db = np.broadcast_to(part.gains_db(away_m, heights_m), away_m.shape[:-1])
    assert np.isfinite(gains_db).all()
    assert (gains_db <= (part.peak_gain_db or 0.0) + 1e-9).all()
    np.testing.assert_array_less(np.hypot(*part.nearest_m(away_m).T), 100.0 + 1e-6)
