"""TR 38.901: what is drawn has the standard's probabilities, deviations and correlations."""

import numpy as np
import pytest
from scipy import stats

from cosim.parts import make
from cosim.radio.geometry import Geometry
from cosim.radio.path_loss import PathLoss
from cosim.radio.random_field import field
from cosim.radio.shadowing import Shadowing
from cosim.rng import stream

SIGNIFICANCE = 1e-3
NUM = 3000


def geometry(positions_m, sites_m=((0.0, 0.0),), carrier_hz=6e9, seed=1):
    """Return clients at places, shape (num_clients, 2), at one instant."""
    client_m = np.asarray(positions_m, dtype=float)[np.newaxis]
    away_m = client_m[:, :, np.newaxis] - np.asarray(sites_m)
    return Geometry(client_m, away_m, carrier_hz, stream(seed, "radio"), stream(seed, "radio"))


def ring(distance_m, count=NUM):
    turns = 2.0 * np.pi * np.arange(count) / count
    return distance_m * np.stack([np.cos(turns), np.sin(turns)], axis=1)


def test_a_field_has_its_autocorrelation_and_is_normal():
    """Over realisations; two places at each of some distances, in two directions."""
    apart_m = np.array([0.0, 5.0, 20.0, 50.0, 120.0])
    along = np.stack([apart_m, 0.0 * apart_m], axis=1)
    places_m = np.add(np.concatenate([along, along[:, ::-1]]), [300.0, -70.0])
    drawn = np.stack([field(stream(seed, "field"), places_m, 50.0) for seed in range(NUM)])
    for half in (drawn[:, :5], drawn[:, 5:]):
        correlation = (half[:, :1] * half).mean(axis=0)
        np.testing.assert_allclose(correlation, np.exp(-apart_m / 50.0), atol=5.0 / np.sqrt(NUM))
    assert stats.kstest(drawn[:, 0], stats.norm.cdf).pvalue > SIGNIFICANCE
    assert stats.kurtosis(drawn[:, 0]) == pytest.approx(0.0, abs=0.4)


def test_one_field_has_its_autocorrelation_along_a_path():
    """Of one realisation: a walk of many correlation distances."""
    walk_m = np.stack([np.arange(0.0, 60_000.0, 5.0), np.zeros(12_000)], axis=1)
    values = field(stream(7, "field"), walk_m, 50.0)
    assert values.mean() == pytest.approx(0.0, abs=0.1)
    for steps in (0, 2, 10, 20, 40):
        measured = (values[: len(values) - steps] * values[steps:]).mean()
        assert measured == pytest.approx(np.exp(-steps * 5.0 / 50.0), abs=0.12)


@pytest.mark.parametrize(
    ("kind", "state", "std_db", "correlation_m"),
    [
        ("uma", "always", 4.0, 37.0),
        ("uma", "never", 6.0, 50.0),
        ("umi", "always", 4.0, 10.0),
        ("umi", "never", 7.82, 13.0),
        ("rma", "never", 8.0, 120.0),
        ("inh", "never", 8.03, 6.0),
        ("inf", "always", 4.3, 10.0),
    ],
)
def test_shadowing_has_deviation_and_correlation_of_its_state(kind, state, std_db, correlation_m):
    outdoors = {} if kind.startswith("in") else {"indoor_share": 0.0}
    part = make(PathLoss, {"kind": f"tr_38901_{kind}", "line_of_sight": state, **outdoors})
    shadowing = make(Shadowing, {"kind": "tr_38901"})
    sites_m = np.zeros((1500, 2))  # many sites at one place: independent of each other
    places_m = [[100.0, 0.0], [100.0 + correlation_m, 0.0], [100.0, -2.0 * correlation_m]]
    around = geometry(places_m, sites_m)
    losses_db = shadowing.losses_db(around, part.propagation(around))[0]  # (num_clients, num_sites)
    assert losses_db.std() == pytest.approx(std_db, rel=0.06)
    correlation = np.corrcoef(losses_db)[0]
    np.testing.assert_allclose(correlation[1:], np.exp([-1.0, -2.0]), atol=0.13)


@pytest.mark.parametrize(
    ("kind", "distance_m"), [("uma", 60.0), ("umi", 40.0), ("rma", 600.0), ("inh", 30.0), ("inf", 40.0)]
)
@pytest.mark.parametrize("is_consistent", [True, False])
def test_line_of_sight_is_as_frequent_as_it_is_likely(kind, distance_m, is_consistent):
    outdoors = {} if kind.startswith("in") else {"indoor_share": 0.0}
    settings = {"kind": f"tr_38901_{kind}", "spatially_consistent": is_consistent, **outdoors}
    part = make(PathLoss, settings)
    here, there = [[0.0, 0.0]], ring(distance_m, 1000)
    around = geometry(here, there) if is_consistent else geometry(there)  # many sites, or many clients
    measured = part.propagation(around).is_los.mean()
    likely = float(part.los_probability(np.array([distance_m]), part.client_height_m)[0])
    assert 0.05 < likely < 0.95
    assert measured == pytest.approx(likely, abs=4.0 * np.sqrt(likely * (1.0 - likely) / 1000))


def test_clients_near_each_other_meet_the_same_state_and_those_far_apart_do_not():
    part = make(PathLoss, {"kind": "tr_38901_uma", "indoor_share": 0.5})
    for step_m, low, high in ((0.5, 0.9, 1.0), (2000.0, 0.4, 0.75)):
        agreed = []
        for seed in range(30):
            sites_m = np.add(ring(150.0, 20), [200.0, 0.0])
            pair = geometry([[200.0, 0.0], [200.0, step_m]], sites_m, seed=seed)
            around, said = part.surroundings(pair), part.propagation(pair)
            agreed.append(np.mean(said.is_los[0, 0] == said.is_los[0, 1]))
            agreed.append(float(around.is_indoors[0, 0] == around.is_indoors[0, 1]))
        assert low <= np.mean(agreed) <= high


def test_indoors_walls_depth_and_floors_are_those_of_the_standard():
    part = make(PathLoss, {"kind": "tr_38901_uma", "spatially_consistent": False})
    around = part.surroundings(geometry(ring(300.0, 20_000)))
    inside = around.is_indoors[0]
    assert inside.mean() == pytest.approx(0.8, abs=0.015)
    depth_m = around.inside_m[0, inside]
    assert stats.kstest(depth_m / 25.0, lambda x: 1.0 - (1.0 - x) ** 2).pvalue > SIGNIFICANCE
    floors = (around.height_m[0, inside] - 1.5) / 3.0
    np.testing.assert_array_equal(floors, np.round(floors))
    # a floor, counted from 0, is uniform over 4 to 8 of them
    chances = [np.mean([(floor < top) / top for top in range(4, 9)]) for floor in range(8)]
    np.testing.assert_allclose(np.bincount(floors.astype(int)) / inside.sum(), chances, atol=0.012)
    assert (around.height_m[0, ~inside] == 1.5).all()
    assert (around.extra_loss_db[0, ~inside] == 0.0).all()
    wall_db = around.extra_loss_db[0, inside] - 0.5 * depth_m
    assert wall_db.mean() == pytest.approx((13.402 + 31.753) / 2.0, abs=0.4)


def test_cars_take_what_the_standard_says():
    settings = {"kind": "tr_38901_rma", "indoor_share": 0.0, "car_share": 0.5, "car_windows": "metallised"}
    around = make(PathLoss, settings).surroundings(geometry(ring(300.0, 20_000), carrier_hz=2e9))
    in_car = around.extra_loss_db[0] > 0.0
    assert in_car.mean() == pytest.approx(0.5, abs=0.015)
    assert around.extra_loss_db[0, in_car].mean() == pytest.approx(20.0, abs=0.2)
    assert around.extra_loss_db[0, in_car].std() == pytest.approx(5.0, abs=0.2)


def test_a_mobile_client_has_what_a_resting_one_has_where_it_is():
    part = make(PathLoss, {"kind": "tr_38901_uma"})
    shadowing = make(Shadowing, {"kind": "tr_38901"})
    walk_m = np.stack([np.linspace(50.0, 400.0, 30), np.full(30, 20.0)], axis=1)
    chance = stream(1, "radio")
    sites_m = np.array([[0.0, 0.0], [500.0, 0.0]])
    moving = Geometry(walk_m[:, np.newaxis], walk_m[:, np.newaxis, np.newaxis] - sites_m, 2e9, chance, chance)
    whole = part.propagation(moving)
    for instant in (0, 13, 29):
        here_m = walk_m[instant : instant + 1]
        resting = geometry(here_m, sites_m, carrier_hz=2e9)
        there = part.propagation(resting)
        np.testing.assert_array_equal(there.loss_db[0], whole.loss_db[instant])
        np.testing.assert_array_equal(
            shadowing.losses_db(resting, there)[0], shadowing.losses_db(moving, whole)[instant]
        )
