"""Joint allocation in a run: what was foreseen is what the clock measures; calibration; asking again."""

import json
import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cosim.calibrate import calibrate, first_crossing, fit, not_worse
from cosim.cli import answer
from cosim.control.closed_form import durations_ns, link_rates, predict
from cosim.control.solvers.rounds import RoundsTable
from cosim.control.stages import Compute, barriers_of, num_spans
from cosim.errors import AllocationError, ScenarioError
from cosim.graph.executor import TimingOnly
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.report.summary import summarise
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.scenario.load import change, load, to_toml

SCENARIOS = Path(__file__).parents[2] / "scenarios"
FADING = {"kind": "rayleigh_block", "coherence_time_s": 0.001}
BUSY = {"clients.flop_per_cycle": 0.002, "main_server.flop_per_cycle": 0.01, "clients.count": 3}


def grants_of(record):
    rows = record.grants.to_pydict()
    return list(zip(*(rows[name] for name in rows), strict=True))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["fedsllm", "nested", "refined", "random", "equal"])
@pytest.mark.parametrize("scheme", ["split_federated", "federated"])
def test_the_clock_measures_what_was_predicted_while_the_channel_holds_still(
    scheme, kind, seed, tiny_scenario
):
    both_down = {f"radio.{link}.modelled": True for link in ("main_downlink", "federated_downlink")}
    changes = {**BUSY, **both_down, "scheme.kind": scheme, "allocator.kind": kind}
    scenario = change(tiny_scenario(changes), {}, seed)
    prepared = prepare(scenario)
    state = prepared.decisions().state(0, 1)
    rates = {name: link_rates(link, prepared.allocation.grants[name]) for name, link in state.links.items()}
    duration, round_ = durations_ns(state, rates), state.phases(prepared.allocation.setting)
    foreseen = {
        (stage.name, client): duration(stage, client) // (stage.count if isinstance(stage, Compute) else 1)
        for barrier, _, _ in barriers_of(round_)
        for client, chain in [*enumerate(barrier.chains), (None, barrier.joint)]
        for stage in chain
    }
    world = prepared.world(lambda rank: TimingOnly())
    world.clock.run(world.clock.process(scenario.scheme.run(world), "the scheme"))
    spans = world.log.spans
    spans.settle()
    ends = {0: 0}
    for row, name in enumerate(spans.name):
        client = next((int(one[7:]) for one in (spans.actor[row], spans.peer[row]) if "client-" in one), None)
        assert spans.end_ns[row] - spans.start_ns[row] == foreseen[name, client]
        ends[spans.round[row]] = max(ends.get(spans.round[row], 0), spans.end_ns[row])
    assert len(spans) == scenario.scheme.num_rounds * num_spans(round_)
    for before, after in pairwise(sorted(ends)):
        assert ends[after] - ends[before] == predict(state, prepared.allocation).round_ns


def test_predicted_and_measured_are_in_the_record(tiny_scenario, tmp_path):
    scenario = tiny_scenario({**BUSY, "allocator": {"kind": "fedsllm", "rounds_to_target": {"2": 9, "4": 7}}})
    record = Record.open(run(scenario, tmp_path / "still", timing_only=True))
    plan = record.manifest["plan"]
    assert plan["predicted_total_s"] == pytest.approx(plan["rounds_to_target"] * plan["predicted_round_s"])
    assert plan["lower_bound_s"] <= plan["predicted_total_s"]
    assert all(after <= before for before, after in pairwise(plan["objective_trace_s"]))
    metrics = dict(zip(record.metrics["name"].to_pylist(), record.metrics["value"].to_pylist(), strict=True))
    assert metrics["predicted_round_s"] == plan["predicted_round_s"]
    assert metrics["predicted_total_s"] == plan["predicted_total_s"]
    assert metrics["gap_to_bound"] == plan["gap_to_bound"] >= 0.0
    assert abs(summarise(record).prediction.errors).max() < 1e-6
    fading = change(scenario, {"radio.fading": FADING})
    faded = summarise(Record.open(run(fading, tmp_path / "fading", timing_only=True)))
    assert abs(faded.prediction.errors).max() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"allocator.kind": "time_shared"},
        {"radio.access.kind": "reassign"},
        {"scheme.server_batch": "per_client"},
        {"scheme.kind": "centralized"},
    ],
    ids=str,
)
def test_nothing_is_predicted_where_the_closed_form_does_not_hold(changes, tiny_scenario, tmp_path):
    record = Record.open(run(tiny_scenario(changes), tmp_path / "run", timing_only=True))
    assert record.manifest["plan"] is None
    assert summarise(record).prediction is None


def test_a_rate_that_is_not_shannons_is_predicted_and_has_no_bound(tiny_scenario, tmp_path):
    rate = {"kind": "constant_bandwidth", "rate_bit_per_s": 1e6}
    record = Record.open(run(tiny_scenario({"radio.rate": rate}), tmp_path / "run", timing_only=True))
    assert record.manifest["plan"]["gap_to_bound"] is None
    assert "shannon" in record.manifest["plan"]["no_bound"]
    assert abs(summarise(record).prediction.errors).max() < 1e-6


def test_asking_again_moves_grants_and_nothing_that_is_learned(tiny_scenario, tmp_path):
    base = tiny_scenario(
        {
            "radio.fading": FADING,
            "allocator": {"kind": "fedsllm"},
            "scheme.num_rounds": 3,
            "model.cut_layer": 2,
        }
    )
    records = {
        policy: Record.open(run(change(base, {"allocator.reallocate": policy}), tmp_path / policy))
        for policy in ("once", "every_round")
    }
    learned = {record.manifest["fingerprints"]["learning"] for record in records.values()}
    assert len(learned) == 1
    rounds = {policy: {row[1] for row in grants_of(record)} for policy, record in records.items()}
    assert rounds["once"] == {1}
    assert rounds["every_round"] == {1, 2, 3}
    told = records["every_round"].metrics["name"].to_pylist()
    assert told.count("predicted_round_s") == 3


def test_the_allocator_is_asked_again_only_when_the_channel_has_changed_enough(tiny_scenario, play):
    def asked(threshold_db, fading):
        policy = {"gain_change_db": threshold_db}
        world = play(tiny_scenario({"radio.fading": fading, "allocator.reallocate": policy}))
        return world.log.metrics.name.count("predicted_round_s")

    assert asked(0.01, FADING) == 2
    assert asked(60.0, FADING) == 1
    assert asked(0.01, {"kind": "none"}) == 1


def test_cut_and_rank_stay_when_candidates_are_named_and_the_allocator_is_asked_again(tiny_scenario, play):
    allocator = {
        "kind": "fedsllm",
        "reallocate": "every_round",
        "cut_layers": [1, 2],
        "rounds_to_target": {"1": 9.0, "4": 8.0, "8": 7.9},
    }
    world = play(tiny_scenario({"radio.fading": FADING, "allocator": allocator, "scheme.num_rounds": 4}))
    assert world.log.metrics.name.count("cut_layer") == 1
    assert world.log.metrics.name.count("predicted_round_s") == 4


def test_a_calibration_writes_a_table_the_optimiser_reads_and_another_model_refuses(tiny_scenario, tmp_path):
    scenario = tiny_scenario({"scheme.num_rounds": 4, "training.optimizer.learning_rate": 0.02})
    store = Store(tmp_path / "store")
    found = calibrate(scenario, [4, 1], num_seeds=2, store=store)
    assert list(found.rounds) == [1, 4]
    assert all((rounds > 0.0).all() and (rounds <= 4.0).all() for rounds in found.rounds.values())
    assert (found.rounds[1] <= 0.9 * 4 + 1e-9).all()
    assert set(found.best_ranks) <= {1, 4}
    state = prepare(scenario).decisions().state(0, 1)
    found.table.check(state.model_hash, state.data_hash)
    with pytest.raises(AllocationError, match="another model"):
        found.table.check("0" * 32, state.data_hash)
    early = calibrate(scenario, [4, 1], num_seeds=2, stop_early=True, store=store)
    assert early.table == found.table
    trained = np.isfinite(early.losses[4])
    assert trained.sum() < trained.size
    assert (early.losses[4][trained] == found.losses[4][trained]).all()


def test_a_table_of_another_model_is_refused_before_the_run(tiny_scenario, tmp_path):
    table = RoundsTable.of({1: 9.0, 4: 8.0}).model_copy(update={"model": "ab" * 16})
    file = tmp_path / "rounds.json"
    file.write_text(table.model_dump_json())
    with pytest.raises(AllocationError, match="another model"):
        prepare(tiny_scenario({"allocator": {"kind": "fedsllm", "rounds_table": str(file)}}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"lora.alpha": 8.0}, "lora.alpha"), ({"scheme.deadline_s": 5.0}, "scheme.deadline_s")],
    ids=["alpha", "deadline"],
)
def test_ranks_that_cannot_be_compared_are_not_calibrated(changes, told, tiny_scenario):
    with pytest.raises(ScenarioError, match=told):
        calibrate(tiny_scenario(changes), [1, 2])


def test_a_calibration_on_the_command_line_keeps_a_table_that_is_there(tmp_path, capsys):
    file = tmp_path / "rounds.json"
    file.write_text("{}")
    scenario = str(SCENARIOS / "fedsllm.toml")
    assert answer(["calibrate", scenario, "--out", str(file), "--no-store"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert answer(["calibrate", scenario, "--ranks", "1,x", "--out", str(file), "--force"]) == 2
    assert "--ranks 1,x" in capsys.readouterr().err


def test_a_calibration_on_the_command_line_writes_the_table_and_says_what_it_found(
    tiny_scenario, tmp_path, capsys
):
    scenario = tiny_scenario({"scheme.num_rounds": 3, "training.optimizer.learning_rate": 0.02})
    file = tmp_path / "tiny.toml"
    file.write_text(to_toml(scenario))
    assert answer(["calibrate", str(file), "--ranks", "1,2", "--seeds", "1"]) == 0
    told = capsys.readouterr().out
    table = tmp_path / "tiny_rounds.json"
    assert f"rounds table: {table}" in told
    assert "does not separate" in told  # one seed says nothing about noise
    chosen = change(scenario, {"allocator": {"kind": "fedsllm", "rounds_table": str(table)}})
    assert prepare(chosen).allocation.lora_rank in (1, 2)


def test_a_loss_that_falls_straight_crosses_its_target_in_between():
    assert first_crossing(np.array([3.0, 2.0, 1.0]), 1.5) == 1.5
    assert first_crossing(np.array([3.0, 2.0]), 1.0) == float("inf")
    assert first_crossing(np.array([3.0, 2.0]), 3.0) == 0.0


def test_the_fit_finds_the_curve_the_rounds_lie_on():
    found = fit({rank: 20.0 + 12.0 * rank**-0.9 for rank in (1, 2, 4, 8, 16)})
    assert (found.e0, found.e1, found.beta) == pytest.approx((20.0, 12.0, 0.9), rel=1e-4)
    assert fit({1: 9.0, 2: 8.0}) is None


def test_ranks_are_told_apart_only_as_far_as_the_noise_allows():
    noisy = {1: np.array([9.0, 9.2, 9.1]), 2: np.array([5.0, 5.4, 5.1]), 4: np.array([5.2, 5.1, 5.3])}
    assert not_worse(noisy) == (2, 4)
    assert not_worse({1: np.array([2.0]), 2: np.array([1.0])}) == (1, 2)


@pytest.mark.parametrize("name", ["fedsllm", "fedsllm_gpt2"])
def test_the_scenarios_load_and_play_briefly(name, tmp_path):
    brief = {"scheme.num_rounds": 2, "scheme.local_steps": 2}
    scenario = change(load(SCENARIOS / f"{name}.toml"), brief)
    record = Record.open(run(scenario, tmp_path / "run", timing_only=True))
    assert record.status == "complete"
    assert 0.0 <= record.manifest["plan"]["gap_to_bound"] < 0.1
    assert abs(summarise(record).prediction.errors).max() < 1e-6


def test_the_table_beside_the_scenario_is_of_its_model_and_data():
    scenario = load(SCENARIOS / "fedsllm.toml")
    table = RoundsTable.model_validate(json.loads(scenario.allocator.rounds_table.read_text()))
    task = prepare(scenario).task
    assert (table.model, table.data) == (task.model_hash, task.tokens.content_key)
    assert sorted(table.ranks) == [1, 2, 4, 8, 16]


def baselines():
    """Return the changes fedsllm.toml names at its end, by their letters."""
    lines = (SCENARIOS / "fedsllm.toml").read_text().splitlines()
    for line in lines:
        if line.startswith("#") and "--set" in line and "..." not in line:
            told, _, changes = line.partition("--set")
            name = told.lstrip("# ").split()[0]
            yield pytest.param(["--set", *shlex.split(changes)], id=name)


@pytest.mark.parametrize("changes", list(baselines()))
def test_the_baselines_a_scenario_names_can_be_played(changes, tmp_path, capsys):
    path = SCENARIOS / "fedsllm.toml"
    assert answer(["check", str(path), *changes]) == 0
    assert "fedsllm: fine" in capsys.readouterr().out
    out = tmp_path / "run"
    assert answer(["run", str(path), "--out", str(out), "--timing-only", *changes]) == 0
    record = Record.open(out)
    assert record.status == "complete"
    assert max(row["round"] for row in record.spans.to_pylist()) == 12


def test_the_baselines_named_are_those_of_the_paper():
    assert [one.id for one in baselines()] == [*"abcdefg", "Beyond"]


@pytest.mark.slow
def test_the_unsplit_baseline_learns_and_sends_no_activations(tmp_path):
    """Baseline f for a round, with values: whole adapters travel, and each client computes all blocks."""
    scheme = {"kind": "federated", "num_rounds": 1, "local_steps": 2}
    scenario = change(load(SCENARIOS / "fedsllm.toml"), {"scheme": scheme})
    record = Record.open(run(scenario, tmp_path / "run"))
    names = {row["name"] for row in record.spans.to_pylist()}
    assert names == {"client_forward_backward", "adapter_upload", "aggregate", "adapter_download"}
    losses = [row["value"] for row in record.metrics.to_pylist() if row["name"] == "eval_loss"]
    assert losses[-1] < losses[0]
