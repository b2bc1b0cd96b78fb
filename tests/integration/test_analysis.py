"""The scripts behind the figures: they run as the README says, and leave every table and picture."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    "biased_federated": (["--quick"], {"front.csv", "loss.csv"}),
    "fedsllm": (["--quick"], {"totals.csv", "gaps.csv", "constant_bandwidth.csv", "perplexity.csv"}),
    "reflecting_surface": (["--quick"], {"convergence.csv", "latency.csv", "loss_against_time.csv"}),
    "soft_tsfa": (
        ["--seeds", "2", "--rounds", "2", "--ranks", "2,4"],
        {"selections.csv", "online.csv", "time_to_loss.csv", "ranks.csv"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_an_analysis_draws_what_it_says(name, tmp_path):
    options, tables = SCRIPTS[name]
    command = [sys.executable, "-m", f"analysis.{name}", "--out", tmp_path / "out", *options]
    ended = subprocess.run(
        [*command, "--store", tmp_path / "store"], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert ended.returncode == 0, ended.stderr
    pictures = list((tmp_path / "out").glob("*.png"))
    assert pictures
    assert all(one.with_suffix(".pdf").is_file() for one in pictures)
    for table in tables:
        with (tmp_path / "out" / table).open(newline="") as file:
            heading, *rows = csv.reader(file)
        assert rows
        assert all(len(row) == len(heading) for row in rows)
