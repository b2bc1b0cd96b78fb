"""What no run may break, whatever the scenario: ownership, power, bits, causes, queues.

Hypothesis draws timing-only scenarios with fading, every access and allocator, the server's queue,
downlinks that count, and a second task that shares all of it. Everything is checked on what was
recorded, not on the simulator's own state. A run takes longer than a look at it, so every check looks
at every run.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosim.radio.channel_settings import LINKS, DownlinkSettings
from cosim.scenario.settings import Scenario
from cosim.units import NS_PER_S, dbm_to_w
from cosim.world import World

fadings = st.sampled_from(
    [
        {"kind": "none"},
        {"kind": "rayleigh_block"},
        {"kind": "rayleigh_block", "coherence_time_s": 0.002},
        {"kind": "rician", "k_factor": 2.0, "coherence_time_s": 0.0005, "selectivity": "flat"},
        {"kind": "jakes", "doppler_hz": 20.0, "sample_time_s": 0.005},
    ]
)

CELLS = {
    "radio.base_stations": {"kind": "hexagonal", "inter_site_distance_m": 120.0, "num_rings": 1},
    "radio.placement": {
        "kind": "hexagonal",
        "inter_site_distance_m": 120.0,
        "num_rings": 1,
        "min_distance_m": 10.0,
    },
    "radio.path_loss": {"kind": "tr_38901_umi", "indoor_share": 0.2},
    "radio.shadowing": {"kind": "tr_38901"},
}
airs = st.sampled_from(
    [
        {},
        CELLS,
        {
            "radio.base_stations": {"kind": "given", "site_positions_m": [[0.0, 0.0], [80.0, 0.0]]},
            "radio.base_stations.handover_hysteresis_db": 2.0,
            "radio.mobility": {"kind": "constant_velocity", "speed_m_per_s": 30.0, "update_s": 0.01},
            "radio.shadowing": {"kind": "correlated", "std_db": 6.0, "correlation_m": 30.0},
        },
        CELLS
        | {
            "radio.mobility": {"kind": "random_waypoint", "radius_m": 100.0, "max_speed_m_per_s": 20.0},
            "radio.interference": {"kind": "neighbours", "load": 0.5, "update_s": 0.01, "p0_dbm": -80.0},
            "radio.fading": {"kind": "tdl", "follow_mobility": True, "sample_time_s": 0.005},
            "radio.uplink_p0_dbm": -85.0,
            "radio.uplink_alpha": 0.8,
        },
    ]
)


@st.composite
def changes(draw, with_events=True):
    """Return changes of the tiny scenario that make a cell of any kind, with new decisions under way."""
    allocator = draw(st.sampled_from(["equal", "random", "time_shared"]))
    num_clients = draw(st.integers(1, 5))
    fewest = 1 if allocator == "time_shared" else num_clients
    chosen = {
        "seed": draw(st.integers(0, 10**6)),
        "clients.count": num_clients,
        "clients.queue_capacity": draw(st.integers(1, 2)),
        "clients.flop_per_cycle": draw(st.sampled_from([0.01, 1.0])),
        "clients.max_tx_power_dbm": draw(st.floats(10.0, 30.0)),
        "main_server.queue_capacity": draw(st.integers(1, 2)),
        "main_server.flop_per_cycle": draw(st.sampled_from([0.001, 1.0])),
        "scheme.server_batch": draw(st.sampled_from(["joint", "per_client"])),
        "allocator": {"kind": allocator},
        "radio.access": {"kind": draw(st.sampled_from(["orthogonal", "reassign"]))},
        "radio.fading": draw(fadings),
    }
    chosen |= draw(airs)
    for link in LINKS:
        table = {
            "num_subchannels": draw(st.integers(fewest, 9)),
            "bandwidth_hz": draw(st.floats(1e6, 1e8)),
            "max_total_tx_power_dbm": draw(st.floats(12.0, 35.0)),
        }
        if link.endswith("downlink"):
            table["modelled"] = draw(st.booleans())
            table["tx_power_dbm"] = table["max_total_tx_power_dbm"]
        chosen[f"radio.{link}"] = table
    kinds = ["time_shared"] if fewest < num_clients else ["time_shared", "equal", "random"]
    new_decisions = st.one_of(
        st.builds(lambda kind: {"allocator.kind": kind}, st.sampled_from(kinds)),
        st.builds(lambda kind: {"radio.access.kind": kind}, st.sampled_from(["orthogonal", "reassign"])),
    )
    event = st.builds(lambda at, new: {"at_s": at, "set": new}, st.floats(1e-6, 1.0), new_decisions)
    chosen["tasks"] = draw(st.sampled_from([{}, {"one": {}, "other": {}}]))
    chosen["events"] = draw(st.lists(event, max_size=2)) if with_events else []
    return chosen


transports = st.sampled_from(
    [
        {},
        {"radio.transport": {"latency_s": 0.002, "loss": 0.1, "packet_bits": 1000, "overhead_bits": 500}},
        {"radio.main_uplink.transport": {"loss": 0.3, "retransmissions": "expected", "latency_s": 1e-4}},
    ]
)


@st.composite
def rough_changes(draw, files):
    """Return changes of a cell of any kind whose clients come and go, over lossy links and replayed air."""
    chosen = draw(changes()) | draw(transports) | {"clients.count": 5}
    for link in LINKS:
        chosen[f"radio.{link}"]["num_subchannels"] = 9
    if draw(st.booleans()):
        chosen["availability"] = {
            "kind": "intervals",
            "file": str(files / "away.csv"),
            "at_start": draw(st.sampled_from(["wait", "skip"])),
            "on_leave": draw(st.sampled_from(["resume", "restart"])),
        }
    if draw(st.booleans()):
        chosen["main_server.restarts"] = [{"at_s": draw(st.floats(0.0, 0.1)), "downtime_s": 0.05}]
    if draw(st.booleans()):
        modelled = ("radio.fading", "radio.uplink_p0_dbm", "radio.uplink_alpha")
        chosen = {name: value for name, value in chosen.items() if name not in modelled}
        chosen["radio.trace"] = {"kind": "gain", "file": str(files / "trace.csv"), "at_end": "wrap"}
    return chosen


def spans_of(world):
    """Return the recorded spans as rows of plain values, parents included."""
    log = world.log.spans
    log.settle()
    begins = [0, *log.parents_end]
    names = ("kind", "name", "actor", "peer", "asked_ns", "start_ns", "end_ns", "bits", "flop", "node")
    return [
        dict(
            {name: getattr(log, name)[row] for name in names},
            id=row,
            beside=log.extras[row].resent_bits if row in log.extras else 0.0,
            parents=list(log.parents[begins[row] : begins[row + 1]]),
        )
        for row in range(len(log))
    ]


def on_air(span):
    """Return whether a span is a transfer, and not the time until it arrives."""
    return span["kind"] == "transfer" and span["name"] != "latency"


def client_of(span):
    return next(one for one in (span["actor"], span["peer"]) if one.startswith("client-"))


def link_of(span):
    server = span["peer"] if span["actor"].startswith("client-") else span["actor"]
    way = "uplink" if span["actor"].startswith("client-") else "downlink"
    return f"{server.removesuffix('-server')}_{way}"


def holdings(world):
    """Return what each (link, client) holds when: (from, until, subchannel, power), from the grants alone."""
    grants, granted, held = world.log.grants, defaultdict(list), defaultdict(list)
    for row in range(len(grants)):
        granted[grants.link[row], grants.subchannel[row]].append(
            (grants.time_ns[row], grants.client[row], grants.tx_power_w[row])
        )
    for (link, number), rows in granted.items():
        for (begin, client, power), (end, _, _) in pairwise([*rows, (float("inf"), None, None)]):
            if end > begin:
                held[link, client].append((begin, end, number, power))
    return held


def held_by(held, link, client, begin, end):
    """Return (from, until, subchannel, power) of what a client held within a span of time."""
    for since, until, number, power in held.get((link, client), ()):
        if since < end and until > begin:
            yield max(since, begin), min(until, end), number, power


@dataclass(frozen=True)
class Run:
    """A scenario and what was recorded of it."""

    scenario: Scenario
    world: World

    @cached_property
    def spans(self):
        return spans_of(self.world)

    @cached_property
    def held(self):
        return holdings(self.world)


def spans_are_numbered_and_never_begin_before_their_causes_end(run):
    spans = run.spans
    for number, span in enumerate(spans):
        assert span["id"] == number
        assert 0 <= span["asked_ns"] <= span["start_ns"] <= span["end_ns"]
        assert all(type(span[at]) is int for at in ("asked_ns", "start_ns", "end_ns"))
        assert len(set(span["parents"])) == len(span["parents"])
        for parent in span["parents"]:
            assert 0 <= parent < number
            assert spans[parent]["end_ns"] <= span["start_ns"]
    ends = [span["end_ns"] for span in spans]
    assert ends == sorted(ends)
    assert run.world.clock.now == ends[-1]


def a_span_begins_the_moment_its_last_cause_has_ended(run):
    """Nobody idles without a reason that is on record."""
    for span in run.spans:
        causes = [run.spans[parent]["end_ns"] for parent in span["parents"]]
        assert span["start_ns"] == max(causes, default=0)


def nobody_serves_more_than_its_capacity(run):
    busy = defaultdict(list)
    for span in run.spans:
        if span["kind"] == "compute" and span["end_ns"] > span["start_ns"]:
            busy[span["actor"]] += [(span["start_ns"], 1), (span["end_ns"], -1)]
    for actor, steps in busy.items():
        groups = {"main-server": run.scenario.main_server, "federated-server": run.scenario.federated_server}
        capacity = groups.get(actor, run.scenario.clients[0]).queue_capacity
        at_once = np.cumsum([step for _, step in sorted(steps)])
        assert at_once.max() <= capacity


def who_sends_holds_subchannels_all_the_time_and_nobody_else_has_them(run):
    """But for who has to pause, because a decision under way lets clients take turns, or somebody leaves."""
    may_pause = any(event.set.get("allocator.kind") == "time_shared" for event in run.scenario.events)
    may_pause = may_pause or run.world.site.presence is not None
    for span in run.spans:
        if on_air(span) and span["end_ns"] > span["start_ns"]:
            mine = list(held_by(run.held, link_of(span), client_of(span), span["start_ns"], span["end_ns"]))
            covered = sorted((begin, end) for begin, end, _, _ in mine)
            reached = span["start_ns"]
            for begin, end in covered:
                assert begin <= reached or may_pause
                reached = max(reached, end)
            assert reached == span["end_ns"]


def the_bits_of_a_span_are_its_grants_times_their_rates(run):
    """Re-rating included: the grants on record, times Shannon over the gains, give the payload."""
    cell = run.world.channel
    for span in run.spans:
        if not on_air(span) or span["end_ns"] == span["start_ns"]:
            continue
        link, client = link_of(span), client_of(span)
        mine = list(held_by(run.held, link, client, span["start_ns"], span["end_ns"]))
        edges = {edge for begin, end, _, _ in mine for edge in (begin, end)}
        sent = fastest = 0.0
        for begin, end in pairwise(sorted(edges)):
            now = sorted((number, power) for since, until, number, power in mine if since <= begin < until)
            if not now:
                continue  # a decision that takes turns made it pause
            numbers, powers = (np.array(column) for column in zip(*now, strict=True))
            first = cell.block_at(begin)
            count = cell.block_at(end - 1) - first + 1
            rates = cell.rates(link, int(client[7:]), numbers, powers, first, count)
            block_ns = cell.block_ns or end + 1
            cuts = np.clip(np.arange(first, first + count + 1) * block_ns, begin, end)
            sent += float((rates * np.diff(cuts)).sum()) / NS_PER_S
            fastest = max(fastest, float(rates.max()))
        transport = run.scenario.radio.transport_of(link)
        bits = span["bits"] + span["beside"] + (0 if transport is None else transport.overhead_bits)
        rounding = 1e-9 * bits
        assert bits - rounding <= sent
        assert sent <= bits + fastest / NS_PER_S + rounding


def no_client_and_no_link_goes_over_its_power(run):
    sending = defaultdict(list)
    for span in filter(on_air, run.spans):
        sending[link_of(span)].append((span["start_ns"], span["end_ns"], client_of(span)))
    for link in {link for link, _ in run.held}:
        settings_ = run.scenario.radio.link(link)
        of_link = settings_.max_total_tx_power_w
        of_client = dbm_to_w(run.scenario.clients[0].max_tx_power_dbm)
        if isinstance(settings_, DownlinkSettings):
            of_client = of_link = settings_.tx_power_w
        for instant in {begin for at, rows in run.held.items() if at[0] == link for begin, *_ in rows}:
            powers = defaultdict(float)
            for client in [client for start, end, client in sending[link] if start <= instant < end]:
                powers[client] += sum(one[3] for one in held_by(run.held, link, client, instant, instant + 1))
            assert all(power <= of_client * (1 + 1e-9) for power in powers.values())
            assert sum(powers.values()) <= of_link * (1 + 1e-9)


def every_payload_is_as_many_bits_as_its_numbers_need(run):
    batch, length, width = run.scenario.training.batch_size, run.scenario.data.sequence_length, 16
    cut = run.scenario.model.cut_layer
    factors = run.scenario.lora.rank * (width + 3 * width)  # A and B of the one fused layer of a block
    expected = {
        "activation_upload": 32 * batch * length * width,
        "gradient_download": 32 * batch * length * width,
        "adapter_upload": 32 * cut * factors,
        "adapter_download": 32 * cut * factors,
    }
    rounds = run.scenario.scheme.num_rounds
    steps = rounds * run.scenario.scheme.local_steps
    counts = defaultdict(int)
    for span in run.spans:
        if span["kind"] == "transfer":
            assert span["bits"] == expected[span["name"]]
            counts[span["name"]] += 1
    times = run.scenario.num_clients * len(run.scenario.by_task)
    assert counts == {
        "activation_upload": times * steps,
        "gradient_download": times * steps,
        "adapter_upload": times * rounds,
        "adapter_download": times * rounds,
    }


def a_free_downlink_takes_no_time_no_energy_and_no_grant(run):
    counted = {link for link in LINKS if getattr(run.scenario.radio.link(link), "modelled", True)}
    assert set(run.world.log.grants.link) <= counted
    for span in run.spans:
        if span["kind"] == "transfer":
            assert (span["end_ns"] > span["asked_ns"]) == (link_of(span) in counted)


CHECKS = (
    spans_are_numbered_and_never_begin_before_their_causes_end,
    nobody_serves_more_than_its_capacity,
    who_sends_holds_subchannels_all_the_time_and_nobody_else_has_them,
    the_bits_of_a_span_are_its_grants_times_their_rates,
    no_client_and_no_link_goes_over_its_power,
    every_payload_is_as_many_bits_as_its_numbers_need,
    a_free_downlink_takes_no_time_no_energy_and_no_grant,
)
for_all_cells = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


@for_all_cells
@given(chosen=changes())
def test_nothing_is_broken_where_decisions_change_under_way(chosen, tiny_scenario, play):
    scenario = tiny_scenario(chosen)
    run = Run(scenario, play(scenario))
    for check in CHECKS:
        check(run)


@pytest.fixture(scope="module")
def rough_files(tmp_path_factory):
    """Return a folder with a trace of gains, and with times that clients are away, short ones first."""
    rng, folder = np.random.default_rng(3), tmp_path_factory.mktemp("rough")
    draws = rng.uniform(-110.0, -80.0, (5, 40)).round(2)
    lines = [
        f"{at * 0.005:.3f},{client},all,{db}" for client in range(5) for at, db in enumerate(draws[client])
    ]
    (folder / "trace.csv").write_text("\n".join(["time_s,client,link,gain_db", *lines]))
    edges_s = np.sort(10.0 ** rng.uniform(-5.0, 0.3, (5, 24)), axis=1).round(7)
    lines = [f"{who},{edges_s[who, at]},{edges_s[who, at + 1]}" for who in range(5) for at in range(0, 24, 2)]
    (folder / "away.csv").write_text("\n".join(["client,away_s,back_s", *lines]))
    return folder


def energy_is_power_times_time_on_the_air(run):
    """Over the grants on record, which nobody has who is away."""
    energy_j = run.world.log.spans.energy_j
    for span in run.spans:
        if on_air(span):
            held = held_by(run.held, link_of(span), client_of(span), span["start_ns"], span["end_ns"])
            expected_j = sum(power * (end - begin) for begin, end, _, power in held) / NS_PER_S
            assert abs(energy_j[span["id"]] - expected_j) <= 1e-9 * max(expected_j, 1e-12)


ROUGH = (
    spans_are_numbered_and_never_begin_before_their_causes_end,
    nobody_serves_more_than_its_capacity,
    who_sends_holds_subchannels_all_the_time_and_nobody_else_has_them,
    the_bits_of_a_span_are_its_grants_times_their_rates,
    no_client_and_no_link_goes_over_its_power,
    energy_is_power_times_time_on_the_air,
)


@settings(for_all_cells, max_examples=10)
@given(data=st.data())
def test_nothing_is_broken_where_clients_come_and_go_over_lossy_links(data, tiny_scenario, play, rough_files):
    chosen = data.draw(rough_changes(rough_files))
    scenario = tiny_scenario(chosen)
    run = Run(scenario, play(scenario))
    for check in ROUGH:
        check(run)


@for_all_cells
@given(chosen=changes(with_events=False))
def test_nothing_is_broken_and_nobody_idles_where_decisions_stay(chosen, tiny_scenario, play):
    scenario = tiny_scenario(chosen)
    run = Run(scenario, play(scenario))
    for check in (*CHECKS, a_span_begins_the_moment_its_last_cause_has_ended):
        check(run)
