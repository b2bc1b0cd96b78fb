"""The cell: gains as a pure function of seed, link, client and time, and the budget they add up to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.radio.channel import Channel
from cosim.radio.channel_settings import LINKS
from cosim.radio.settings import Radio
from cosim.testing.ulps import ulps_apart
from cosim.units import dbm_to_w

RAYLEIGH = {"kind": "rayleigh_block", "coherence_time_s": 0.001}
FADINGS = [
    {"kind": "none"},
    RAYLEIGH,
    {"kind": "rayleigh_block"},
    {"kind": "rician", "k_factor": 2.0, "coherence_time_s": 0.001},
    {"kind": "nakagami", "m": 3.0, "coherence_time_s": 0.001},
    {"kind": "jakes", "doppler_hz": 20.0},
]


def cell_of(fading: dict, num_clients: int = 3, seed: int = 5, **more) -> Channel:
    return Channel.build(Radio.model_validate({"fading": fading, **more}), num_clients, seed)


def test_the_mean_gain_is_antenna_gain_less_path_loss_less_shadowing():
    cell = cell_of({"kind": "none"}, antenna_gain_db=12.0)
    gain_db = 12.0 - cell.path_loss_db - cell.shadowing_db
    np.testing.assert_allclose(10.0 * np.log10(cell.mean_gains), gain_db)
    np.testing.assert_allclose(cell.distances_m, np.linalg.norm(cell.positions_m, axis=1))


def test_without_fading_every_link_subchannel_and_instant_has_the_mean_gain():
    cell = cell_of({"kind": "none"})
    assert cell.block_ns is None
    for link in LINKS:
        for time_ns in (0, 10**15):
            np.testing.assert_array_equal(
                cell.gain_at(link, time_ns), np.repeat(cell.mean_gains[:, None], 20, axis=1)
            )


@pytest.mark.parametrize("fading", FADINGS, ids=lambda fading: fading["kind"])
@settings(deadline=None, max_examples=25)
@given(
    asked=st.lists(
        st.tuples(st.sampled_from(LINKS), st.integers(0, 2), st.integers(0, 400), st.integers(1, 150)),
        min_size=2,
        max_size=6,
    ),
    data=st.data(),
)
def test_gains_are_the_same_in_whatever_order_they_are_asked_for(fading, asked, data):
    one, other = cell_of(fading), cell_of(fading)
    first_answers = {query: one.gains(*query) for query in asked}
    for query in data.draw(st.permutations(asked)):
        np.testing.assert_array_equal(other.gains(*query), first_answers[query])
    link, client, first, count = asked[0]
    whole = one.gains(link, client, 0, first + count)
    np.testing.assert_array_equal(whole[first:], first_answers[asked[0]])


def test_gains_that_fell_out_of_the_cache_come_back_the_same():
    cell = cell_of(RAYLEIGH, num_clients=1)
    before = cell.gains("main_uplink", 0, 0, 10).copy()
    cell.gains("main_uplink", 0, 64, 64 * 1100)
    np.testing.assert_array_equal(cell.gains("main_uplink", 0, 0, 10), before)


@pytest.mark.parametrize("fading", FADINGS, ids=lambda fading: fading["kind"])
def test_adding_a_client_leaves_the_air_of_the_others_untouched(fading):
    few, many = cell_of(fading, num_clients=2), cell_of(fading, num_clients=9)
    np.testing.assert_array_equal(few.positions_m, many.positions_m[:2])
    np.testing.assert_array_equal(few.shadowing_db, many.shadowing_db[:2])
    for link in LINKS:
        np.testing.assert_array_equal(few.gain_at(link, 7_000_000), many.gain_at(link, 7_000_000)[:2])


@pytest.mark.parametrize(
    "changed",
    [
        {"main_uplink": {"bandwidth_hz": 40e6}},
        {"federated_uplink": {"num_subchannels": 3}},
        {"noise_figure_db": 3.0},
        {"rate": {"kind": "constant_bandwidth", "rate_bit_per_s": 1e6}},
    ],
)
def test_what_is_no_part_of_a_gain_leaves_it_untouched(changed):
    np.testing.assert_array_equal(
        cell_of(RAYLEIGH).gain_at("main_uplink", 0), cell_of(RAYLEIGH, **changed).gain_at("main_uplink", 0)
    )


def test_another_fading_leaves_places_and_shadowing_untouched():
    still, fading = cell_of({"kind": "none"}), cell_of(RAYLEIGH)
    np.testing.assert_array_equal(still.mean_gains, fading.mean_gains)


def test_another_seed_is_another_air():
    one, other = cell_of(RAYLEIGH, seed=1), cell_of(RAYLEIGH, seed=2)
    assert not np.isin(one.positions_m, other.positions_m).any()
    assert not np.isin(one.shadowing_db, other.shadowing_db).any()


def test_links_and_clients_fade_each_by_itself():
    cell = cell_of(RAYLEIGH)
    fading = [cell.gain_at(link, 0) / cell.mean_gains[:, None] for link in LINKS]
    assert len(np.unique(fading)) == len(LINKS) * 3 * 20


def test_a_gain_holds_for_its_block_and_changes_at_the_next():
    cell = cell_of(RAYLEIGH)
    assert cell.block_ns == 1_000_000
    assert [cell.block_at(time_ns) for time_ns in (0, 999_999, 1_000_000, 2_500_000)] == [0, 0, 1, 2]
    last, first = cell.gain_at("main_uplink", 999_999), cell.gain_at("main_uplink", 1_000_000)
    np.testing.assert_array_equal(cell.gain_at("main_uplink", 0), last)
    assert (last != first).all()


def test_rates_are_shannon_on_the_subchannels_owned():
    widths_hz = [1e5, 2e5, 3e5, 4e5]
    cell = cell_of(RAYLEIGH, main_uplink={"subchannel_bandwidths_hz": widths_hz})
    owned, tx_power_w = np.array([1, 3]), np.array([0.05, 0.15])
    gains = cell.gains("main_uplink", 2, 60, 10)
    expected = sum(
        widths_hz[n] * np.log2(1.0 + power / widths_hz[n] * gains[:, n] / cell.noise_psd_w_per_hz)
        for n, power in zip(owned, tx_power_w, strict=True)
    )
    rates = cell.rates("main_uplink", 2, owned, tx_power_w, 60, 10)
    assert rates.shape == (10,)
    # 1 + snr is rounded at the size of one, so a rate is rounded at that of a bandwidth
    assert ulps_apart(rates, expected, size=float(expected.max()) + sum(widths_hz)) <= 8
    for block in range(10):
        assert cell.rates("main_uplink", 2, owned, tx_power_w, 60 + block, 1)[0] == rates[block]


def test_a_client_that_owns_nothing_has_no_rate():
    cell = cell_of(RAYLEIGH)
    rates = cell.rates("main_uplink", 0, np.array([], dtype=np.int64), np.array([]), 0, 5)
    np.testing.assert_array_equal(rates, np.zeros(5))


@pytest.mark.parametrize("fading", FADINGS, ids=lambda fading: fading["kind"])
def test_the_terms_of_a_budget_add_up(fading):
    cell = cell_of(fading)
    time_ns, tx_power_w = 123_456_789, dbm_to_w(10.0)
    budget = cell.budget("federated_uplink", 1, 4, tx_power_w, time_ns)
    assert budget.distance_m == pytest.approx(np.hypot(*cell.positions_m[1]))
    assert budget.gain_db == pytest.approx(
        budget.antenna_gain_db - budget.path_loss_db - budget.shadowing_db + budget.fading_db
    )
    assert budget.tx_power_dbm == pytest.approx(10.0)
    assert budget.tx_psd_dbm_per_hz == pytest.approx(10.0 - 10.0 * np.log10(500e3))
    assert budget.received_power_dbm == pytest.approx(budget.tx_power_dbm + budget.gain_db)
    assert budget.noise_power_dbm == pytest.approx(
        budget.noise_psd_dbm_per_hz + budget.noise_figure_db + 10.0 * np.log10(budget.bandwidth_hz)
    )
    assert budget.snr_db == pytest.approx(budget.received_power_dbm - budget.noise_power_dbm)
    assert budget.spectral_efficiency_bit_per_s_per_hz == pytest.approx(
        np.log2(1.0 + 10.0 ** (budget.snr_db / 10.0))
    )
    rate = cell.rates("federated_uplink", 1, np.array([4]), np.array([tx_power_w]), cell.block_at(time_ns), 1)
    assert ulps_apart(budget.rate_bit_per_s, rate[0], size=float(rate[0]) + budget.bandwidth_hz) <= 8


def test_a_budget_lists_its_terms_from_distance_to_rate():
    terms = cell_of(RAYLEIGH).budget("main_uplink", 0, 0, 0.2, 0).terms()
    assert terms[0][0] == "distance"
    assert [what for what, _, _ in terms[-2:]] == ["rate", "spectral efficiency"]
    assert all(np.isfinite(value) for _, value, _ in terms)


def test_a_silent_subchannel_has_no_rate_and_minus_infinity_decibels():
    budget = cell_of(RAYLEIGH).budget("main_uplink", 0, 0, 0.0, 0)
    assert budget.rate_bit_per_s == 0.0
    assert budget.snr_db == budget.received_power_dbm == -np.inf


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda cell: cell.gains("main_uplink", 3, 0, 1), "no client 3; there are clients 0 to 2"),
        (lambda cell: cell.gains("main_uplink", -1, 0, 1), "no client -1"),
        (lambda cell: cell.gains("main_uplink", 0, -1, 1), "blocks count from 0"),
        (lambda cell: cell.gains("main_uplink", 0, 0, 0), "blocks count from 0"),
        (lambda cell: cell.block_at(-1), "time starts at 0"),
        (lambda cell: Channel.build(cell.radio, 0, 1), "at least one client"),
    ],
)
def test_what_is_not_in_the_cell_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(cell_of(RAYLEIGH))


@pytest.mark.parametrize("fading", FADINGS, ids=lambda fading: fading["kind"])
def test_shared_arrays_cannot_be_written_to(fading):
    cell = cell_of(fading)
    for shared in (cell.mean_gains, cell.bandwidths_hz("main_uplink"), cell.gains("main_uplink", 0, 0, 1)):
        with pytest.raises(ValueError, match="read-only"):
            shared[...] = 1.0


@pytest.mark.parametrize("fading", FADINGS)
def test_the_seed_of_the_air_takes_the_place_of_the_scenarios(fading):
    parts = {
        "shadowing": {"kind": "log_normal", "std_db": 8.0},
        "mobility": {"kind": "random_waypoint", "radius_m": 300.0},
    }
    own, other = cell_of(fading, seed=7, **parts), cell_of(fading, seed=5, **parts)
    apart = Channel.build(Radio.model_validate({"fading": fading, "seed": 7, **parts}), 3, 5)
    assert (apart.seed, apart.air_seed) == (5, 7)
    for link in LINKS:
        assert np.array_equal(apart.gain_at(link, 10**9), own.gain_at(link, 10**9))
        assert not np.array_equal(apart.gain_at(link, 10**9), other.gain_at(link, 10**9))
