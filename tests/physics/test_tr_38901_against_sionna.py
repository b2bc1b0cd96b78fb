"""Path loss, line of sight and walls of TR 38.901, point by point against another implementation.

Sionna draws from a generator of its own, and importing it resets torch's: what it does to torch is
undone here, and nothing that it draws is compared.
"""

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from cosim.parts import make
from cosim.radio.fading.tdl import TappedDelayLine
from cosim.radio.path_loss import PathLoss
from cosim.radio.path_loss.tr_38901 import Way
from cosim.radio.path_loss.tr_38901_outdoors import wall_loss_db
from cosim.rng import stream

pytestmark = pytest.mark.slow  # importing it takes ten seconds and more

RADIUS_M = np.array([12.0, 17.9, 18.1, 35.0, 80.0, 150.0, 400.0, 1300.0, 4800.0])
CASES = {
    "uma": ({}, [1.5, 7.5, 12.9], 25.0, [0.7e9, 6e9, 30e9, 70e9, 100e9]),
    "umi": ({}, [1.5, 7.5, 22.5], 10.0, [0.7e9, 6e9, 30e9, 70e9, 100e9]),
    "rma": ({"building_height_m": 8.0, "street_width_m": 30.0}, [1.5, 5.0, 9.0], 35.0, [0.7e9, 6e9, 30e9]),
    "inh": ({}, [1.0, 1.5], 3.0, [0.7e9, 6e9, 30e9, 100e9]),
    "inh mixed": ({"office": "mixed"}, [1.0, 1.5], 3.0, [6e9]),
    "inf SL": ({"sub_scenario": "SL", "station_height_m": 1.5}, [1.0, 1.5], 1.5, [3.5e9, 28e9]),
    "inf DL": (
        {"sub_scenario": "DL", "station_height_m": 1.5, "clutter_density": 0.6, "clutter_height_m": 6.0},
        [1.0, 1.5],
        1.5,
        [3.5e9, 28e9],
    ),
    "inf SH": ({"sub_scenario": "SH"}, [1.0, 1.5], 8.0, [3.5e9, 28e9]),
    "inf DH": (
        {"sub_scenario": "DH", "clutter_density": 0.6, "clutter_size_m": 2.0, "clutter_height_m": 6.0},
        [1.0, 1.5],
        8.0,
        [3.5e9, 28e9],
    ),
    "inf HH": ({"sub_scenario": "HH", "client_height_m": 4.0}, [4.0], 8.0, [3.5e9]),
}


@pytest.fixture(scope="module")
def sionna():
    torch = pytest.importorskip("torch")
    pytest.importorskip("sionna", reason="sionna-no-rt is not installed (extra 'radio')")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        from sionna.phy.channel import tr38901

        yield tr38901


def scenario_of(sionna, name, part, carrier_hz):
    """Return Sionna's scenario of one of our parts, in double precision on the CPU."""
    exact = {"precision": "double", "device": "cpu"}
    antenna = sionna.Antenna("single", "V", "omni", carrier_hz, **exact)
    common = {"ut_array": antenna, "bs_array": antenna, "direction": "downlink", **exact}
    environment = name.partition(" ")[0]
    if environment == "uma":
        return sionna.uma_scenario.UMaScenario(carrier_hz, "low", **common)
    if environment == "umi":
        return sionna.umi_scenario.UMiScenario(carrier_hz, "low", **common)
    if environment == "rma":
        sizes = {
            "average_street_width": part.street_width_m,
            "average_building_height": part.building_height_m,
        }
        return sionna.rma_scenario.RMaScenario(carrier_hz, **common, **sizes)
    if environment == "inh":
        return sionna.inh_scenario.InHScenario(carrier_hz, part.office, **common)
    clutter = {
        "clutter_density": part.clutter_density,
        "clutter_size": part.clutter_size_m,
        "clutter_height": part.clutter_height_m,
    }
    return sionna.inf_scenario.InFScenario(carrier_hz, part.sub_scenario, **common, **clutter)


def placed(scenario, name, distances_m, height_m, station_m, is_los):
    """Put clients along a line and one base station at its beginning."""
    import torch

    def tensor(rows):
        return torch.tensor(np.array(rows), dtype=torch.float64)[None]

    count = len(distances_m)
    is_inside = name.startswith("in")
    scenario.set_topology(
        ut_loc=tensor([[distance, 0.0, height_m] for distance in distances_m]),
        bs_loc=tensor([[0.0, 0.0, station_m]]),
        ut_orientations=tensor(np.zeros((count, 3))),
        bs_orientations=tensor(np.zeros((1, 3))),
        ut_velocities=tensor(np.zeros((count, 3))),
        in_state=torch.full((1, count), is_inside),
        los=is_los,
    )
    return scenario


@pytest.mark.parametrize("name", CASES)
def test_path_loss_and_line_of_sight_are_those_of_sionna(sionna, name):
    settings, heights_m, station_m, carriers_hz = CASES[name]
    part = make(PathLoss, {"kind": f"tr_38901_{name.partition(' ')[0]}", **settings})
    assert part.station_height_m == station_m
    distances_m = RADIUS_M if station_m > 8.0 else RADIUS_M[:6]
    for carrier_hz in carriers_hz:
        scenario = scenario_of(sionna, name, part, carrier_hz)
        for height_m in heights_m:
            way = Way(distances_m, height_m, carrier_hz)
            for is_los, ours in ((True, part.los_db), (False, part.nlos_db)):
                if name == "inf HH" and not is_los:
                    continue
                theirs = placed(scenario, name, distances_m, height_m, station_m, is_los)
                np.testing.assert_allclose(
                    ours(way), theirs.basic_pathloss[0, 0].numpy(), rtol=0.0, atol=1e-6
                )
            np.testing.assert_allclose(
                part.los_probability(distances_m, height_m),
                theirs.los_probability[0, 0].numpy(),
                rtol=0.0,
                atol=1e-9,
            )


def test_high_above_ground_loss_depends_on_the_roof_as_in_sionna(sionna):
    import torch

    part = make(PathLoss, {"kind": "tr_38901_uma"})
    scenario = scenario_of(sionna, "uma", part, 0.7e9)
    for roof_m in (1.0, 12.0, 18.0):
        scenario._sample_environment_height = lambda distance, height, roof_m=roof_m: torch.full_like(
            distance, roof_m
        )
        theirs = placed(scenario, "uma", RADIUS_M, 22.5, 25.0, True)
        way = Way(RADIUS_M, 22.5, 0.7e9, roof_m)
        np.testing.assert_allclose(part.los_db(way), theirs.basic_pathloss[0, 0].numpy(), rtol=0.0, atol=1e-6)
        np.testing.assert_allclose(
            part.los_probability(RADIUS_M, 22.5), theirs.los_probability[0, 0].numpy(), rtol=0.0, atol=1e-9
        )


@pytest.mark.parametrize("loss", ["low", "high"])
@pytest.mark.parametrize("edition", ["16.1", "19.2"])
def test_walls_lose_what_those_of_sionna_do(sionna, loss, edition):
    import torch
    from sionna.phy.channel.tr38901.lsp import LSPGenerator

    for carrier_hz in (6e9, 30e9, 100e9):
        exact = {"precision": "double", "device": "cpu", "spec_version": edition}
        antenna = sionna.Antenna("single", "V", "omni", carrier_hz, precision="double", device="cpu")
        scenario = sionna.umi_scenario.UMiScenario(carrier_hz, loss, antenna, antenna, "downlink", **exact)
        theirs = placed(scenario, "indoors", RADIUS_M, 1.5, 10.0, False)
        walls = LSPGenerator(theirs)
        walls._sample_o2i_penetration_random = lambda std: torch.zeros((), dtype=torch.float64)
        loss_db = walls._o2i_low_loss() if loss == "low" else walls._o2i_high_loss()
        beyond_db = loss_db - 0.5 * theirs.distance_2d_in
        np.testing.assert_allclose(
            beyond_db[0, 0].numpy(), wall_loss_db(carrier_hz / 1e9, loss, edition), rtol=0.0, atol=1e-6
        )


@pytest.mark.parametrize("profile", ["A", "B", "C", "D", "E"])
def test_tapped_delay_lines_have_the_tables_of_sionna(profile):
    found = find_spec("sionna")
    if found is None:
        pytest.skip("sionna-no-rt is not installed (extra 'radio')")
    (folder,) = found.submodule_search_locations
    table = json.loads(next(Path(folder).rglob(f"v19_2/TDL-{profile}.json")).read_text())
    line = TappedDelayLine(profile=profile, delay_spread_s=1e-6, doppler_hz=1.0)
    delays_s, _ = line.taps(stream(1, "line"), np.zeros(1))
    np.testing.assert_allclose(delays_s * 1e6, table["delays"])
    drawn = np.stack([line.taps(stream(n, "line"), np.zeros(1))[1][0] for n in range(3000)])
    powers = 10.0 ** (np.array(table["powers"]) / 10.0)
    np.testing.assert_allclose((np.abs(drawn) ** 2).mean(axis=0), powers / powers.sum(), rtol=0.1)
