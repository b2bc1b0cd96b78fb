"""The experiments on real models: their closed forms and limits, the driver in small, and the real one."""

import csv
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from real_language_model import MARKS, MODELS

from analysis.real_model import fedsllm
from analysis.real_model.fedsllm_delays import needed_bytes, task_of
from analysis.real_model.jobs import HERE, Asked, jobs
from analysis.real_model.split_pays import Sizes, crossing
from cosim.control.solvers.rounds import RoundsTable
from cosim.errors import ScenarioError
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.scenario.load import change, load
from cosim.studies.load import load_study

ROOT = Path(__file__).parents[2]
TEXTS = Path(os.environ.get("COSIM_DATA", ROOT.parent / "shared" / "data")) / "e2e_nlg"
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


def test_the_kernel_has_split_and_whole_model_level_where_the_closed_form_says(tmp_path):
    sizes = Sizes(texts=8, tokens=128, width=192, bits=8.0 + 32.0 / 512.0)
    study = load_study(HERE / "split_pays.toml")
    cell = {
        **study.set,
        "model.base.config.n_embd": sizes.width,
        "training.batch_size": sizes.texts,
        "data.sequence_length": sizes.tokens,
    }
    cases = {one.name: change(load(study.base), {**cell, **one.set}) for one in study.vary.cases}

    def excess_s(flop_per_s: float) -> float:
        took = []
        for name in ("8 bits", "whole"):
            scenario = change(cases[name], {"clients.flop_per_cycle": flop_per_s / 1e9})
            record = Record.open(run(scenario, tmp_path / f"{name}-{flop_per_s:.9g}", timing_only=True))
            took.append(record.rounds["end_ns"].to_pylist()[-1] / 1e9)
        return took[0] - took[1]

    level = sizes.critical_flop_per_s()
    assert excess_s(level * (1.0 - 1e-6)) < 0.0 < excess_s(level * (1.0 + 1e-6))


def test_fewer_rounds_a_narrower_number_and_a_smaller_adapter_share_let_splitting_pay_for_quicker_clients():
    def level(more_rounds: float = 1.0, **changes: float) -> float:
        return Sizes(
            **{"texts": 8, "tokens": 128, "width": 192, "bits": 32.0, **changes}
        ).critical_flop_per_s(more_rounds)

    assert level(1.1) < level() < level(0.9)
    assert level() < level(bits=16.0) < level(bits=8.0)
    assert level() < level(width=768)
    assert level(texts=1, tokens=8, bits=4.0) == float("inf")  # adapters saved outweigh activations


def test_delays_that_are_straight_in_the_inverse_speed_cross_where_they_are_equal():
    speeds = [1.0, 2.0, 4.0]
    whole = [4.0 / one for one in speeds]
    assert crossing(speeds, whole, [2.0 + 1.0 / one for one in speeds]) == pytest.approx(1.5)
    assert crossing(speeds, whole, [9.0] * 3) == 0.0
    assert crossing(speeds, whole, [0.5] * 3) == float("inf")


def test_a_phone_holds_what_the_table_of_memory_says(tiny_scenario):
    scenario = tiny_scenario({"model.cut_layer": 1})
    whole, cuts = needed_bytes(task_of(scenario), scenario.trained.lora_rank)
    assert cuts[1] < whole
    federated = change(scenario, {"scheme": {"kind": "federated", "num_rounds": 1, "local_steps": 1}})
    for asked, needed in ((scenario, cuts[1]), (federated, whole)):
        prepare(change(asked, {"clients.memory_bytes": float(needed)}))
        with pytest.raises(ScenarioError, match="memory"):
            prepare(change(asked, {"clients.memory_bytes": float(needed - 1)}))


def test_every_experiment_has_a_name_of_its_own_and_says_how_long_it_takes():
    every = list(jobs())
    assert len({one.name for one in every}) == len(every) >= 5
    assert all(0.0 < one.quick_s <= one.whole_s for one in every)
    of_smollm2 = [one for one in every if one.name != "banking77"]
    assert sum(one.whole_s for one in of_smollm2) <= 6000.0
    assert sum(one.quick_s for one in of_smollm2) <= 600.0


@pytest.mark.slow
def test_rounds_by_rank_are_measured_drawn_and_recalled(tmp_path, capsys):
    asked = Asked(tmp_path, Store(tmp_path / "store"), is_quick=True, changes=EMBEDDED)
    fedsllm.rank_rounds(asked)
    told = capsys.readouterr().out
    assert list(RoundsTable.read(tmp_path / "rank_rounds.json").ranks) == [1, 8]
    assert (tmp_path / "rank_rounds.png").is_file()
    with (tmp_path / "rank_rounds.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
    fedsllm.rank_rounds(asked)
    assert capsys.readouterr().out == told
    fedsllm.local_steps(asked)
    assert "8 local steps: perplexity" in capsys.readouterr().out


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("job", [pytest.param("rank_rounds", marks=MARKS)])
def test_the_driver_trains_the_real_model_within_four_gigabytes(job, tmp_path):
    command = [sys.executable, "-m", "analysis.real_model", "--quick", "--only", job]
    places = ["--models", MODELS, "--e2e", TEXTS, "--out", tmp_path / "out", "--store", tmp_path / "store"]
    ended = subprocess.run([*command, *places], cwd=ROOT, capture_output=True, text=True, timeout=3000)
    assert ended.returncode == 0, ended.stderr
    assert "does not separate" in ended.stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 4e6  # kB
