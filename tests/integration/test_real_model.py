"""The driver of the experiments on real models, on the model that comes with cosim; and on the real one."""

import csv

import pytest

from analysis.real_model import fedsllm
from analysis.real_model.jobs import Asked
from cosim.control.solvers.rounds import RoundsTable
from cosim.graph.store import Store

EMBEDDED = {
    "model": {"base": {"kind": "embedded"}, "cut_layer": 2},
    "data": {
        "sequence_length": 24,
        "source": {"kind": "embedded", "num_train": 60, "num_test": 4},
        "partition": {"kind": "iid"},
    },
    "clients.count": 2,
    "scheme.local_steps": 1,
    "training.optimizer.learning_rate": 5e-3,
}


@pytest.fixture
def asked(tmp_path) -> Asked:
    return Asked(tmp_path, Store(tmp_path / "store"), is_quick=True, changes=EMBEDDED)


def test_rounds_by_rank_are_measured_drawn_and_recalled(asked, capsys):
    fedsllm.rank_rounds(asked)
    told = capsys.readouterr().out
    table = RoundsTable.read(asked.out / "rank_rounds.json")
    assert list(table.ranks) == [1, 8]
    assert (asked.out / "rank_rounds.png").is_file()
    with (asked.out / "rank_rounds.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4
    fedsllm.rank_rounds(asked)
    assert capsys.readouterr().out == told
