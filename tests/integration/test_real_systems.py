"""Published systems on a real model of 135 million weights, made as ../shared/models/README.md says."""

import pytest
from real_language_model import MARKS, MODEL

from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario

pytestmark = MARKS
COMMON = {
    "model.base": {"kind": "folder", "path": str(MODEL)},
    "data.source": {"kind": "embedded", "num_train": 20, "num_test": 4},
    "data.sequence_length": 64,
    "training.batch_size": 2,
    "clients.count": 2,
    "scheme": {"kind": "federated", "num_rounds": 1, "local_steps": 1},
}


def played(changes, folder):
    scenario = change(Scenario(name="real", seed=1), {**COMMON, **changes})
    losses = [
        one["value"]
        for one in Record.open(run(scenario, folder)).metrics.to_pylist()
        if one["name"] == "eval_loss"
    ]
    return prepare(scenario), losses


def test_ferret_tunes_it_by_2048_coordinates(tmp_path):
    changes = {
        "trainable": {"kind": "full"},
        "training.optimizer": {"kind": "sgd", "learning_rate": 0.01},
        "scheme.update": [{"kind": "ferret", "num_coordinates": 2048, "scale": "shrunk"}],
    }
    prepared, losses = played(changes, tmp_path / "run")
    codec = prepared.task.codecs.adapter
    from cosim.learning.payload import adapter_layout

    layout = adapter_layout(prepared.task, prepared.task.shape.num_layers, 1)
    assert layout.num_numbers > 1.3e8
    assert codec.bits(layout) == 32 * 2048
    assert codec.encode_flop(layout) / 12 < 2e10  # random numbers a projection
    assert losses[1] == pytest.approx(losses[0], abs=0.1)
    assert losses[1] != losses[0]


def test_fedpeptao_shares_half_of_its_prefixes(tmp_path):
    changes = {
        "trainable": {"kind": "prefix", "num_tokens": 10, "initial_std": 0.1},
        "training.optimizer": {"kind": "adamw", "learning_rate": 0.01},
        "scheme.aggregator": {"kind": "chosen_blocks", "blocks": list(range(1, 16))},
        "scheme.scored_examples": 4,
        "scheme.server_optimizer": {"kind": "fedpeptao"},
    }
    prepared, losses = played(changes, tmp_path / "run")
    from cosim.learning.payload import upload_layout

    shape = prepared.task.shape
    width = shape.num_key_value_heads * shape.head_dim
    assert upload_layout(prepared.task, shape.num_layers, 1, 1).num_numbers == 15 * 2 * 10 * width
    assert losses[1] != losses[0]
    assert losses[1] < losses[0] + 0.5
