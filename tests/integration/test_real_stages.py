"""LoRA-FAIR and SLoRA on a real model of 135 million weights; see ../shared/models/README.md."""

import pytest
from real_language_model import MARKS, MODEL

from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario

pytestmark = MARKS


def figures(scheme, folder):
    """Return what was measured of the servers in a run of two clients, by name and round."""
    settings = {
        "model.base": {"kind": "folder", "path": str(MODEL)},
        "data.source": {"kind": "embedded", "domains": ("hotel", "laptop"), "num_train": 20, "num_test": 4},
        "data.partition": {"kind": "group", "by": "domain", "one_group_per_client": True},
        "data.sequence_length": 64,
        "training.batch_size": 2,
        "training.optimizer.learning_rate": 1e-3,
        "clients.count": 2,
        "scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 2, **scheme},
    }
    rows = Record.open(run(change(Scenario(name="real", seed=1), settings), folder)).metrics.to_pylist()
    return {(row["name"], row["round"]): row["value"] for row in rows}


def test_lora_fair_lowers_the_bias(tmp_path):
    bias = [
        figures({"aggregator": {"kind": kind}, "num_rounds": 1}, tmp_path / kind)["product_bias", 1]
        for kind in ("fedavg", "lora_fair")
    ]
    assert 0.0 < bias[1] < bias[0]


def test_slora_with_the_residual_goes_on_where_the_sparse_stage_ended(tmp_path):
    stage = {
        "num_rounds": 1,
        "trainable": {"kind": "sparse", "density": 0.01},
        "handover": {"kind": "svd", "keep_residual": True},
    }
    found = figures({"stages": [stage]}, tmp_path / "run")
    assert found["eval_loss", 1] < found["eval_loss", 0]
    assert found["handover_eval_loss", 2] == pytest.approx(found["eval_loss", 1], abs=1e-3)
    assert found["eval_loss", 2] < found["eval_loss", 0]
