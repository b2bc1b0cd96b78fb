"""What every medium keeps, run over each part's examples and random air: causes, power, energy, ownership."""

from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosim.parts import make
from cosim.radio.medium import Medium
from cosim.testing.selection import examples_of, under_test
from cosim.units import NS_PER_S, dbm_to_w

EXAMPLES = examples_of(Medium)
SUMMING = {kind for kind, part in under_test(Medium).items() if part.sums_any}
LINKS = ("federated_uplink", "federated_downlink")


@st.composite
def airs(draw):
    """Return changes of the tiny scenario that make air of any kind, with a new decision under way."""
    num_clients = draw(st.integers(1, 5))
    chosen = {
        "scheme": {
            "kind": "federated",
            "num_rounds": 2,
            "local_steps": 1,
            "downlink": draw(st.sampled_from(["unicast", "multicast"])),
        },
        "seed": draw(st.integers(0, 10**6)),
        "clients.count": num_clients,
        "clients.max_tx_power_dbm": draw(st.floats(10.0, 30.0)),
        "allocator.kind": draw(st.sampled_from(["equal", "random", "time_shared"])),
        "radio.access": {"kind": draw(st.sampled_from(["orthogonal", "reassign"]))},
        "radio.fading": draw(
            st.sampled_from(
                [
                    {"kind": "none"},
                    {"kind": "rayleigh_block", "coherence_time_s": 0.002},
                    {"kind": "rician", "k_factor": 2.0, "coherence_time_s": 0.0005, "selectivity": "flat"},
                ]
            )
        ),
        "radio.federated_downlink.modelled": True,
        "radio.federated_uplink.max_total_tx_power_dbm": draw(st.floats(12.0, 35.0)),
    }
    if draw(st.booleans()):
        chosen["events"] = [{"at_s": draw(st.floats(1e-6, 0.1)), "set": {"allocator.kind": "random"}}]
    return chosen


@pytest.fixture(scope="module")
def played(tiny_scenario, play):
    def play_changed(medium, chosen):
        if medium["kind"] in SUMMING and chosen["allocator.kind"] == "time_shared":
            chosen = {**chosen, "allocator.kind": "equal"}  # all send at once
        if not make(Medium, medium).uses_access:
            chosen = {**chosen, "radio.access": {"kind": "orthogonal"}}
        scenario = tiny_scenario({**chosen, "radio.medium": medium})
        world = play(scenario)
        world.log.spans.settle()
        return scenario, world

    return play_changed


def transfers(world, name):
    """Return the transfers of a name as rows of plain values."""
    log, begins = world.log.spans, [0, *world.log.spans.parents_end]
    columns = ("actor", "peer", "round", "asked_ns", "start_ns", "end_ns", "bits", "energy_j")
    return [
        {column: getattr(log, column)[row] for column in columns}
        | {"parents": log.parents[begins[row] : begins[row + 1]].tolist()}
        | {"participants": log.extras[row].participants if row in log.extras else ()}
        for row in range(len(log))
        if log.name[row] == name
    ]


def shares_of_sums(world):
    """Return what each client radiated in the sum of each round."""
    log, found = world.log.metrics, defaultdict(dict)
    for name, actor, round_, value in zip(log.name, log.actor, log.round, log.value, strict=True):
        if name == "tx_energy_j":
            found[round_][actor] = value
    return found


def a_transfer_begins_after_its_causes_and_carries_its_payload(scenario, world):
    ends = world.log.spans.end_ns
    for name in ("adapter_upload", "adapter_download"):
        found = transfers(world, name)
        assert sum(len(one["participants"]) or 1 for one in found) == 2 * scenario.num_clients
        assert len({one["bits"] for one in found}) == 1
        for one in found:
            assert bool(one["participants"]) == (not one["actor"] or not one["peer"])
            causes = max(ends[parent] for parent in one["parents"])
            assert causes <= one["start_ns"] <= one["end_ns"]
            assert one["asked_ns"] <= one["start_ns"]


def nobody_radiates_more_than_its_power_for_its_airtime(scenario, world):
    uplink = scenario.radio.link("federated_uplink")
    at_once, radiated_j = defaultdict(float), shares_of_sums(world)
    for one in transfers(world, "adapter_upload"):
        lasted_s = (one["end_ns"] - one["start_ns"]) / NS_PER_S
        of_client = min(dbm_to_w(scenario.clients[0].max_tx_power_dbm), uplink.max_total_tx_power_w)
        shares_j = radiated_j[one["round"]] if one["participants"] else {one["actor"]: one["energy_j"]}
        assert set(shares_j) == set(one["participants"] or [one["actor"]])
        assert all(0.0 <= share_j <= of_client * lasted_s * (1 + 1e-9) for share_j in shares_j.values())
        assert sum(shares_j.values()) == pytest.approx(one["energy_j"])
        at_once[one["start_ns"], one["end_ns"]] += one["energy_j"]
    if scenario.radio.medium.sums_any:
        for (start_ns, end_ns), energy_j in at_once.items():
            assert energy_j <= uplink.max_total_tx_power_w * (end_ns - start_ns) / NS_PER_S * (1 + 1e-9)
    downlink_w = scenario.radio.link("federated_downlink").tx_power_w
    downloads = transfers(world, "adapter_download")
    busy_s = sum(one["end_ns"] - one["start_ns"] for one in downloads) / NS_PER_S
    assert sum(one["energy_j"] for one in downloads) <= downlink_w * busy_s * (1 + 1e-9)


def subchannels_have_one_owner_unless_the_link_carries_sums(medium, scenario, world):
    summed = {link.name for link in scenario.scheme.links if scenario.radio.medium.sums(link)}
    signals = medium.get("channel_knowledge") == "charged"  # with bits, ahead of each sum
    assert signals == ("report" in world.log.spans.name)
    assert set(world.log.grants.link) == set(LINKS) - (set() if signals else summed)
    values = world.log.metrics
    delivered = [
        value for name, value in zip(values.name, values.value, strict=True) if name == "num_delivered"
    ]
    assert all(0 <= value <= scenario.num_clients for value in delivered)
    assert bool(delivered) == any(
        scenario.radio.medium.loses(link) or link.name in summed for link in scenario.scheme.links
    )


def the_same_air_gives_the_same_timeline(world, again):
    for column in ("start_ns", "end_ns", "energy_j", "node"):
        assert getattr(world.log.spans, column) == getattr(again.log.spans, column)


@pytest.mark.parametrize("medium", EXAMPLES)
@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(chosen=airs())
def test_every_medium_keeps_causes_power_owners_and_its_timeline(medium, chosen, played):
    """A run takes longer than a look at it, so every check looks at every run."""
    scenario, world = played(medium, chosen)
    a_transfer_begins_after_its_causes_and_carries_its_payload(scenario, world)
    nobody_radiates_more_than_its_power_for_its_airtime(scenario, world)
    subchannels_have_one_owner_unless_the_link_carries_sums(medium, scenario, world)
    the_same_air_gives_the_same_timeline(world, played(medium, chosen)[1])
