"""The average goes to all clients in one transmission: at the weakest one's rate, charged once."""

import numpy as np
import pytest

from cosim.explain import explain
from cosim.radio.grant import Grant
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.units import NS_PER_S, drain_ns

SCHEME = {"kind": "federated", "num_rounds": 2, "local_steps": 1, "downlink": "multicast"}
LINK = "federated_downlink"
AIRS = {
    "still": {},
    "fading": {"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 1e-4}},
    "lent": {"radio.access": {"kind": "reassign"}},
    "in turn": {"allocator.kind": "time_shared"},
    "decided again": {"events": [{"at_s": 0.0033, "set": {"allocator": {"kind": "random"}}}]},
}


@pytest.fixture(scope="module", params=AIRS)
def played(request, tiny_scenario, tmp_path_factory):
    scenario = tiny_scenario({"scheme": SCHEME, f"radio.{LINK}.modelled": True, **AIRS[request.param]})
    folder = run(scenario, tmp_path_factory.mktemp("runs") / "run", timing_only=True)
    return scenario, Record.open(folder)


def downloads(record, round_):
    rows = record.spans.to_pylist()
    return [row for row in rows if row["name"] == "adapter_download" and row["round"] == round_]


def test_all_receive_at_once_and_the_energy_is_the_servers_power_once(played):
    scenario, record = played
    for round_ in (1, 2):
        (span,) = downloads(record, round_)
        assert (span["actor"], span["peer"]) == ("federated-server", "")
        assert span["participants"] == [f"client-{client}" for client in range(scenario.num_clients)]
        lasted_s = (span["end_ns"] - span["start_ns"]) / NS_PER_S
        power_w = scenario.radio.link(LINK).tx_power_w
        assert span["energy_j"] == pytest.approx(power_w * lasted_s)


def test_the_explanation_ends_when_the_transmission_did(played):
    _, record = played
    for span in (*downloads(record, 1), *downloads(record, 2)):
        found = explain(record, span["id"])
        assert found.expected_end_ns == span["end_ns"]
        for stretch in found.stretches:  # the budget is that of the weakest
            carried = sum(budget.rate_bit_per_s for budget in stretch.budgets)
            assert stretch.rates_bit_per_s[0] == pytest.approx(carried)


def test_it_lasts_as_long_as_the_weakest_client_needs_for_the_whole_band(tiny_scenario, play):
    scenario = tiny_scenario({"scheme": SCHEME, f"radio.{LINK}.modelled": True})
    world, channel = play(scenario), prepare(scenario).channel
    band = Grant.union(world.decisions.current.grants[LINK])
    assert band.total_tx_power_w == pytest.approx(scenario.radio.link(LINK).tx_power_w)
    rates = [
        float(channel.rates(LINK, client, band.subchannels, band.tx_power_w, 0, 1)[0]) for client in range(3)
    ]
    spans = world.log.spans
    spans.settle()
    for row, name in enumerate(spans.name):
        if name == "adapter_download":
            lasted_ns = spans.end_ns[row] - spans.start_ns[row]
            assert lasted_ns == pytest.approx(drain_ns(int(spans.bits[row]), min(rates)), abs=1)


def test_what_is_learned_does_not_depend_on_how_it_comes_back(tiny_scenario, play):
    def works(downlink):
        world = play(tiny_scenario({"scheme": {**SCHEME, "downlink": downlink}}))
        world.log.spans.settle()
        return set(world.log.spans.work)

    assert works("multicast") == works("unicast")


def test_the_union_of_grants_keeps_their_powers_or_the_largest_total():
    one, other = Grant.spread(np.array([0, 3]), 0.2), Grant.spread(np.array([1]), 0.4)
    apart = Grant.union([one, other])
    assert apart.subchannels.tolist() == [0, 1, 3]
    assert apart.tx_power_w.tolist() == [0.1, 0.4, 0.1]
    shared = Grant.union([one, Grant.spread(np.array([0, 1]), 0.3)])
    assert shared.subchannels.tolist() == [0, 1, 3]
    assert shared.total_tx_power_w == pytest.approx(0.3)
