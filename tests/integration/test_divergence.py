"""A training whose numbers are no longer finite ends where it happens, and says so everywhere."""

import csv
import json
import re

import pytest
import tomli_w

from cosim.cli import answer
from cosim.record.folder import Record
from cosim.report.study.findings import findings
from cosim.report.study.record import StudyRecord
from cosim.scenario.load import to_dict

WILD = {"training.optimizer": {"kind": "sgd", "learning_rate": 1e38}}
SCHEMES = {
    "split_federated": {},
    "federated": {"scheme.kind": "federated"},
    "centralized": {"scheme.kind": "centralized"},
    "flora": {"scheme.aggregator.kind": "flora"},
    "product_svd": {"scheme.kind": "federated", "scheme.aggregator.kind": "product_svd"},
    "batched": {"training.executor": "batched"},
}


@pytest.fixture
def run(tmp_path, tiny_scenario, capsys):
    """Return what runs the tiny scenario with changes and hands back status, record and lines on stderr."""

    def ran(changes):
        file, folder = tmp_path / "tiny.toml", tmp_path / "run"
        file.write_text(tomli_w.dumps(to_dict(tiny_scenario(changes))), encoding="utf-8")
        status = answer(["run", str(file), "--no-store", "--out", str(folder)])
        return status, Record.open(folder), capsys.readouterr()

    return ran


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_training_that_diverges_ends_there_and_names_round_step_and_actor(scheme, run):
    status, record, said = run(WILD | SCHEMES[scheme])
    *_, line = said.err.splitlines()
    assert status == 1
    assert re.match(r"round \d+(, local step \d+)?, [a-z]+[-\w]*: the training diverged: ", line), line
    assert record.status == "diverged"
    assert record.manifest["reason"] == line
    assert record.spans.num_rows > 0
    assert not (record.path / "adapter").exists()
    assert "diverged" in said.out


def test_who_wants_to_goes_on(run):
    status, record, _ = run(WILD | {"training.on_divergence": "continue"})
    assert status == 0
    assert record.status == "complete"


@pytest.mark.slow
def test_a_study_counts_and_shows_runs_that_diverged(tmp_path, tiny_scenario, capsys):
    (tmp_path / "base.toml").write_text(
        tomli_w.dumps(to_dict(tiny_scenario({"training.optimizer.kind": "sgd"}))), encoding="utf-8"
    )
    study = {
        "base": "base.toml",
        "replications": 2,
        "measures": ["eval_loss"],
        "vary": {"grid": {"training.optimizer.learning_rate": [1e-3, 1e38]}},
    }
    (tmp_path / "study.toml").write_text(tomli_w.dumps(study), encoding="utf-8")
    out = tmp_path / "out"
    command = ["study", str(tmp_path / "study.toml"), "--out", str(out), "--workers", "1", "--no-store"]
    assert answer(command) == 0
    said = capsys.readouterr()
    assert "2 training(s) diverged and are in no mean; summary.csv counts them" in said.err
    assert re.search(r"diverged\n.*\n.*0\.001 .*\]\s*\n.*1e\+38 +none +2 of 2", said.out)
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["n"], row["diverged"]) for row in rows] == [("2", "0"), ("0", "2")]
    assert len(json.loads((out / "manifest.json").read_bytes())["diverged"]) == 2
    assert [row["diverged"] for row in findings(StudyRecord.open(out), "eval_loss")["cases"]] == [0, 2]
    assert "diverged" in (out / "report.html").read_text(encoding="utf-8")
