"""What every mobility, interference, base stations and surface keep, run over each part's examples."""

from itertools import pairwise

import numpy as np
import pytest

from cosim.parts import family, make
from cosim.radio.base_stations import BaseStations
from cosim.radio.channel import Channel
from cosim.radio.channel_settings import ChannelSettings
from cosim.radio.csi import Csi
from cosim.radio.duplex import Duplex
from cosim.radio.fading.rayleigh_block import RayleighBlock
from cosim.radio.interference import Interference
from cosim.radio.knowledge import known_gains
from cosim.radio.mobility import Mobility
from cosim.radio.path import Network, Path, Users
from cosim.radio.surface import Surface
from cosim.rng import stream

NUM_SUBCHANNELS, NUM_BLOCKS = 4, 6
BEGIN_M = np.array([[100.0, 0.0], [0.0, 250.0], [-40.0, 30.0]])


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Be where the files are that examples name."""
    (tmp_path / "path.csv").write_text("client,time_s,x_m,y_m\n0,0,100,0\n0,0.3,120,30\n0,1,90,0\n")
    monkeypatch.chdir(tmp_path)


def examples(base):
    return [
        pytest.param(make(base, example | {"kind": kind}), id=f"{kind}-{number}")
        for kind, part in family(base).items()
        for number, example in enumerate(part.examples)
    ]


def path(part, first=0, count=NUM_BLOCKS, is_uplink=True):
    time_ns = (first + np.arange(count)) * (part.block_ns or 1_000_000)
    place_m = np.broadcast_to(BEGIN_M[0], (count, 2))
    chance = stream(3, "path")
    gains = np.tile(chance.child("gains").uniforms(0, 1, 3), (count, 1))
    network = Network(np.full(count, 1), gains, other_users, chance.child("network"))
    return Path("main_uplink", 0, is_uplink, time_ns, place_m, np.zeros((count, 2)), chance, network)


def other_users(count):
    gains = stream(4, "users").uniforms(0, count, 3)
    return Users(gains.argmax(axis=1), gains)


@pytest.mark.parametrize("part", examples(Mobility))
def test_a_place_is_a_function_of_client_and_time_alone(part):
    time_ns = np.arange(NUM_BLOCKS) * (part.block_ns or 1_000_000)
    all_m = part.positions_m(BEGIN_M, stream(1, "mobility"), time_ns)
    assert all_m.shape == (NUM_BLOCKS, 3, 2)
    np.testing.assert_array_equal(all_m[0], BEGIN_M)
    np.testing.assert_array_equal(part.positions_m(BEGIN_M[:2], stream(1, "mobility"), time_ns), all_m[:, :2])
    np.testing.assert_array_equal(part.positions_m(BEGIN_M, stream(1, "mobility"), time_ns[3:]), all_m[3:])


@pytest.mark.parametrize("part", examples(Mobility))
def test_the_way_gone_is_as_long_as_the_path_and_never_shrinks(part):
    block_ns = part.block_ns or 1_000_000
    time_ns = np.arange(4 * NUM_BLOCKS) * (block_ns // 2)
    gone_m = part.travelled_m(BEGIN_M, stream(1, "mobility"), time_ns)
    assert gone_m.shape == (4 * NUM_BLOCKS, 3)
    assert (gone_m[0] == 0.0).all()
    assert (np.diff(gone_m, axis=0) >= -1e-9).all()
    straight_m = Mobility.travelled_m(part, BEGIN_M, stream(1, "mobility"), time_ns)
    assert (straight_m <= gone_m + 1e-9).all()
    own = part.travelled_m(BEGIN_M[:2], stream(1, "mobility"), time_ns[3:])
    np.testing.assert_array_equal(own, gone_m[3:, :2])


@pytest.mark.parametrize("is_uplink", [True, False])
@pytest.mark.parametrize("part", examples(Interference))
def test_interference_is_a_power_density_and_a_function_of_path_and_time(part, is_uplink):
    widths_hz = np.full(NUM_SUBCHANNELS, 1e5)

    def asked(first, count):
        psd = part.psd_w_per_hz(path(part, first, count, is_uplink), widths_hz)
        return np.broadcast_to(psd, (count, NUM_SUBCHANNELS))

    whole = asked(0, NUM_BLOCKS)
    assert np.isfinite(whole).all()
    assert (whole >= 0.0).all()
    np.testing.assert_array_equal(asked(2, 3), whole[2:5])


@pytest.mark.parametrize("part", examples(Csi))
def test_what_is_known_of_a_client_is_a_function_of_it_and_of_time_alone(part):
    air = ChannelSettings(csi=part, fading=RayleighBlock(coherence_time_s=0.01))
    few, many = (Channel.build(air, num, 3) for num in (2, 4))
    for time_ns in (0, 30_000_000):
        known = known_gains(many, "main_uplink", time_ns, np.full(4, 0.1))
        assert known.shape == (4, 20)
        assert (np.isfinite(known) & (known > 0.0)).all()
        again = known_gains(few, "main_uplink", time_ns, np.full(2, 0.1))
        np.testing.assert_array_equal(again, known[:2])
    assert part.pilots_ns >= 0
    assert part.report_ns(4) >= part.report_ns(1) >= 0
    assert part.description


@pytest.mark.parametrize("part", examples(Duplex))
def test_both_directions_have_time_and_never_the_same(part):
    ends_ns = np.arange(0, 10**8, 777_777).tolist()
    for begin_ns, end_ns in pairwise(ends_ns):
        up_ns, down_ns = (part.open_ns(begin_ns, end_ns, is_uplink=up) for up in (True, False))
        assert 0 <= up_ns <= end_ns - begin_ns
        if part.slots(is_uplink=True) is not None:
            assert 0 <= up_ns + down_ns <= end_ns - begin_ns
    for up in (True, False):
        share = part.open_ns(0, 10**12, is_uplink=up) / 10**12
        assert part.share(is_uplink=up) == pytest.approx(share, rel=1e-3)
        assert share > 0.0


@pytest.mark.parametrize("part", examples(BaseStations))
def test_every_client_is_served_by_a_base_station_that_is_there(part):
    num_stations, _ = part.positions_m().shape
    gains = stream(2, "gains").uniforms(0, 15, num_stations).reshape(5, 3, num_stations)
    serving = part.serving(gains)
    assert serving.shape == (5, 3)
    assert ((serving >= 0) & (serving < num_stations)).all()


@pytest.mark.parametrize("part", examples(BaseStations))
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


@pytest.mark.parametrize("part", examples(Surface))
def test_gains_with_a_surface_are_a_function_of_path_and_time(part):
    direct = stream(2, "direct").uniforms(0, NUM_BLOCKS, NUM_SUBCHANNELS)
    whole = part.gains(path(part), direct)
    assert whole.shape == direct.shape
    assert (whole >= 0.0).all()
    np.testing.assert_array_equal(part.gains(path(part, 2, 3), direct[2:5]), whole[2:5])
