"""SOFT and its rivals on real models: the jobs of the driver in small, and the grid on stories260k."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from real_language_model import MODELS

from analysis.real_model.banking import METHODS, banking77
from analysis.real_model.jobs import Asked, places
from analysis.real_model.soft import cells, soft
from cosim.graph.store import Store

ROOT = Path(__file__).parents[2]
TEXTS = Path(os.environ.get("COSIM_DATA", ROOT.parent / "shared" / "data"))
STORIES = ROOT.parent / "shared" / "models" / "stories260k"


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.mark.slow
def test_soft_on_a_model_is_drawn_and_recalled(tmp_path):
    model = {"model": {"base": {"kind": "embedded"}, "cut_layer": 1}}
    asked = Asked(tmp_path, Store(tmp_path / "store"), is_quick=True, changes=model)
    soft(asked)
    before = rows_of(tmp_path / "soft.csv")
    assert len(before) == 2 * len(cells(is_quick=True))
    assert (tmp_path / "soft.pdf").is_file()
    soft(asked)
    assert rows_of(tmp_path / "soft.csv") == before


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not (MODELS / "minilm-l6").is_dir(), reason="needs the model minilm-l6")
def test_banking77_has_every_method_at_its_bits(tmp_path):
    asked = Asked(tmp_path, Store(tmp_path / "store"), True, places(MODELS, TEXTS / "e2e_nlg"))
    banking77(asked)
    sent = {row["method"]: float(row["uplink_mbit"]) for row in rows_of(tmp_path / "banking77.csv")}
    assert sent.keys() == METHODS.keys()
    assert sent["SOFT"] < 0.3 * sent["dense"]
    assert max(sent["FFA"], sent["FedSA"], sent["hetlora"]) < sent["dense"]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not STORIES.is_dir(), reason="needs the model stories260k beside the project")
def test_the_grid_of_soft_draws_what_it_says(tmp_path):
    options = ("--quick", "--seeds", "2", "--out", tmp_path / "out", "--store", tmp_path / "store")
    command = [sys.executable, "-m", "analysis.soft_real", *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert ended.returncode == 0, ended.stderr
    assert {row["verdict"] for row in rows_of(tmp_path / "out" / "energy_or_chance.csv")}
    assert all((tmp_path / "out" / name).is_file() for name in ("ratios.png", "options.csv", "grid.csv"))
