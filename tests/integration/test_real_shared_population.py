"""Two tasks that take turns on one population, on a real model of 135 million weights."""

from real_language_model import MARKS, MODEL

from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario

pytestmark = MARKS


def test_two_tasks_of_two_clients_both_learn(tmp_path):
    source = {"kind": "embedded", "direction": "parse", "num_train": 24, "num_test": 4}
    changes = {
        "model.base": {"kind": "folder", "path": str(MODEL)},
        "scheme": {"kind": "asynchronous", "num_rounds": 4, "local_steps": 2},
        "task_policy": {"kind": "value_per_cost"},
        "training": {"batch_size": 2, "optimizer": {"kind": "adamw", "learning_rate": 1e-3}},
        "clients.count": 2,
    }
    for name in ("museum", "hotel"):
        drift = {"by": "name", "duration_s": 1e6, "window": 0.5}
        changes[f"tasks.{name}.data"] = {"source": {**source, "domain": name}, "drift": drift}
    record = Record.open(run(change(Scenario(name="real", seed=1), changes), tmp_path / "run"))
    for name in ("museum", "hotel"):
        rows = [
            row for row in record.metrics.to_pylist() if (row["name"], row["task"]) == ("eval_loss", name)
        ]
        assert rows[-1]["value"] < rows[0]["value"]
