"""What every mobility, interference, base stations and surface keep, run over each part's examples."""

import numpy as np
import pytest

from cosim.parts import family, make
from cosim.radio.base_stations import BaseStations
from cosim.radio.interference import Interference
from cosim.radio.mobility import Mobility
from cosim.radio.path import Path
from cosim.radio.surface import Surface
from cosim.rng import stream

NUM_SUBCHANNELS, NUM_BLOCKS = 4, 6
BEGIN_M = np.array([[100.0, 0.0], [0.0, 250.0], [-40.0, 30.0]])


def examples(base):
    return [
        pytest.param(make(base, example | {"kind": kind}), id=f"{kind}-{number}")
        for kind, part in family(base).items()
        for number, example in enumerate(part.examples)
    ]


def path(part, first=0, count=NUM_BLOCKS):
    time_ns = (first + np.arange(count)) * (part.block_ns or 1_000_000)
    place_m = np.broadcast_to(BEGIN_M[0], (count, 2))
    return Path("main_uplink", 0, True, time_ns, place_m, np.zeros((count, 2)), stream(3, "path"))


@pytest.mark.parametrize("part", examples(Mobility))
def test_a_place_is_a_function_of_client_and_time_alone(part):
    time_ns = np.arange(NUM_BLOCKS) * (part.block_ns or 1_000_000)
    all_m = part.positions_m(BEGIN_M, stream(1, "mobility"), time_ns)
    assert all_m.shape == (NUM_BLOCKS, 3, 2)
    np.testing.assert_array_equal(all_m[0], BEGIN_M)
    np.testing.assert_array_equal(part.positions_m(BEGIN_M[:2], stream(1, "mobility"), time_ns), all_m[:, :2])
    np.testing.assert_array_equal(part.positions_m(BEGIN_M, stream(1, "mobility"), time_ns[3:]), all_m[3:])


@pytest.mark.parametrize("part", examples(Interference))
def test_interference_is_a_power_density_and_a_function_of_path_and_time(part):
    widths_hz = np.full(NUM_SUBCHANNELS, 1e5)

    def asked(first, count):
        psd = part.psd_w_per_hz(path(part, first, count), widths_hz)
        return np.broadcast_to(psd, (count, NUM_SUBCHANNELS))

    whole = asked(0, NUM_BLOCKS)
    assert np.isfinite(whole).all()
    assert (whole >= 0.0).all()
    np.testing.assert_array_equal(asked(2, 3), whole[2:5])


@pytest.mark.parametrize("part", examples(BaseStations))
def test_every_client_is_served_by_a_base_station_that_is_there(part):
    num_stations, _ = part.positions_m().shape
    gains = stream(2, "gains").uniforms(0, 15, num_stations).reshape(5, 3, num_stations)
    serving = part.serving(gains)
    assert serving.shape == (5, 3)
    assert ((serving >= 0) & (serving < num_stations)).all()


@pytest.mark.parametrize("part", examples(Surface))
def test_gains_with_a_surface_are_a_function_of_path_and_time(part):
    direct = stream(2, "direct").uniforms(0, NUM_BLOCKS, NUM_SUBCHANNELS)
    whole = part.gains(path(part), direct)
    assert whole.shape == direct.shape
    assert (whole >= 0.0).all()
    np.testing.assert_array_equal(part.gains(path(part, 2, 3), direct[2:5]), whole[2:5])
