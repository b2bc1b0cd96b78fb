"""A reflecting surface: its gains against closed forms, its phases, and its cost on the clock."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cosim.control.knobs import packed_phases, unpacked_phases
from cosim.control.solvers.phases import Users, fixed_point, levels_of, search, turns_of
from cosim.errors import ScenarioError
from cosim.explain import explain
from cosim.radio.channel import Channel
from cosim.radio.path import Path
from cosim.radio.settings import Radio
from cosim.radio.surface.reflecting import Reflecting
from cosim.record.folder import Record
from cosim.rng import stream
from cosim.runs import run
from cosim.scenario.build import check, prepare

FINE = 8
"""Bits of a phase that hardly quantises it."""


def path(surface, count=1, client_m=(40.0, 30.0), number=0):
    time_ns = np.arange(count) * surface.block_ns
    where = np.broadcast_to(client_m, (count, 2))
    return Path("federated_uplink", 0, True, time_ns, where, np.zeros((count, 2)), stream(number, "path"))


def best_gain(surface, direct=0.0, number=0):
    """Return the gain of one user under the phases that are best for it, and its amplitudes."""
    way, gain = path(surface, number=number), np.array([[direct]])
    amplitude, each = surface.amplitudes(way, gain)
    users = [Users(amplitude[:, 0], np.array([direct]), each)]
    levels = fixed_point(users, np.ones((1, 1)), surface.levels)[0]
    return float(surface.under(tuple(levels.tolist())).gains(way, gain)[0, 0]), amplitude[0, 0], each[0]


@pytest.mark.parametrize("k_factor", [0.0, 3.0, 1e9])
def test_snr_of_one_user_grows_with_the_square_of_the_elements(k_factor):
    def mean_gain(num_elements):
        surface = Reflecting(num_elements=num_elements, k_factor=k_factor, phase_bits=FINE)
        found = [best_gain(surface, number=number) for number in range(200)]
        one = np.mean([np.abs(each[0]) ** 2 for *_, each in found])
        return np.mean([gain for gain, *_ in found]) / one

    counts = np.array([16, 32, 64])
    found = np.array([mean_gain(count) for count in counts.tolist()])
    slope = np.polyfit(np.log(counts), np.log(found), 1)[0]
    assert slope == pytest.approx(2.0, abs=0.05)
    if k_factor == 1e9:  # all amplitudes alike
        np.testing.assert_allclose(found, counts**2, rtol=1e-3)
    if k_factor == 0.0:  # of Rayleigh amplitudes: N + N (N - 1) pi / 4
        np.testing.assert_allclose(found, counts + counts * (counts - 1) * np.pi / 4.0, rtol=0.05)


@pytest.mark.parametrize("phase_bits", [1, 2, 3])
def test_coarse_phases_cost_what_the_closed_form_says(phase_bits):
    surface = Reflecting(num_elements=2000, k_factor=0.0, phase_bits=phase_bits, coherence_time_s=1.0)
    gain, _, each = best_gain(surface, direct=1e-6)
    amplitude = 1e-3 + np.sinc(2.0**-phase_bits) * np.abs(each).sum()
    assert gain == pytest.approx(amplitude**2, rel=0.05)


@settings(deadline=None, max_examples=20)
@given(number=st.integers(0, 1000), direct=st.floats(0.0, 1e-9))
def test_one_user_gets_all_amplitudes_in_phase_with_its_direct_path(number, direct):
    surface = Reflecting(num_elements=12, phase_bits=FINE)
    gain, amplitude, each = best_gain(surface, direct, number)
    assert gain == pytest.approx((np.abs(amplitude) + np.abs(each).sum()) ** 2, rel=1e-3)


def test_the_loss_over_an_element_is_the_product_of_both_hops():
    near, far = (
        Reflecting(num_elements=1, k_factor=1e9, position_m=place, client_exponent=2.5, station_exponent=2.0)
        for place in ((30.0, 0.0), (60.0, 0.0))
    )
    gains = [
        np.abs(one.amplitudes(path(one, client_m=(3.0 * one.position_m[0], 0.0)), np.zeros((1, 1)))[1]) ** 2
        for one in (near, far)
    ]
    assert float(gains[0][0, 0] / gains[1][0, 0]) == pytest.approx(2.0**4.5, rel=1e-3)
    assert float(gains[0][0, 0]) == pytest.approx(10 ** (-6 + 2) * 60.0**-2.5 * 30.0**-2.0, rel=1e-3)


@settings(deadline=None, max_examples=20)
@given(number=st.integers(0, 1000), num_clients=st.integers(1, 5))
def test_the_inner_fixed_point_is_no_worse_for_its_weights_than_any_drawn_phases(number, num_clients):
    chance = stream(number, "users").generator()
    shape = num_clients, 16
    reflected = chance.normal(size=shape) + 1j * chance.normal(size=shape)
    direct = chance.normal(size=num_clients) + 1j * chance.normal(size=num_clients)
    users = Users(direct, np.abs(direct) ** 2, reflected)
    weights = chance.uniform(0.1, 1.0, size=(1, num_clients))
    found = fixed_point([users], weights, 256)
    drawn = chance.integers(0, 256, size=(100, 16))
    worth = [(weights * np.abs(users.amplitudes(turns_of(one, 256)))).sum(axis=1) for one in (found, drawn)]
    assert worth[0][0] >= worth[1].max()
    np.testing.assert_allclose(
        users.gains(turns_of(drawn, 256)), np.abs(users.amplitudes(turns_of(drawn, 256))) ** 2
    )


def test_the_search_finds_the_phase_that_is_best():
    def latency(levels):
        return np.abs(np.exp(2j * np.pi / 64 * levels) - 1j).sum(axis=1)

    chance = np.random.default_rng(1)
    found = search(lambda phases: levels_of(phases, 64), latency, chance, np.zeros(2), np.pi, 400)
    assert found.levels.tolist() == [16, 16]
    assert found.trace_s == tuple(sorted(found.trace_s, reverse=True))
    assert found.latency_s == 0.0 or found.latency_s < 1e-9


def test_pilots_and_phases_take_their_share_of_the_rate():
    def rate(**settings):
        surface = {
            "kind": "reflecting",
            "num_elements": 99,
            "phase_bits": 2,
            "coherence_time_s": 0.1,
            **settings,
        }
        channel = Channel.build(Radio.model_validate({"surface": surface}), 2, 1)
        return channel.rates("main_uplink", 0, np.array([3]), np.array([0.1]), 0, 3)

    free = rate(estimation="free")
    # 100 symbols of 0.1 ms, and 198 bits at 100 kbit/s
    counted = rate(pilot_symbol_s=1e-4, control_bit_per_s=1e5)
    np.testing.assert_allclose(counted, free * (1.0 - (0.01 + 0.00198) / 0.1))


SURFACE = {
    "kind": "reflecting",
    "num_elements": 8,
    "position_m": [100.0, 10.0],
    "coherence_time_s": 0.002,
    "pilot_symbol_s": 5e-6,
}
SCHEME = {"kind": "federated", "num_rounds": 2, "local_steps": 1}
BLOCKED = {"kind": "log_distance", "reference_loss_db": 40.0, "exponent": 5.0}


@pytest.fixture
def with_surface(tiny_scenario):
    def scenario(**changes):
        return tiny_scenario(
            {
                "scheme": SCHEME,
                "allocator.kind": "surface_phases",
                "radio.path_loss": BLOCKED,
                "radio.surface": SURFACE,
                **changes,
            }
        )

    return scenario


METHODS = ("optimised", "model_free", "random")


@pytest.mark.parametrize("estimation", ["modelled", "free"])
@pytest.mark.parametrize("method", METHODS)
def test_more_elements_make_shorter_rounds(method, estimation, with_surface):
    def latency_s(num_elements, seed):
        scenario = with_surface(
            **{
                "seed": seed,
                "allocator.method": method,
                "allocator.num_evaluations": 60,
                "radio.surface.num_elements": num_elements,
                "radio.surface.estimation": estimation,
            }
        )
        return prepare(scenario).allocation.figures["surface_latency_s"]

    means = [np.mean([latency_s(count, seed) for seed in range(3)]) for count in (4, 16, 64)]
    assert means[0] > means[1] > means[2]


def test_the_outer_weights_find_shorter_rounds_than_as_many_trials_of_all_phases(with_surface):
    found = {
        method: [
            prepare(
                with_surface(**{"seed": seed, "allocator.method": method, "radio.surface.num_elements": 64})
            ).allocation.figures["surface_latency_s"]
            for seed in range(3)
        ]
        for method in METHODS
    }
    assert (np.array(found["optimised"]) < found["model_free"]).all()
    assert (np.array(found["model_free"]) < found["random"]).all()


@pytest.fixture
def played(tmp_path):
    return lambda scenario, **options: Record.open(
        run(scenario, tmp_path / str(len(list(tmp_path.iterdir()))), **options)
    )


def test_phases_are_set_when_a_block_begins_and_the_clock_keeps_to_the_prediction(with_surface, played):
    long = {"radio.surface.coherence_time_s": 1e5, "scheme.num_rounds": 1}
    record = played(with_surface(**long), timing_only=True)
    (predicted_s,) = [
        one["value"] for one in record.metrics.to_pylist() if one["name"] == "predicted_round_s"
    ]
    assert record.manifest["simulated_s"] == pytest.approx(predicted_s, abs=2e-9)
    blocks = played(with_surface(), timing_only=True)
    block_ns, ends_ns = 2_000_000, blocks.manifest["simulated_s"] * 1e9
    assert ends_ns > 2 * block_ns
    decided = {one["time_ns"] for one in blocks.metrics.to_pylist() if one["name"] == "surface_latency_s"}
    assert decided == set(range(0, int(np.ceil(ends_ns)), block_ns))
    once = played(with_surface(**{"allocator.reallocate": "once"}), timing_only=True)
    assert once.manifest["simulated_s"] > blocks.manifest["simulated_s"]
    for one in (row for row in blocks.spans.to_pylist() if row["name"] == "adapter_upload"):
        explained = explain(blocks, one["id"])
        assert explained.expected_end_ns == one["end_ns"]
        starts = [stretch.start_ns for stretch in explained.stretches]
        crossed = range(one["start_ns"] // block_ns + 1, -(-one["end_ns"] // block_ns))
        assert starts == [one["start_ns"], *(block * block_ns for block in crossed)]
    assert any(abs(budget.surface_db) > 0.0 for stretch in explained.stretches for budget in stretch.budgets)
    upload = next(one for one in record.spans.to_pylist() if one["name"] == "adapter_upload")
    (whole,) = explain(record, upload["id"]).stretches
    assert explain(record, upload["id"]).expected_end_ns == whole.end_ns == upload["end_ns"]


@pytest.mark.parametrize(("num_elements", "num_levels"), [(1, 2), (53, 2), (54, 2), (64, 4), (7, 256)])
def test_phases_are_packed_into_numbers_and_come_out_again(num_elements, num_levels):
    drawn = stream(1, "levels").generator().integers(0, num_levels, num_elements)
    levels = tuple(np.maximum(drawn, num_levels - 1).tolist())
    assert unpacked_phases(packed_phases(levels, num_levels), num_elements, num_levels) == levels
    levels = tuple(drawn.tolist())
    assert unpacked_phases(packed_phases(levels, num_levels), num_elements, num_levels) == levels


def test_bits_drain_at_the_rates_of_the_phases_that_each_block_was_given(with_surface, played):
    scenario = with_surface(**{"scheme.num_rounds": 1})
    record, decisions = played(scenario, timing_only=True), prepare(scenario).decisions()
    uploads = [one for one in record.spans.to_pylist() if one["name"] == "adapter_upload"]
    drained = dict.fromkeys([one["actor"] for one in uploads], 0.0)
    for begins_ns in range(0, max(one["end_ns"] for one in uploads), 2_000_000):
        allocation = decisions.decide(begins_ns, 1)
        decisions.apply(allocation, begins_ns, 1)
        cell = decisions.channel
        for one in uploads:
            client = int(one["actor"].removeprefix("client-"))
            grant = allocation.grants["federated_uplink"][client]
            rate = cell.rates(
                "federated_uplink",
                client,
                grant.subchannels,
                grant.tx_power_w,
                cell.block_at(begins_ns),
                1,
                grant.bandwidths_hz,
            )
            overlap_ns = min(one["end_ns"], begins_ns + 2_000_000) - max(one["start_ns"], begins_ns)
            drained[one["actor"]] += float(rate[0]) * max(overlap_ns, 0) / 1e9
    assert drained == pytest.approx({one["actor"]: one["bits"] for one in uploads}, rel=1e-5)


def test_phases_decide_times_and_nothing_that_is_learned(with_surface, played):
    spans = [
        played(with_surface(**{"allocator.method": method}), timing_only=True).spans.to_pylist()
        for method in ("optimised", "random")
    ]
    assert {one["node"] for one in spans[0]} == {one["node"] for one in spans[1]}
    assert {one["end_ns"] for one in spans[0]} != {one["end_ns"] for one in spans[1]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radio.surface.num_elements": 0}, "radio.surface.num_elements"),
        ({"radio.surface.phases": [0, 1]}, "2 phases are given for num_elements 8; give one for each"),
        ({"radio.surface.phases": [0] * 7 + [4]}, "the phase 4 is given, and phase_bits 2 have 0 to 3"),
        ({"radio.surface.num_elements": 4000}, "pilots and phases of num_elements 4000 take 0.028"),
    ],
)
def test_a_surface_that_cannot_be_is_one_clear_line(changes, message, with_surface):
    with pytest.raises((ScenarioError, ValidationError), match=message):
        with_surface(**changes)


def test_phases_without_a_surface_are_one_clear_line(with_surface):
    (line,) = check(with_surface(**{"radio.surface": {"kind": "none"}}))
    assert line.startswith(
        "allocator.kind: 'surface_phases' sets the phases of a surface, and radio.surface has"
    )
    assert not check(with_surface(**{"radio.surface": {"kind": "none"}, "allocator.method": "none"}))
