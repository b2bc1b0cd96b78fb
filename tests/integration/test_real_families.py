"""The two scenarios of real models that ``cosim fetch`` gets: they learn, in the memory that they say."""

import os
from pathlib import Path

import pytest
from real_language_model import MODELS

from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change, load

SCENARIOS = Path(__file__).parents[2] / "scenarios"
DATA = Path(os.environ.get("COSIM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def evaluations(folder: Path, name: str) -> list[float]:
    rows = Record.open(folder).metrics.to_pylist()
    return [row["value"] for row in sorted(rows, key=lambda row: row["round"]) if row["name"] == name]


def data(*files: str) -> dict[str, str]:
    names = ("data.source.train_path", "data.source.test_path")
    return {name: str(DATA / file) for name, file in zip(names, files, strict=True)}


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not (MODELS / "minilm-l6").is_dir(), reason="needs the model minilm-l6")
def test_a_real_encoder_tells_intents_apart(tmp_path: Path) -> None:
    changes = {"model.base.path": str(MODELS / "minilm-l6")} | data(
        "banking77/train.csv", "banking77/test.csv"
    )
    run(change(load(SCENARIOS / "minilm_banking77.toml"), changes), tmp_path / "run")
    accuracies = evaluations(tmp_path / "run", "eval_accuracy")
    assert accuracies[0] < 0.05  # chance is 1 in 77
    assert accuracies[-1] > 0.3


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not (MODELS / "smollm2-135m").is_dir(), reason="needs the model smollm2-135m")
def test_a_real_language_model_learns_to_describe_restaurants(tmp_path: Path) -> None:
    changes = {"model.base.path": str(MODELS / "smollm2-135m")}
    changes |= data("e2e_nlg/trainset.csv", "e2e_nlg/devset.csv")
    run(change(load(SCENARIOS / "smollm2.toml"), changes), tmp_path / "run")
    losses = evaluations(tmp_path / "run", "eval_loss")
    assert losses[-1] < losses[0] - 0.3
