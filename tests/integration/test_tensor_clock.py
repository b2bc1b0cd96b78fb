"""The tensor clock has the times and energies of the event kernel to the last bit, or refuses."""

import json
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosim.errors import ScenarioError
from cosim.graph.executor import TimingOnly
from cosim.kernel.job import BlockRate
from cosim.record.tables import summaries_of
from cosim.rng import stream
from cosim.scenario.build import prepare
from cosim.scenario.load import change, load
from cosim.tensor.air import Rates
from cosim.tensor.clock import TensorClock, Times
from cosim.tensor.drain import NEVER, finish_blocks, finish_constant, finish_one, lasts_ns
from cosim.tensor.order import Order
from cosim.tensor.philox import Keys, Shared, Tables, uniforms_of
from cosim.tensor.refusals import reasons
from cosim.tensor.rounds import refuse_rounds
from cosim.timed_runs import rounds
from cosim.units import NS_PER_S

SHIPPED = sorted((Path(__file__).parents[2] / "scenarios").glob("*.toml"))
LINKS = ("main_uplink", "federated_uplink", "main_downlink", "federated_downlink")


def played_rows(world):
    """Return the spans of the event kernel as rows, in an order of their own."""
    spans = world.log.spans
    spans.settle()
    return sorted(
        zip(*constant(spans), spans.flop, spans.start_ns, spans.end_ns, spans.energy_j, strict=True)
    )


def constant(spans):
    several = [spans.extras[one].participants if one in spans.extras else () for one in range(len(spans))]
    return spans.name, spans.actor, spans.peer, several, spans.round, spans.local_step, spans.bits


def assert_equal(play, clock, scenarios):
    """Evaluate scenarios at once and hold each against the event kernel."""
    airs = [clock.air(one.radio, one) for one in scenarios]
    timed = [(times, channel) for times in clock.evaluate(airs) for channel in range(len(times.total_s))]
    (alone,) = clock.evaluate(airs[-1:])  # without arrays
    times, last = timed[-1]
    for name in ("start_ns", "end_ns", "energy_j"):
        assert np.array_equal(getattr(alone, name)[:, 0], getattr(times, name)[:, last])
    for scenario, (times, channel) in zip(scenarios, timed, strict=True):
        if times.heard and channel in times.faults:
            assert scenario.allocator.kind == "time_shared"
            assert "hold a band that the others wait for" in times.faults[channel]
            continue
        world = play(scenario)
        assert timed_rows(clock, times, channel) == played_rows(world)
        assert times.total_s[channel] == world.clock.now / NS_PER_S


def timed_rows(clock, times, channel):
    """Return the spans that a channel has by the tensor clock."""
    spans, own = clock.played.log.spans, (times.start_ns, times.end_ns, times.energy_j)
    flop = np.array(spans.flop)
    for span, each in times.heard.flop.items() if times.heard else ():
        flop[span] = each[channel]
    rows = zip(*constant(spans), flop, *(column[:, channel].tolist() for column in own), strict=True)
    return sorted(
        row for one, row in enumerate(rows) if times.heard is None or times.heard.is_there[one, channel]
    )


KINDS = ["split_federated"] * 3 + ["federated"] * 2 + ["parallel_split", "sequential_split"]


def schemes(draw, kinds=KINDS):
    kind = draw(st.sampled_from(kinds))
    scheme = {"kind": kind, "num_rounds": draw(st.integers(1, 3)), "local_steps": draw(st.integers(1, 3))}
    if kind in ("split_federated", "parallel_split"):
        scheme["server_batch"] = draw(st.sampled_from(["joint", "per_client"]))
    if kind == "federated":
        scheme["downlink"] = draw(st.sampled_from(["unicast", "multicast"]))
    if kind in ("split_federated", "federated"):
        scheme["participation"] = draw(st.sampled_from([1.0, 0.5]))
    return scheme


FADINGS = [
    {"kind": "none"},
    {"kind": "rayleigh_block"},
    {"kind": "rayleigh_block", "coherence_time_s": 0.005},
    {"kind": "rayleigh_block", "coherence_time_s": 0.01, "selectivity": "flat"},
    {"kind": "rician", "k_factor": 3.0, "coherence_time_s": 0.004, "fixed": "multipath"},
    {"kind": "nakagami", "m": 2.0, "coherence_time_s": 0.02},
    {"kind": "jakes", "doppler_hz": 10.0},
]
ALIKE = {
    "clients.clock_hz": 1e9,
    "radio.shadowing": {"kind": "none"},
    "radio.placement": {"kind": "given", "positions_m": [[90.0, 0.0]] * 5},
}
"""Clients that do everything at the same instants."""


@st.composite
def settings_of(draw, kinds=KINDS):
    """Return changes of the tiny scenario, and of its radio for each of some channels."""
    count = draw(st.integers(1, 5))
    base = {
        "scheme": schemes(draw, kinds),
        "clients.count": count,
        "main_server.queue_capacity": draw(st.integers(1, 2)),
        "main_server.clock_hz": draw(st.sampled_from([1e6, 1e9])),
        "allocator": {
            "kind": draw(st.sampled_from(["equal", "time_shared", "random"])),
            "reallocate": "once",
        },
    }
    if base["allocator"]["kind"] != "random" and draw(st.booleans()):
        base["allocator"]["reallocate"] = "every_round"
    for link in LINKS[2:]:
        base[f"radio.{link}.modelled"] = draw(st.booleans())
    if draw(st.booleans()):
        base |= {**ALIKE, "radio.placement.positions_m": [[90.0, 0.0]] * count}
    fading = draw(st.sampled_from(FADINGS))
    if draw(st.booleans()):
        base["radio.mobility"] = {"kind": "constant_velocity", "speed_m_per_s": 30.0}
    return base, [
        {
            "radio.fading": fading,
            "radio.seed": draw(st.integers(0, 3)),
            "radio.noise_figure_db": draw(st.floats(0.0, 12.0)),
            "radio.uplink_energy.baseline_w": draw(st.sampled_from([0.0, 1.5])),
            "radio.rate": draw(
                st.sampled_from(
                    [
                        {"kind": "shannon"},
                        {"kind": "truncated_shannon"},
                        {"kind": "constant_bandwidth", "rate_bit_per_s": 1e7},
                    ]
                )
            ),
            **{f"radio.{link}.bandwidth_hz": draw(st.sampled_from([2e5, 1e6, 7e6])) for link in LINKS},
        }
        for _ in range(draw(st.integers(1, 3)))
    ]


def test_an_order_is_the_same_when_it_is_written_and_read_again(tiny_scenario):
    scenario = tiny_scenario({"allocator": {"kind": "time_shared", "reallocate": "once"}})
    clock = TensorClock(scenario)
    order = Order.from_json(json.loads(json.dumps(clock.order.to_json())))
    assert any(meeting.capacity == 0 for meeting in order.program.meetings)
    again = TensorClock(scenario, order=order)
    for seeds in ([1], [1, 2]):
        airs = [clock.air(scenario.radio.model_copy(update={"seed": seed})) for seed in seeds]
        (was,), (now,) = clock.evaluate(airs), again.evaluate(airs)
        assert np.array_equal(was.end_ns, now.end_ns)
        assert np.array_equal(was.energy_j, now.energy_j)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=settings_of())
def test_all_spans_of_random_scenarios_are_those_of_the_event_kernel(tiny_scenario, play, drawn):
    base, radios = drawn
    scenarios = [tiny_scenario({**base, **radio}) for radio in radios]
    assert_equal(play, TensorClock(scenarios[0]), scenarios)


def before_deadline_s(play, scenario, share):
    """Return how long after a step has begun this share of all activations has arrived, s."""
    spans, begun = play(scenario).log.spans, {}
    spans.settle()
    at = list(zip(spans.round, spans.local_step, strict=True))
    for step, name, asked_ns in zip(at, spans.name, spans.asked_ns, strict=True):
        if name == "client_forward":
            begun[step] = min(begun.get(step, asked_ns), asked_ns)
    sent = zip(at, spans.name, spans.end_ns, strict=True)
    lasted = sorted(end_ns - begun[step] for step, name, end_ns in sent if name == "activation_upload")
    return lasted[int(share * (len(lasted) - 1))] / NS_PER_S


def assert_same_are_late(tiny_scenario, play, drawn, share):
    """Hold deadlines, at the very instant at which somebody arrives, against the event kernel."""
    base, radios = drawn
    scheme = {**base["scheme"], "server_batch": "joint"}
    first = tiny_scenario({**base, "scheme": scheme, **radios[0]})
    scheme["deadline_s"] = before_deadline_s(play, first, share)
    scenarios = [tiny_scenario({**base, "scheme": scheme, **radio}) for radio in radios]
    assert_equal(play, TensorClock(scenarios[0]), scenarios)
    in_short(scenarios[0])


late = {"drawn": settings_of(["split_federated"]), "share": st.sampled_from([0.0, 0.4, 0.7, 0.9])}


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(**late)
def test_deadlines_of_random_scenarios_leave_out_whom_the_event_kernel_does(
    tiny_scenario, play, drawn, share
):
    assert_same_are_late(tiny_scenario, play, drawn, share)


@pytest.mark.slow
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(**late)
def test_deadlines_of_many_random_scenarios_leave_out_whom_the_event_kernel_does(
    tiny_scenario, play, drawn, share
):
    assert_same_are_late(tiny_scenario, play, drawn, share)


def assert_same_in_short(scenario):
    """Hold whole rounds of the tensor clock against the spans of the event kernel, table by table."""
    prepared = prepare(scenario)
    (short, world) = (prepared.world(lambda _rank: TimingOnly()) for _ in range(2))
    short.play(rounds(prepared, short))
    world.play(scenario.scheme.run(world))
    ours, theirs = summaries_of(short.log), summaries_of(world.log)
    assert ours == theirs
    assert short.clock.now == world.clock.now
    assert short.log.num_spans == len(world.log.spans)


def in_short(scenario):
    """Hold a scenario's rounds against the event kernel, or see that they are refused with a setting."""
    if scenario.scheme.cutoff and scenario.allocator.kind == "time_shared":
        with pytest.raises(ScenarioError, match="deadline_s: clients that are late hold the band"):
            refuse_rounds([prepare(scenario)])
    elif getattr(scenario.scheme, "downlink", "unicast") == "multicast":
        with pytest.raises(ScenarioError, match="downlink: 'multicast'"):
            refuse_rounds([prepare(scenario)])
    elif not scenario.scheme.patient.is_staged:
        with pytest.raises(ScenarioError, match="kind: rounds of 'sequential_split'"):
            refuse_rounds([prepare(scenario)])
    else:
        assert_same_in_short(scenario)


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=settings_of())
def test_rounds_in_short_of_random_scenarios_are_those_of_the_event_kernel(tiny_scenario, drawn):
    base, (radio, *_) = drawn
    in_short(tiny_scenario({**base, **radio}))


@pytest.mark.slow
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=settings_of())
def test_rounds_in_short_of_many_random_scenarios_are_those_of_the_event_kernel(tiny_scenario, drawn):
    base, (radio, *_) = drawn
    in_short(tiny_scenario({**base, **radio}))


def test_a_queue_of_a_whole_band_is_foreseen_and_walked_to_the_nanosecond(tiny_scenario):
    """Several blocks a transfer, and several transfers a block, in windows that are cut short."""
    for width_hz in (4e5, 2e7):
        scheme = {"kind": "federated", "num_rounds": 3, "local_steps": 1, "participation": 0.8}
        changes = {"scheme": scheme, "clients.count": 40, "data.source.num_train": 40}
        fading = {"kind": "rayleigh_block", "coherence_time_s": 0.01}
        radio = {"radio.fading": fading, "radio.federated_downlink.modelled": True}
        widths = {f"radio.{link}.bandwidth_hz": width_hz for link in LINKS}
        allocator = {"allocator": {"kind": "time_shared", "reallocate": "once"}}
        assert_same_in_short(tiny_scenario({**changes, **radio, **widths, **allocator}))


@pytest.mark.slow
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=settings_of())
def test_all_spans_of_many_random_scenarios_are_those_of_the_event_kernel(tiny_scenario, play, drawn):
    base, radios = drawn
    scenarios = [tiny_scenario({**base, **radio}) for radio in radios]
    assert_equal(play, TensorClock(scenarios[0]), scenarios)


@pytest.mark.slow
@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_all_spans_of_shipped_scenarios_are_those_of_the_event_kernel(file, play):
    scenario = load(file)
    if scenario.num_clients > 1000:
        pytest.skip("too many clients for the event kernel")
    if (why := next(reasons(scenario), None)) is not None:
        with pytest.raises(ScenarioError, match='take engine = "events"'):
            TensorClock(scenario)
        pytest.skip(why)
    others = [change(scenario, one) for one in ({}, {"radio.seed": 9}, {"radio.noise_figure_db": 11.0})]
    try:
        clock = TensorClock(scenario)
        for one in others:
            clock.air(one.radio, one)
    except ScenarioError as fault:
        pytest.skip(str(fault))
    assert_equal(play, clock, others)


@pytest.mark.parametrize("fading", [FADINGS[2], FADINGS[4], FADINGS[3]], ids=lambda one: one["kind"])
def test_what_is_seldom_sent_is_drawn_the_same(tiny_scenario, play, fading, monkeypatch):
    monkeypatch.setattr("cosim.tensor.clock._SELDOM", np.inf)
    others = [tiny_scenario({"radio.fading": fading, "radio.seed": seed}) for seed in range(12)]
    clock = TensorClock(others[0])
    assert clock.seldom(others[0].radio.fading.block_ns)
    (together,) = clock.evaluate([clock.air(one.radio) for one in others])
    alone = [next(clock.evaluate([clock.air(one.radio)])) for one in others]
    assert np.array_equal(together.end_ns, np.concatenate([one.end_ns for one in alone], axis=1))
    assert_equal(play, clock, others[3:4])


def test_how_long_a_run_of_years_takes_is_rounded_once():
    ends = np.arange(2**56 - 60, 2**56, 3).reshape(1, -1)
    times = Times(np.zeros_like(ends), ends, np.zeros(ends.shape), {})
    assert times.total_s.tolist() == [one / NS_PER_S for one in ends[0].tolist()]


def test_blocks_that_a_channel_never_gets_to_are_not_drawn(tiny_scenario, play, monkeypatch):
    """The first transfer ends early in the run, and the window it looks into lies far behind its end."""
    drawn = []
    extend = Rates._extend
    monkeypatch.setattr(Rates, "_extend", lambda *told: drawn.append(told[-1]) or extend(*told))
    scenario = tiny_scenario({"radio.fading": FADINGS[3], "main_server.clock_hz": 1e6})
    clock = TensorClock(scenario)
    block_ns = scenario.radio.fading.block_ns
    for other in (scenario, change(scenario, {"radio.noise_figure_db": 30.0})):
        drawn.clear()
        (times,) = clock.evaluate([clock.air(other.radio)])
        num_blocks = times.end_ns.max() // block_ns + 1
        assert max(drawn) <= 4 * num_blocks + 64
        assert_equal(play, clock, [other])


@settings(deadline=None, max_examples=30)
@given(
    names=st.lists(st.integers(0, 2**40), min_size=1, max_size=5),
    row=st.integers(0, 2**40),
    width=st.integers(1, 9),
    columns=st.sets(st.integers(0, 8), min_size=1),
)
def test_chance_of_many_keys_is_that_of_each(names, row, width, columns):
    streams = [stream(3, "any", name) for name in names]
    rows = row + np.arange(len(streams))
    each = [one.uniforms(int(at), 1, width)[0] for one, at in zip(streams, rows, strict=True)]
    assert np.array_equal(uniforms_of(Keys(streams).words, rows, width), each)
    some = np.array(sorted(one for one in columns if one < width) or [0])
    first = (row + np.arange(len(streams))).tolist()
    tables = Tables.of(streams, [some] * len(streams), first, 300)
    each = [one.uniforms(at, 300, width)[:, some] for one, at in zip(streams, first, strict=True)]
    assert np.array_equal(tables.uniforms(Tables.OWN, tables.num_rows, width), np.concatenate(each))
    each = [one.child("x").uniforms(0, 1, width)[:, some].repeat(300, axis=0) for one in streams]
    assert np.array_equal(tables.child("x").uniforms(0, 1, width), np.concatenate(each))
    owners = np.arange(width) % len(streams)
    shared = [streams[owner].uniforms(row, 9, width)[:, column] for column, owner in enumerate(owners)]
    assert np.array_equal(Shared.of(streams, owners).uniforms(row, 9, width), np.transpose(shared))


REFUSED = {
    "events": {"events": [{"at_s": 0.001, "set": {"radio.noise_figure_db": 3.0}}]},
    "main_server.restarts": {"main_server.restarts": [{"at_s": 0.001, "downtime_s": 0.001}]},
    "radio.access": {"radio.access.kind": "reassign"},
    "scheme.deadline_s": {
        "scheme.deadline_s": 1.0,
        "scheme.aggregator": {"kind": "hetlora", "client_ranks": [2, 4, 4]},
    },
    "scheme.kind": {"scheme": {"kind": "asynchronous", "num_rounds": 4, "local_steps": 1}},
    "radio.medium": {
        "scheme": {"kind": "federated", "num_rounds": 1, "local_steps": 1},
        "radio.medium": {"kind": "fluid", "rate": "fixed", "fixed_spectral_efficiency_bit_per_s_per_hz": 1.0},
    },
    "radio.uplink_energy.tail_s": {"radio.uplink_energy.tail_s": 1.0},
    "allocator.reallocate": {"allocator": {"kind": "random", "reallocate": "every_round"}},
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_cannot_be_promised_is_refused_with_its_setting(tiny_scenario, setting):
    with pytest.raises(ScenarioError, match=f"^{setting}: .*; the tensor clock cannot promise its times"):
        TensorClock(tiny_scenario(REFUSED[setting]))


def test_rounds_in_short_that_send_back_by_how_many_send_are_refused(tiny_scenario):
    scheme = {"kind": "federated", "num_rounds": 1, "participation": 0.5, "aggregator": {"kind": "flora"}}
    with pytest.raises(ScenarioError, match=r"^scheme\.aggregator: how many clients send"):
        refuse_rounds([prepare(tiny_scenario({"scheme": scheme}))])
    with pytest.raises(ScenarioError, match=r"^scheme\.aggregator: how many clients send"):
        TensorClock(tiny_scenario({"scheme.aggregator.kind": "fedex", "scheme.deadline_s": 1.0}))


def test_a_channel_on_which_other_spans_follow_is_refused(tiny_scenario):
    clock = TensorClock(tiny_scenario())
    other = tiny_scenario({"radio.main_downlink.modelled": True})
    with pytest.raises(ScenarioError, match="modelled: is set otherwise than in the run"):
        clock.air(other.radio)


def test_a_channel_over_which_nothing_arrives_is_no_fault_of_the_others(tiny_scenario):
    still, strong = tiny_scenario(), tiny_scenario({"radio.noise_figure_db": 400.0})
    clock = TensorClock(still)
    (times,) = clock.evaluate([clock.air(one.radio) for one in (still, strong)])
    assert list(times.faults) == [1]


@settings(deadline=None)
@given(
    bits=st.lists(st.integers(0, 10**9), min_size=1, max_size=6),
    rates=st.lists(st.one_of(st.floats(1.0, 1e10), st.integers(1, 10**9).map(float)), min_size=6, max_size=6),
    start=st.integers(0, 10**15),
)
def test_constant_rates_end_at_the_ceiling_of_the_exact_quotient(bits, rates, start):
    starts = np.full(len(bits), start)
    exact = [
        start + ceil(Fraction(one) * NS_PER_S / Fraction(rate))
        for one, rate in zip(bits, rates, strict=False)
    ]
    assert finish_constant(np.array(bits), np.array(rates[: len(bits)]), starts).tolist() == exact
    assert [start + lasts_ns(*one) for one in zip(bits, rates, strict=False)] == exact


@settings(deadline=None, max_examples=40)
@given(
    bits=st.lists(st.integers(0, 10**6), min_size=1, max_size=5),
    table=st.lists(
        st.one_of(st.just(0.0), st.integers(1, 10**4).map(float), st.floats(1.0, 1e6)), min_size=4, max_size=4
    ),
    block_ns=st.sampled_from([1000, 10**6, 10**8]),
    start=st.integers(0, 10**9),
)
def test_block_rates_end_where_the_event_kernel_ends_them(bits, table, block_ns, start):
    rates = np.array([*table, 1e9])

    def of(which, blocks):
        return rates[(blocks + which) % 5]

    found = finish_blocks(np.array(bits), np.full(len(bits), start), block_ns, of, 1 << 20)
    for number, (one, end) in enumerate(zip(bits, found.tolist(), strict=True)):
        alone = BlockRate(block_ns, lambda first, count, n=number: of(n, np.arange(first, first + count)))
        assert end == alone.finish_ns(one, start)
        first, known = start // block_ns + 1, [float(of(number, start // block_ns + 1))]
        plain = finish_one(
            one, start, block_ns, known, first, lambda block, n=number: float(of(n, block)), 1 << 20
        )
        assert plain in (None, end)  # in doubt, or right
    assert (found < NEVER).all()
