"""Same scenario, same bytes; another channel, the same learning."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change, load, to_toml

FADING = {"kind": "rayleigh_block", "coherence_time_s": 0.002}
TABLES = ("spans.parquet", "metrics.parquet", "grants.parquet", "rounds.parquet")
ADAPTER = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")


@pytest.fixture(scope="module")
def scenario(tiny_scenario):
    return tiny_scenario(
        {
            "radio.fading": FADING,
            "lora.dropout": 0.1,
            "clients.clock_hz": {"kind": "uniform", "low": 1e5, "high": 1e7},
        }
    )


@pytest.fixture(scope="module")
def record(scenario, tmp_path_factory):
    """The run all others are held against."""
    return Record.open(run(scenario, tmp_path_factory.mktemp("reference") / "run"))


def assert_same_bytes(left, right, files=(*TABLES, *ADAPTER)):
    for name in files:
        assert (Path(left) / name).read_bytes() == (Path(right) / name).read_bytes(), name


def fingerprints(folder):
    return Record.open(folder).manifest["fingerprints"]


def test_the_same_scenario_gives_the_same_bytes(scenario, record, tmp_path):
    again = run(scenario, tmp_path / "run")
    assert_same_bytes(record.path, again)
    assert fingerprints(again) == record.manifest["fingerprints"]
    assert record.manifest["fingerprints"].keys() == {"timeline", "learning"}


def test_another_process_with_another_hash_seed_gives_the_same_bytes(scenario, record, tmp_path):
    file = tmp_path / "tiny.toml"
    file.write_text(to_toml(scenario), encoding="utf-8")
    script = (
        "import gc; gc.disable(); import random, sys; from pathlib import Path; import torch; "
        "random.seed(5); torch.manual_seed(5); "
        "from cosim.runs import run; from cosim.scenario.load import load; "
        "run(load(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(file), str(tmp_path / "run")],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert_same_bytes(record.path, tmp_path / "run")


def test_the_resolved_scenario_of_a_run_runs_again_to_the_same_bytes(record, tmp_path):
    again = run(load(record.scenario_path), tmp_path / "run")
    assert_same_bytes(record.path, again, ("scenario.toml", *TABLES, *ADAPTER))


def test_the_resolved_scenario_of_a_changed_run_runs_again_to_the_same_bytes(scenario, tmp_path):
    changed = change(
        scenario,
        {
            "radio.main_uplink.num_subchannels": 7,
            "radio.access.kind": "reassign",
            "allocator.kind": "random",
            "training.optimizer": {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.5},
            "clients": [{"count": 2}, {"count": 1, "clock_hz": 2e6, "max_tx_power_dbm": 10.0}],
        },
        seed=11,
    )
    first = run(changed, tmp_path / "first")
    again = run(load(first / "scenario.toml"), tmp_path / "again")
    assert_same_bytes(first, again, ("scenario.toml", *TABLES, *ADAPTER))


def test_another_seed_gives_another_run(scenario, record, tmp_path):
    other = fingerprints(run(change(scenario, {}, seed=4), tmp_path / "run"))
    assert other["timeline"] != record.manifest["fingerprints"]["timeline"]
    assert other["learning"] != record.manifest["fingerprints"]["learning"]


CHANNELS = {  # others are in test_whatif
    "fewer subchannels": {"radio.main_uplink.num_subchannels": 4},
    "constant bandwidth": {"radio.rate": {"kind": "constant_bandwidth", "rate_bit_per_s": 1e6}},
    "slower clients": {"clients.flop_per_cycle": 7.0},
    "elsewhere": {"radio.placement": {"kind": "disc", "radius_m": 100.0}},
}


@pytest.mark.parametrize("changes", CHANNELS.values(), ids=CHANNELS)
def test_the_channel_changes_the_timeline_and_never_the_learning(scenario, record, tmp_path, changes):
    """Dropout is on: it draws by client, round and step, not by who comes first."""
    folder = run(change(scenario, changes), tmp_path / "run")
    ours, theirs = record.manifest["fingerprints"], fingerprints(folder)
    assert theirs["learning"] == ours["learning"]
    assert theirs["timeline"] != ours["timeline"]
    assert_same_bytes(record.path, folder, ADAPTER)


LESSONS = {
    "learning rate": {"training.optimizer.learning_rate": 2e-3},
    "cut": {"model.cut_layer": 2},
    "rank": {"lora.rank": 2},
    "dropout": {"lora.dropout": 0.2},
    "more clients": {"clients.count": 4},
    "data": {"data.source.seed": 1},
}


@pytest.mark.parametrize("changes", LESSONS.values(), ids=LESSONS)
def test_what_decides_the_learning_changes_its_fingerprint(scenario, record, tmp_path, changes):
    folder = run(change(scenario, changes), tmp_path / "run")
    assert fingerprints(folder)["learning"] != record.manifest["fingerprints"]["learning"]


def test_timing_alone_gives_the_spans_of_the_full_run_byte_for_byte(scenario, record, tmp_path):
    timed = run(scenario, tmp_path / "run", timing_only=True)
    assert_same_bytes(record.path, timed, ("spans.parquet", "grants.parquet"))
    assert not (timed / "adapter").exists()
    names = set(Record.open(timed).metrics.column("name").to_pylist())
    assert names == {"lora_rank", "cut_layer", "predicted_round_s", "gap_to_bound"}
    assert fingerprints(timed)["timeline"] == record.manifest["fingerprints"]["timeline"]


def test_a_record_says_what_made_it_and_holds_the_promised_columns(record):
    assert record.status == "complete"
    manifest = record.manifest
    assert manifest["format"] == 4
    assert manifest["seed"] == 3
    assert manifest["simulated_s"] == record.spans.column("end_ns").to_pylist()[-1] / 1e9
    assert {"versions", "commit", "wall_s"} <= manifest.keys()
    assert record.spans.schema.names == [
        *("id", "parents", "kind", "name", "actor", "peer", "round", "local_step"),
        *("asked_ns", "start_ns", "end_ns", "bits", "flop", "energy_j", "node"),
        *("task", "delivered", "resent_bits", "participants"),
    ]
    assert record.metrics.schema.names == [
        *("time_ns", "round", "local_step", "actor", "name", "value", "task"),
    ]
    assert record.rounds.schema.names == ["task", "round", "start_ns", "end_ns", "participants"]
    assert record.grants.schema.names == [
        *("time_ns", "round", "link", "subchannel", "client", "tx_power_w", "gain", "bandwidth_hz"),
    ]


def last_eval_loss(record):
    rows = [row for row in record.metrics.to_pylist() if row["name"] == "eval_loss"]
    return max(rows, key=lambda row: row["round"])["value"]


def peft_loss(scenario, record):
    """Return the held-out loss of the saved adapter, by PEFT and transformers alone."""
    from peft import PeftModel

    from cosim.scenario.build import prepare

    task = prepare(scenario).task
    base = scenario.model.base.load(scenario.model.task, task.shape.num_labels, scenario.model.dtype)
    model = PeftModel.from_pretrained(base, record.path / "adapter").eval()
    batch = task.tokens.test.batch(list(range(len(task.tokens.test))))
    given = {
        "input_ids": torch.tensor(batch.input_ids),
        "attention_mask": torch.tensor(batch.attention_mask, dtype=torch.long),
        "labels": torch.tensor(batch.labels),
    }
    with torch.no_grad():
        return float(model(**given).loss)


# PEFT asks transformers a question under a name that newer releases have renamed.
peft_asks = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@peft_asks
def test_the_adapter_loads_with_peft_and_has_the_loss_of_the_run(scenario, record):
    assert peft_loss(scenario, record) == pytest.approx(last_eval_loss(record), abs=1e-5)


@peft_asks
@pytest.mark.parametrize(
    "changes",
    [
        {"model.base": {"kind": "embedded"}, "lora.target_modules": ["all-linear"], "lora.alpha": 3.0},
        {"model.task": "classification", "training.optimizer.learning_rate": 0.1},
        {"scheme": {"kind": "centralized", "num_rounds": 2, "local_steps": 3}, "data.loss_on": "all"},
    ],
    ids=["embedded", "classification", "centralized"],
)
def test_every_kind_of_adapter_loads_with_peft(scenario, tmp_path, changes):
    changed = change(scenario, {"training.optimizer.learning_rate": 1e-2, **changes})
    record = Record.open(run(changed, tmp_path / "run"))
    assert peft_loss(changed, record) == pytest.approx(last_eval_loss(record), abs=1e-5)
    untrained = next(row for row in record.metrics.to_pylist() if row["name"] == "eval_loss")["value"]
    assert abs(untrained - last_eval_loss(record)) > 1e-4


def test_a_run_that_breaks_off_leaves_what_it_recorded_and_says_failed(scenario, tmp_path):
    class Stop(KeyboardInterrupt):
        pass

    def stop(progress):
        if progress.round == 1:
            raise Stop

    with pytest.raises(Stop):
        run(scenario, tmp_path / "run", watch=stop)
    broken = Record.open(tmp_path / "run")
    assert broken.status == "failed"
    assert set(broken.spans.column("round").to_pylist()) == {1}
    assert {0, 1} == set(broken.metrics.column("round").to_pylist())
    assert not (tmp_path / "run" / "adapter").exists()


def test_an_existing_run_is_never_overwritten(scenario, record):
    from cosim.errors import RecordError

    before = (record.path / "manifest.json").read_bytes()
    with pytest.raises(RecordError, match="exists already"):
        run(scenario, record.path)
    assert (record.path / "manifest.json").read_bytes() == before
