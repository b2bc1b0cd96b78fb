"""Private federated training of a real model of 135 million weights."""

from pathlib import Path

from real_language_model import MARKS, MODEL

from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change, load

ROOT = Path(__file__).resolve().parents[2]

pytestmark = MARKS


def test_a_real_model_learns_from_gradients_that_hide_each_example(tmp_path):
    scenario = change(
        load(ROOT / "scenarios" / "private_low_latency.toml"),
        {
            "model.base": {"kind": "folder", "path": str(MODEL)},
            "lora.blocks": [30],
            "scheme.num_rounds": 3,
            "scheme.evaluate_every": 3,
            "data.source.num_train": 32,
            "data.source.num_test": 2,
            "training.batch_size": 8,
            "training.gradients.noise_multiplier": 1.28,
            "allocator.num_clients": 2,
        },
    )
    record = Record.open(run(scenario, tmp_path / "run"))
    rows = record.metrics.to_pylist()
    losses = [row["value"] for row in rows if row["name"] == "eval_loss"]
    epsilons = [row["value"] for row in rows if row["name"] == "epsilon"]
    assert record.status == "complete"
    assert len(losses) == 2
    assert losses[1] < losses[0] + 0.5
    assert len(epsilons) == 6
    assert max(epsilons) <= 8.0
