"""A controller that chooses who takes part, with which steps and weights, and learns what came of it."""

import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cosim.control.allocators.equal import Equal
from cosim.control.allocators.nested import Nested
from cosim.control.knobs import Setting
from cosim.control.legs import legs_of
from cosim.errors import AllocationError, ScenarioError
from cosim.graph.executor import TimingOnly
from cosim.learning.federated_state import FederatedState
from cosim.learning.training import Training
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.scenario.load import change

UCB_BASE = {
    "scheme": {"kind": "federated", "num_rounds": 4, "local_steps": 3},
    "allocator": {"kind": "ucb", "num_clients": 2},
}
UCB = {**UCB_BASE, "clients.count": 3}
EVERYBODY = {**UCB, "allocator": {"kind": "ucb", "num_clients": 3, "min_local_steps": 3}}


@pytest.fixture(scope="module")
def record(tiny_scenario, tmp_path_factory):
    return Record.open(run(tiny_scenario(UCB), tmp_path_factory.mktemp("ucb") / "run"))


@pytest.fixture(scope="module")
def metrics(record):
    found = defaultdict(dict)
    for row in record.metrics.to_pylist():
        found[row["name"]][row["round"], row["actor"]] = row["value"]
    return found


def test_who_is_chosen_trains_so_many_steps_and_sends_and_nobody_else_does(record, metrics):
    for round_ in range(1, 5):
        rows = [row for row in record.spans.to_pylist() if row["round"] == round_]
        for client in ("client-0", "client-1", "client-2"):
            mine = [row["name"] for row in rows if row["actor"] == client]
            takes_part = metrics["participation"][round_, client]
            assert (
                mine.count("client_forward_backward") == takes_part * metrics["local_steps"][round_, client]
            )
            assert mine.count("adapter_upload") == mine.count("report") == takes_part
        weights = [metrics["weight"][round_, f"client-{client}"] for client in range(3)]
        assert sum(weights) == pytest.approx(1.0)


def test_what_it_knows_is_what_was_measured_in_the_rounds_before(record, metrics):
    """Its memory at the beginning of a round holds means over the spans of the rounds before it."""
    starts, trained, sent = {0: 0}, defaultdict(list), defaultdict(list)
    rows = record.spans.to_pylist()
    for row in rows:
        starts[row["round"]] = max(starts.get(row["round"], 0), row["end_ns"])
    for round_ in range(1, 5):
        for client in ("client-0", "client-1", "client-2"):
            known = [metrics[f"{name} of {client}"][round_, "main-server"] for name in ("step_s", "upload_s")]
            means = [np.mean(one[client]) if one[client] else 0.0 for one in (trained, sent)]
            assert known == pytest.approx(means, rel=1e-9)
        for client in ("client-0", "client-1", "client-2"):
            mine = [row for row in rows if (row["round"], row["actor"]) == (round_, client)]
            steps = [row for row in mine if row["kind"] == "compute"]
            if steps:
                last = max(row["end_ns"] for row in steps)
                trained[client].append((last - starts[round_ - 1]) / 1e9 / len(steps))
                air = (row["end_ns"] - row["start_ns"] for row in mine if row["kind"] == "transfer")
                sent[client].append(sum(air) / 1e9)


def test_every_client_is_tried_and_the_bandit_then_prefers_the_fast(tiny_scenario, tmp_path):
    groups = [{"count": 2, "clock_hz": 1e5}, {"count": 1, "clock_hz": 1e7}]
    changes = {"scheme.num_rounds": 60, "allocator.num_clients": 1, "clients": groups}
    scenario = tiny_scenario({**UCB_BASE, **changes})
    rows = Record.open(run(scenario, tmp_path / "run", timing_only=True)).spans.to_pylist()
    times = [
        sum(row["name"] == "adapter_upload" and row["actor"] == f"client-{one}" for row in rows)
        for one in range(3)
    ]
    assert min(times) > 0
    assert times[2] > 1.5 * max(times[:2])


@pytest.mark.parametrize("to", [{}, {"allocator.kind": "equal"}, {"allocator.num_clients": 1}], ids=str)
def test_an_event_in_the_middle_of_a_round_lets_those_who_have_begun_end(to, tiny_scenario, play):
    """Whoever was chosen goes on under equal shares; the next round is decided again."""
    one = play(tiny_scenario(UCB))
    event = {"at_s": one.clock.now / 3e9, "set": {"radio.noise_figure_db": 12.0, **to}}
    world = play(tiny_scenario({**UCB, "events": [event]}))
    world.log.spans.settle()
    rows = zip(world.log.spans.round, world.log.spans.name, strict=True)
    assert {round_ for round_, name in rows if name == "adapter_upload"} == {1, 2, 3, 4}


def losses(scenario, folder):
    rows = Record.open(run(scenario, folder)).metrics.to_pylist()
    return [(row["round"], row["actor"], row["value"]) for row in rows if row["name"].endswith("_loss")]


def test_a_wider_band_moves_nothing_that_is_learned_where_all_take_part(tiny_scenario, tmp_path):
    scenario = tiny_scenario(EVERYBODY)
    wider = change(scenario, {"radio.federated_uplink.bandwidth_hz": 40e6, "clients.flop_per_cycle": 0.5})
    one, other = losses(scenario, tmp_path / "one"), losses(wider, tmp_path / "wider")
    assert sorted(one) == sorted(other)
    plain = losses(change(scenario, {"allocator": {"kind": "equal"}}), tmp_path / "plain")
    assert [value for *_, value in sorted(one)] == pytest.approx(
        [value for *_, value in sorted(plain)], rel=1e-5
    )


def test_steps_weights_and_choice_reach_what_is_learned(record, tiny_scenario, tmp_path):
    for number, allocator in enumerate([{"num_clients": 1}, {"min_local_steps": 2}]):
        other = change(tiny_scenario(UCB), {f"allocator.{name}": value for name, value in allocator.items()})
        assert run_fingerprint(other, tmp_path / str(number)) != record.manifest["fingerprints"]["learning"]


def run_fingerprint(scenario, folder):
    return Record.open(run(scenario, folder)).manifest["fingerprints"]["learning"]


def test_weights_that_are_decided_are_in_the_key_of_the_average(tiny_scenario):
    task = prepare(tiny_scenario(UCB)).task
    works = []
    for weights in ({}, {0: 0.25, 2: 0.75}):
        federation = FederatedState(Training(task, task.shape.num_layers, 4), "whole")
        federation.weights.decide(weights)
        works.append(federation.average({one: federation.upload(one, 1) for one in (0, 2)}, 1))
    assert works[1].params["weights"] == [0.25, 0.75]
    assert works[0].key != works[1].key


def controller(**knobs):
    """Return who sets these knobs, and shares the band equally."""

    def allocate(state):
        return replace(Equal().allocate(state), knobs=knobs)

    return SimpleNamespace(
        kind="controller",
        allocate=allocate,
        reports=(),
        awaits_reports=False,
        sets_sparsification_ratios=False,
        shares_in_time=False,
        reallocate="every_round",
    )


def played_by(made, prepared):
    """Return the world of a run under a controller of our own."""
    scenario = prepared.scenario.model_copy(update={"allocator": made})
    world = replace(prepared, scenario=scenario, allocation=None).world(lambda _: TimingOnly())
    world.play(scenario.scheme.run(world))
    world.log.spans.settle()
    return world


@pytest.mark.parametrize("scheme", ["federated", "split_federated"])
def test_both_schemes_let_a_controller_choose_and_measure_what_was_foreseen(scheme, tiny_scenario):
    scenario = tiny_scenario({"scheme": {"kind": scheme, "num_rounds": 2}, "clients.count": 3})
    prepared = prepare(scenario)
    world = played_by(controller(participation=(1.0, 0.0, 1.0)), prepared)
    rows = zip(world.log.spans.actor, world.log.spans.kind, world.log.spans.name, strict=True)
    did = {(actor, name) for actor, _, name in rows}
    assert not any(actor == "client-1" for actor, _ in did)
    assert ("client-2", "adapter_upload") in did
    predicted = [
        v
        for v, name in zip(world.log.metrics.value, world.log.metrics.name, strict=True)
        if name == "predicted_round_s"
    ]
    assert world.clock.now == pytest.approx(sum(predicted) * 1e9, abs=1)
    outcome = world.decisions.state(world.clock.now, 3).outcomes
    assert outcome[1].bits == 0 < outcome[0].bits
    assert outcome[0].airtime_s > 0.0 < outcome[0].energy_j
    assert all(one.delivered for one in outcome)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"amplitude": 1.0}, "the knob 'amplitude' is set, and nobody reads it: declared are"),
        (
            {"local_steps": (1.0, 9.0)},
            r"client 1 is given the local_steps 9; it must be a whole number from 1 to",
        ),
        ({"local_steps": 2.0}, "the knob 'local_steps' is set to 2.0; give one for each client"),
        ({"participation": (1.0, 0.0, 1.0)}, "3 values of 'participation' are given for 2 clients"),
        ({"participation": (0.0, 0.0)}, "nobody is chosen who could take part"),
        ({"weight": (0.5, 0.2)}, "add up to 0.7; give weights that add up to 1"),
    ],
    ids=str,
)
def test_a_knob_that_nobody_reads_or_that_is_out_of_range_is_refused(knobs, message, tiny_scenario):
    prepared = prepare(tiny_scenario({"scheme": {"kind": "federated"}, "clients.count": 2}))
    with pytest.raises(AllocationError, match=message):
        played_by(controller(**knobs), prepared)


def test_the_bandit_is_refused_where_clients_report_nothing(tiny_scenario):
    with pytest.raises((AllocationError, ScenarioError), match="take the scheme 'federated'"):
        prepare(tiny_scenario({"allocator": {"kind": "ucb"}}))


def test_a_scheme_that_says_no_stages_is_served_by_who_looks_at_links_alone(tiny_scenario):
    prepared = prepare(tiny_scenario({}))
    prepared.__dict__["terms"] = prepared.terms._replace(phases=lambda *_: ())
    decisions = replace(prepared, allocation=None).decisions()
    state = replace(decisions.state(0, 1), phases=lambda setting: ())
    Equal().allocate(state).check(state, shares_in_time=False)
    with pytest.raises(
        AllocationError, match="the round of this scheme says no stages; take one that looks at"
    ):
        Nested().allocate(state)
    assert legs_of(prepare(tiny_scenario({})).decisions().state(0, 1).phases(Setting(1, 2)))


def test_the_allocator_of_the_readme_runs():
    """In a process of its own: a class of a part is there for good once it is made."""
    root = Path(__file__).parents[2]
    page = (root / "docs" / "guide" / "own_parts.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    (block,) = [one for one in blocks if "Nearest" in one]
    script = f"""{block}
from cosim.testing.strategies import random_cell
state = random_cell(1, 3, 4)
decision = Nearest().allocate(state)
decision.check(state, shares_in_time=True)
print(sum(decision.knobs["participation"]))
from cosim.allocation import Allocator as same
from cosim.allocation.decision import Allocation as also
assert same is Allocator and also is Allocation
"""
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "1.0"
