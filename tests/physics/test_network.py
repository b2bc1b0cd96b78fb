"""Several cells: antennas, layouts, attachment, handover, and what neighbours send."""

import numpy as np
import pytest
from pydantic import ValidationError

from cosim.errors import ScenarioError
from cosim.radio import hexagons
from cosim.radio.channel import Channel
from cosim.radio.random_field import normals
from cosim.radio.sectors import element_gain_db
from cosim.radio.settings import Radio
from cosim.rng import stream
from cosim.units import dbm_to_w

CELLS = {
    "antenna_gain_db": 0.0,
    "base_stations": {"kind": "hexagonal", "inter_site_distance_m": 200.0, "num_rings": 1},
    "placement": {"kind": "hexagonal", "inter_site_distance_m": 200.0, "num_rings": 1},
    "path_loss": {"kind": "tr_38901_umi"},
    "shadowing": {"kind": "tr_38901"},
}
ALONG_X = {"kind": "constant_velocity", "speed_m_per_s": 20.0, "direction_deg": 0.0, "update_s": 0.1}
TWO_SITES = {
    "base_stations": {
        "kind": "given",
        "site_positions_m": [[0.0, 0.0], [400.0, 0.0]],
        "num_sectors": 1,
        "antenna": "isotropic",
    },
    "placement": {"kind": "given", "positions_m": [[20.0, 5.0]]},
    "mobility": ALONG_X,
    "shadowing": {"kind": "correlated", "std_db": 6.0, "correlation_m": 15.0},
}


def channel(changes, num_clients=1, seed=1):
    return Channel.build(Radio.model_validate(changes), num_clients, seed)


def served(cell, count):
    """Return the base station that serves each client in each block, shape (count, num_clients)."""
    block_ns = cell.radio.mobility.block_ns
    return np.stack([cell.large_scale_at(number * block_ns).serving[0] for number in range(count)])


def test_a_column_gains_its_number_of_elements_where_it_looks_and_keeps_its_power():
    part = Radio.model_validate(CELLS).base_stations
    tilt = np.radians(12.0)
    bearing = np.radians(30.0)
    ahead_m = 100.0 * np.cos(tilt) * np.array([np.cos(bearing), np.sin(bearing)])
    away_m = np.broadcast_to(ahead_m, (1, 1, len(part.positions_m()), 2))
    gains_db = part.gains_db(away_m, -100.0 * np.sin(tilt))
    element_db = float(element_gain_db(np.array(0.0), np.array(102.0)))
    assert gains_db[0, 0, 0] == pytest.approx(element_db + 10.0)
    # over the sphere an array of isotropic elements half a wavelength apart has a mean gain of one
    height = np.linspace(-1.0, 1.0, 20_001)  # equal areas
    column = part._column_gain_db(np.degrees(np.arccos(height)))
    assert np.mean(10.0 ** (column / 10.0)) == pytest.approx(1.0, abs=1e-3)


def test_with_wrap_around_a_site_is_met_from_its_nearest_image():
    rings, apart_m = 2, 500.0
    number = 3 * rings * (rings + 1) + 1
    away_m = 4000.0 * (stream(1, "away").uniforms(0, 300, 2) - 0.5)
    nearest_m = hexagons.nearest_m(away_m, apart_m, rings)
    lengths_m = np.hypot(*nearest_m.T)
    assert (lengths_m <= np.hypot(*away_m.T) + 1e-9).all()
    # the covering radius of the lattice of images, whose points are sqrt(number) sites apart
    assert lengths_m.max() <= apart_m * np.sqrt(number / 3.0) + 1e-6
    # every cell has the same distances to all sites as the one in the middle
    sites_m = hexagons.sites_m(apart_m, rings)
    between_m = hexagons.nearest_m(sites_m[:, np.newaxis] - sites_m, apart_m, rings)
    distances_m = np.sort(np.hypot(between_m[..., 0], between_m[..., 1]), axis=1)
    np.testing.assert_allclose(distances_m, np.tile(distances_m[0], (number, 1)), atol=1e-6)


def test_clients_of_a_hexagonal_plan_are_uniform_and_within_it():
    placement = Radio.model_validate(CELLS).placement
    places_m = placement.place(stream(3, "placement"), 7000)
    assert hexagons.is_inside(places_m, 200.0, 1).all()
    away_m = np.hypot(*(places_m[:, np.newaxis] - hexagons.sites_m(200.0, 1)).transpose(2, 0, 1))
    assert away_m.min() >= 35.0
    per_site = np.bincount(away_m.argmin(axis=1), minlength=7)
    np.testing.assert_allclose(per_site, 1000, atol=150)


def test_a_client_is_served_by_the_strongest_and_sectors_share_their_site():
    cell = channel(CELLS, 40)
    scale = cell.large_scale_at(0)
    np.testing.assert_array_equal(scale.serving[0], scale.station_gains[0].argmax(axis=-1))
    np.testing.assert_array_equal(scale.mean_gains[0], scale.station_gains[0].max(axis=-1))
    away_m = np.hypot(*(scale.positions_m - scale.station_m)[0].T)  # the image that is met
    np.testing.assert_allclose(away_m, scale.distances_m[0], atol=1e-9)
    isotropic = {**CELLS, "base_stations": CELLS["base_stations"] | {"antenna": "isotropic"}}
    by_site = channel(isotropic, 40).large_scale_at(0).station_gains[0].reshape(40, 7, 3)
    np.testing.assert_array_equal(by_site, np.broadcast_to(by_site[..., :1], by_site.shape))


def test_hysteresis_makes_handovers_rare_and_each_needs_its_margin():
    plain = channel(TWO_SITES)
    stations = TWO_SITES["base_stations"] | {"handover_hysteresis_db": 4.0}
    steady = channel({**TWO_SITES, "base_stations": stations})
    serving = served(steady, 190)[:, 0]
    assert 1 <= np.count_nonzero(np.diff(serving)) < np.count_nonzero(np.diff(served(plain, 190)[:, 0]))
    assert serving[0] == 0
    assert serving[-1] == 1
    for number in np.flatnonzero(np.diff(serving)) + 1:
        gains = steady.large_scale_at(int(number) * 100_000_000).station_gains[0, 0]
        assert gains[serving[number]] > 10.0**0.4 * gains[serving[number - 1]]
    # asked for from the middle, it is the same
    again = channel({**TWO_SITES, "base_stations": stations})
    assert again.large_scale_at(150 * 100_000_000).serving[0, 0] == serving[150]
    assert again.large_scale_at(3 * 100_000_000).serving[0, 0] == serving[3]


@pytest.mark.parametrize("load", [1.0, 0.3])
def test_neighbours_at_a_load_are_heard_with_their_closed_form(load):
    interference = {"kind": "neighbours", "load": load, "station_tx_power_dbm": 44.0}
    cell = channel({**CELLS, "interference": interference, "main_downlink": {"bandwidth_hz": 20e6}}, 6)
    scale = cell.large_scale_at(0)
    for client in range(6):
        gains, serving = scale.station_gains[0, client], scale.serving[0, client]
        others = load * dbm_to_w(44.0) / 20e6 * (gains.sum() - gains[serving])
        noise = cell.noise_psd("main_downlink", client, np.arange(20), 0, 1, is_split=False)
        np.testing.assert_allclose(noise, cell.noise_psd_w_per_hz + others, rtol=1e-12)


def test_what_is_drawn_of_neighbours_is_on_average_what_is_heard_without_drawing():
    mean = channel({**CELLS, "interference": {"kind": "neighbours", "load": 0.4}}, 2)
    drawn = channel({**CELLS, "interference": {"kind": "neighbours", "load": 0.4, "update_s": 0.01}}, 2)
    every = np.arange(20)
    for link in ("main_uplink", "main_downlink"):
        expected = mean.noise_psd(link, 1, every, 0, 1, is_split=False)[0] - mean.noise_psd_w_per_hz
        blocks = drawn.noise_psd(link, 1, every, 0, 640, is_split=False) - drawn.noise_psd_w_per_hz
        assert len(np.unique(blocks)) > 100
        spread = blocks.std() / np.sqrt(blocks.size)
        assert blocks.mean() == pytest.approx(expected.mean(), abs=5.0 * spread)


def test_fractional_power_control_makes_uplink_interference_what_its_formula_says():
    control = {"kind": "neighbours", "p0_dbm": -85.0, "alpha": 0.8, "user_max_tx_power_dbm": 23.0}
    cell = channel({**CELLS, "interference": control, "main_uplink": {"bandwidth_hz": 10e6}})
    users = cell._large_scales.other_users(10 * 21)
    own_db = 10.0 * np.log10(users.station_gains.max(axis=1))
    power_dbm = np.minimum(23.0, -85.0 + 10.0 * np.log10(10e6 / 180e3) - 0.8 * own_db)
    assert 0.05 < (power_dbm < 23.0).mean() < 1.0
    station = int(cell.large_scale_at(0).serving[0, 0])
    received = 10.0 ** ((power_dbm - 30.0) / 10.0) / 10e6 * users.station_gains[:, station]
    by_cell = [received[users.serving == other] for other in range(21) if other != station]
    others = sum(one.mean() for one in by_cell if len(one))
    noise = cell.noise_psd("main_uplink", 0, np.arange(20), 0, 1, is_split=False)
    np.testing.assert_allclose(noise, cell.noise_psd_w_per_hz + others, rtol=1e-12)


def test_users_of_other_cells_are_not_the_clients_and_do_not_change_them():
    alone, among = channel(CELLS, 5), channel({**CELLS, "interference": {"kind": "neighbours"}}, 5)
    np.testing.assert_array_equal(alone.mean_gains, among.mean_gains)
    own = normals(stream(1, "radio", "car"), 5)
    assert not np.isin(own, normals(stream(1, "radio", "other users", "car"), 50)).any()


def test_doppler_is_speed_over_wavelength_whatever_the_speed():
    fading = {"kind": "jakes", "follow_mobility": True, "sample_time_s": 0.001, "selectivity": "flat"}
    fixed = {"kind": "jakes", "doppler_hz": 20.0 * 2e9 / 299_792_458.0, "sample_time_s": 0.001}
    common = {**TWO_SITES, "shadowing": {"kind": "none"}}
    following = channel({**common, "fading": fading})
    steady = channel({**common, "fading": fixed | {"selectivity": "flat"}})
    np.testing.assert_allclose(
        following.gains("main_uplink", 0, 500, 200), steady.gains("main_uplink", 0, 500, 200), rtol=1e-7
    )
    faster = channel({**common, "fading": fading, "mobility": ALONG_X | {"speed_m_per_s": 40.0}})
    fades = [
        one.gains("main_uplink", 0, block, 1)[0, 0] / one.large_scale_at(block * 1_000_000).mean_gains[0, 0]
        for one, block in ((following, 800), (faster, 400))
    ]
    assert fades[0] == pytest.approx(fades[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {**CELLS, "carrier_frequency_hz": 200e9},
            r"from 0.5 to 100 GHz \(3GPP TR 38.901, Table 7.4.1-1\), and radio.carrier_frequency_hz is 200",
        ),
        (
            {**CELLS, "path_loss": {"kind": "tr_38901_rma"}, "carrier_frequency_hz": 40e9},
            "from 0.5 to 30 GHz",
        ),
        (
            {"shadowing": {"kind": "tr_38901"}},
            "radio.shadowing: 'tr_38901' depends on the line of sight, which",
        ),
        (
            {"path_loss": {"kind": "free_space", "carrier_hz": 2e9}, "carrier_frequency_hz": 3e9},
            r"path_loss.carrier_hz 2e\+09 is not radio.carrier_frequency_hz 3e\+09; leave the former out",
        ),
        ({"fading": {"kind": "jakes", "follow_mobility": True}}, "radio.mobility 'static' moves none"),
        (
            {"fading": {"kind": "jakes", "follow_mobility": True, "doppler_hz": 5.0}, "mobility": ALONG_X},
            "takes the speed from radio.mobility; leave doppler_hz out",
        ),
        (
            {**TWO_SITES, "interference": {"kind": "neighbours"}},
            "places users of other cells as clients are placed, and radio.placement 'given' is a list",
        ),
        (
            {**CELLS, "placement": {"kind": "hexagonal", "inter_site_distance_m": 50.0}},
            "min_distance_m 35 leaves too little room in hexagons 50 m across",
        ),
        (
            {"mobility": {"kind": "random_waypoint", "radius_m": 9.0, "min_speed_m_per_s": 2.0}},
            "min_speed_m_per_s 2 is above max_speed_m_per_s 1.5",
        ),
        (
            {"path_loss": {"kind": "tr_38901_inf", "station_height_m": 1.5}},
            "'SH' has clients below the clutter and base stations above it",
        ),
        (
            {"path_loss": {"kind": "tr_38901_inf", "sub_scenario": "HH", "line_of_sight": "never"}},
            "'HH' always has line of sight",
        ),
    ],
)
def test_what_does_not_go_together_is_one_clear_line(changes, message):
    with pytest.raises((ValidationError, ScenarioError), match=message):
        channel(changes)


def test_a_client_outside_of_the_layout_is_named():
    outside = {**CELLS, "placement": {"kind": "given", "positions_m": [[10.0, 0.0], [900.0, 0.0]]}}
    with pytest.raises(ScenarioError, match=r"client 1 begins at \[900, 0\] m, outside of the layout"):
        channel(outside, 2)


def test_a_pattern_on_top_of_a_gain_is_said():
    assert Radio.model_validate(CELLS).notes == ()
    (note,) = Radio.model_validate(CELLS | {"antenna_gain_db": 10.0}).notes
    assert "up to 18.0 dBi" in note


@pytest.fixture
def path_file(tmp_path):
    def written(*lines, head="client,time_s,x_m,y_m"):
        file = tmp_path / "path.csv"
        file.write_text("\n".join([head, *lines]))
        return file

    return written


def on_path(file, **more):
    return channel({"mobility": {"kind": "path", "file": file, "update_s": 0.5, **more}}, 2)


def test_clients_are_on_their_path_and_stay_at_its_end(path_file):
    cell = on_path(path_file("1,0,100,0", "1,10,200,0", "1,20,200,50"))
    there_m = [cell.large_scale_at(round(at_s * 1e9)).positions_m[0, 1] for at_s in (0.0, 5.0, 15.0, 99.0)]
    np.testing.assert_allclose(there_m, [[100.0, 0.0], [150.0, 0.0], [200.0, 25.0], [200.0, 50.0]])
    resting = [cell.large_scale_at(at_ns).positions_m[0, 0] for at_ns in (0, 10**10)]
    np.testing.assert_array_equal(*resting)
    assert cell._large_scales.gone_m(np.array([15 * 10**9]))[0, 1] == pytest.approx(125.0)


@pytest.mark.parametrize(
    ("lines", "more", "message"),
    [
        (
            ["1,0,0,9", "1,4,0,9", "1,3,0,9"],
            {},
            "line 4: client 1 is at 3 s after a row at 4 s; sort its rows",
        ),
        (["1,2,0,9"], {}, "line 2: client 1 begins at 2 s; give its place at 0 s"),
        (["1,0,0,9", "1,60,0,9"], {"max_gap_s": 5.0}, "no row between 0 and 60 s, and max_gap_s is 5"),
        (["7,0,0,9"], {}, "has a path of client 7; there are clients 0 to 1"),
        (["1,0,near,9"], {}, "line 2: 1, 0, near, 9 is not a client from 0 and three numbers"),
        ([], {}, "has no rows"),
    ],
)
def test_a_path_that_cannot_be_followed_is_one_clear_line(path_file, lines, more, message):
    with pytest.raises(ScenarioError, match=message):
        on_path(path_file(*lines), **more)


def test_a_path_file_without_a_column_or_that_is_not_there_is_named(path_file, tmp_path):
    with pytest.raises(ScenarioError, match="has no column 'y_m'; it needs client, time_s, x_m, y_m"):
        on_path(path_file("1,0,3", head="client,time_s,x_m"))
    with pytest.raises(ScenarioError, match="cannot be read"):
        on_path(tmp_path / "none.csv")
