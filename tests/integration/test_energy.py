"""Energy of runs: the integral of power over random scenarios, and clients whose batteries run empty."""

from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosim.errors import ScenarioError
from cosim.scenario.build import prepare
from cosim.units import NS_PER_S

FEDERATED = {"kind": "federated", "num_rounds": 3, "local_steps": 2}
CHARGED = {"kind": "chain", "steps": [{"kind": "estimated"}, {"kind": "quantised"}]}


@st.composite
def runs(draw):
    """Return changes of the tiny scenario: air, costs, knowledge and batteries of any kind."""
    fading = [{"kind": "none"}, {"kind": "rayleigh_block", "coherence_time_s": 0.002}]
    media = [{"kind": "fluid"}, {"kind": "fluid", "rate": "known", "attempts": 2}]
    battery = {
        "capacity_j": draw(st.floats(1e-4, 1e-1)),
        "idle_w": draw(st.sampled_from([0.0, 0.1])),
        "recharge_w": draw(st.sampled_from([0.0, 0.05, 2.0])),
    }
    return {
        "seed": draw(st.integers(0, 10**6)),
        "scheme": FEDERATED,
        "radio.medium": draw(st.sampled_from(media)),
        "radio.fading": draw(st.sampled_from(fading)),
        "radio.csi": draw(st.sampled_from([{"kind": "perfect"}, CHARGED])),
        "radio.uplink_energy": {
            "baseline_w": draw(st.sampled_from([0.0, 1.2])),
            "j_per_bit": draw(st.sampled_from([0.0, 3e-8])),
            "tail_s": draw(st.sampled_from([0.0, 0.001])),
            "counts_radiated": draw(st.booleans()),
        },
        "allocator": {"kind": "equal", "reallocate": draw(st.sampled_from(["once", "every_round"]))},
        "clients.battery": draw(st.sampled_from([None, battery])),
    }


def rows(log):
    log.spans.settle()
    names = ("kind", "name", "actor", "peer", "round", "start_ns", "end_ns", "bits", "flop", "energy_j")
    return [{name: getattr(log.spans, name)[row] for name in names} for row in range(len(log.spans))]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(chosen=runs())
def test_energy_is_the_integral_of_power(chosen, tiny_scenario, play):
    scenario = tiny_scenario(chosen)
    world = play(scenario)
    log, extras, costs = world.log, world.log.spans.extras, scenario.radio.uplink_energy
    per_client, sent_until_ns = defaultdict(float), {}
    for number, one in enumerate(rows(log)):
        per_client[one["actor"]] += one["energy_j"]
        lasts_ns = one["end_ns"] - one["start_ns"]
        charge = world.site.charges.get(one["actor"])
        if one["kind"] == "compute":
            device = world.site.devices[one["actor"]]
            expected_j = device.energy_j(one["flop"])
            tolerance_j = 2.0 * device.energy_j(int(device.flop_per_cycle)) + 1e-9 * expected_j
            assert one["energy_j"] == pytest.approx(expected_j, abs=tolerance_j)
        elif one["name"] == "adapter_upload":
            extra = extras.get(number)
            num_sent = 1 + (extra.resent_bits // one["bits"] if extra else 0)
            until_ns, sent_until_ns[one["actor"]] = sent_until_ns.get(one["actor"]), one["end_ns"]
            idle_ns = None if until_ns is None else one["start_ns"] - until_ns
            power_w = max(
                grant
                for grant, who, link in zip(
                    log.grants.tx_power_w, log.grants.client, log.grants.link, strict=True
                )
                if who == one["actor"] and link == "federated_uplink"
            )
            radiated_j = power_w * _width(log, one["actor"]) * lasts_ns / NS_PER_S
            expected_j = costs.total_j(radiated_j, num_sent * one["bits"], lasts_ns, idle_ns)
            assert one["energy_j"] <= expected_j * (1 + 1e-9) + 1e-15
            if charge is None:
                assert one["energy_j"] == pytest.approx(expected_j)
    for name, charge in world.site.charges.items():
        idle_j = charge.drawn_j - per_client[name]
        assert -1e-9 * charge.drawn_j <= idle_j <= charge.battery.idle_w * world.clock.now / NS_PER_S + 1e-12
        if not charge.battery.recharge_w:
            assert charge.left_j + charge.drawn_j == pytest.approx(charge.battery.capacity_j)


def _width(log, client):
    """Return how many subchannels a client has, which equal shares give one power each."""
    held = [
        who
        for who, link in zip(log.grants.client, log.grants.link, strict=True)
        if link == "federated_uplink"
    ]
    numbers = {
        number
        for number, who, link in zip(log.grants.subchannel, log.grants.client, log.grants.link, strict=True)
        if who == client and link == "federated_uplink"
    }
    assert client in held
    return len(numbers)


def delivered(world):
    metrics = world.log.metrics
    found = zip(metrics.name, metrics.round, metrics.value, strict=True)
    return {round_: value for name, round_, value in found if name == "num_delivered"}


@pytest.fixture(scope="module")
def of_a_round(tiny_scenario, play):
    """Return what computing and sending of one round takes of the client that takes most, J."""
    found = defaultdict(float)
    for one in rows(play(tiny_scenario({"scheme": FEDERATED | {"num_rounds": 1}})).log):
        found[one["actor"]] += one["energy_j"]
    return max(found.values())


def test_clients_whose_batteries_are_empty_stop_and_the_others_go_on(tiny_scenario, play, of_a_round):
    scheme = FEDERATED | {"num_rounds": 5}
    weak = {"scheme": scheme, "clients.battery": {"capacity_j": 2.5 * of_a_round}}
    world = play(tiny_scenario(weak))
    counts = delivered(world)
    assert counts[1] == 3
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert counts[max(counts)] < 3
    for one in rows(world.log):  # nothing is computed or sent by who is out
        assert one["actor"] != "client-0" or one["round"] <= max(counts)
    assert not any(charge.is_on for charge in world.site.charges.values() if charge.left_j == 0.0)


def test_a_charger_brings_them_back(tiny_scenario, play, of_a_round):
    battery = {"capacity_j": 1.2 * of_a_round, "recharge_w": 1e-3 * of_a_round, "restart_share": 1.0}
    world = play(tiny_scenario({"scheme": FEDERATED, "clients.battery": battery}))
    assert world.clock.now > 100 * NS_PER_S  # nobody is on for minutes
    assert set(delivered(world)) == {1, 2, 3}


@pytest.mark.parametrize("medium", ["fluid", "slotted"])
@pytest.mark.parametrize("on_leave", ["resume", "restart", "drop"])
def test_clients_that_come_and_go_draw_what_is_on_record_until_they_are_empty(
    on_leave, medium, tiny_scenario, play, of_a_round
):
    renewal = {"kind": "renewal", "mean_on_s": 0.02, "mean_off_s": 0.01, "on_leave": on_leave}
    changes = {
        "scheme": FEDERATED | {"num_rounds": 6},
        "clients.battery": {"capacity_j": 3.5 * of_a_round},
        "availability": renewal | {"at_start": "skip"},
        "radio.medium": {"kind": medium},
    }
    world, spent = play(tiny_scenario(changes)), defaultdict(float)
    for one in rows(world.log):
        spent[one["actor"]] += one["energy_j"]
    for name, charge in world.site.charges.items():
        assert charge.drawn_j == pytest.approx(spent[name])
        assert charge.left_j + charge.drawn_j == pytest.approx(charge.battery.capacity_j)
    assert any(not charge.is_on for charge in world.site.charges.values())
    assert "away_s" in world.log.metrics.name or on_leave == "drop"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"scheme.kind": "split_federated"},
            r"clients\.battery: .* the scheme 'split_federated' cannot go on",
        ),
        ({"radio.medium": {"kind": "over_the_air"}}, r"clients\.battery: .* within a sum over the medium"),
        (
            {"allocator": {"kind": "tsfa", "latency_limit_s": 1.0}, "scheme.adapter_codec.kind": "soft"},
            "wants reports of all clients",
        ),
    ],
)
def test_where_nobody_can_go_on_without_a_client_batteries_are_refused(changes, message, tiny_scenario):
    with pytest.raises(ScenarioError, match=message):
        prepare(tiny_scenario({"scheme": FEDERATED, "clients.battery": {"capacity_j": 1.0}, **changes}))
