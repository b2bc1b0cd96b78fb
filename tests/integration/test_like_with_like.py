"""Comparisons say in what runs and cases differ that nobody asked for, and messages say what is so."""

import json
import logging
import re
from importlib import import_module
from pathlib import Path

import pyarrow.parquet
import pytest
from here import Here

from cosim.cli import answer, progress
from cosim.runs import run
from cosim.scenario.load import change, load, to_toml
from cosim.studies.engines import dask
from cosim.studies.load import load_study
from cosim.studies.plan import make_plan
from cosim.world import Progress

ROOT = Path(__file__).parents[2]
FADING = {"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.05}}


@pytest.fixture(scope="module")
def place(tiny_scenario, tmp_path_factory):
    """Return a folder with a scenario, its run without values, and a study of kinds."""
    folder = tmp_path_factory.mktemp("kinds")
    scenario = tiny_scenario({**FADING, "scheme.deadline_s": 500.0})
    (folder / "tiny.toml").write_text(to_toml(scenario), encoding="utf-8")
    (folder / "kinds.toml").write_text(
        'base = "tiny.toml"\ntiming_only = true\nreplications = 1\n'
        'set = { "radio.fading.coherence_time_s" = 0.1 }\nbaseline = { "scheme.kind" = "split_federated" }\n'
        '[vary.grid]\n"scheme.kind" = ["split_federated", "federated"]\n',
        encoding="utf-8",
    )
    run(scenario, folder / "run", timing_only=True)
    return folder


@pytest.fixture(scope="module")
def study(place):
    """Return the folder of the study, made on the command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cosim.studies.run_study.Processes", Here)
        out = str(place / "study")
        assert answer(["study", str(place / "kinds.toml"), "--out", out, "--workers", "1"]) == 0
    return place / "study"


def told(capsys, *arguments):
    """Return what a command says on stdout and on stderr."""
    assert answer([*map(str, arguments)]) == 0
    return capsys.readouterr()


def test_check_and_run_list_what_another_kind_kept_and_lost(place, capsys):
    to_federated = "--set", "scheme.kind=federated"
    line = "scheme: split_federated -> federated; kept num_rounds = 2, local_steps = 2; lost deadline_s = 500"
    assert f"changed    {line}" in told(capsys, "check", place / "tiny.toml", *to_federated).out
    made = told(capsys, "run", place / "tiny.toml", "--timing-only", "--out", place / "other", *to_federated)
    assert f"changed: {line}" in made.err
    compared = told(capsys, "compare", place / "run", place / "other").out
    assert "settings that differ: scheme.kind split_federated -> federated" in compared
    assert "scheme.deadline_s 500 -> (left out)" in compared


def test_a_whatif_lists_what_nobody_asked_for(place, capsys):
    out = "--out", place / "still"
    said = told(capsys, "whatif", place / "run", "--set", "radio.fading.kind=none", *out)
    assert "changed: radio.fading: rayleigh_block -> none; lost coherence_time_s = 0.05" in said.err
    assert (
        "settings that differ, though not asked for: radio.fading.coherence_time_s 0.05 -> (left out)"
        in said.out
    )
    louder = told(
        capsys, "whatif", place / "run", "--set", "radio.noise_figure_db=9", "--out", place / "loud"
    )
    assert "not asked for" not in louder.out


def test_a_dry_run_lists_what_differs(place, capsys):
    said = told(capsys, "check", place / "kinds.toml").out
    assert "changed    scheme: split_federated -> federated; kept num_rounds = 2" in said
    assert "warning    cases differ in what nobody varied: scheme.deadline_s 500 in split_federated" in said


def test_a_study_says_at_the_top_of_its_report_what_differs(study, capsys):
    from cosim.report.study.content import study_content
    from cosim.report.study.figure import head_lines
    from cosim.report.study.record import StudyRecord

    line = (
        "Cases differ in 1 setting that nobody varied: scheme.deadline_s 500 in split_federated, "
        "not there in federated."
    )
    manifest = json.loads((study / "manifest.json").read_text())
    assert [one["path"] for one in manifest["unvaried"] if not one["default"]] == ["scheme.deadline_s"]
    assert manifest["switches"][0].startswith("scheme: split_federated -> federated; kept num_rounds = 2")
    content = study_content(StudyRecord.open(study))
    assert content["unvaried"][0] == line
    assert " ".join(head_lines(content)).startswith(line)
    assert "lost deadline_s = 500" in dict(content["credibility"])["other kinds"]
    assert "scheme.deadline_s 500 in split_federated" in (study / "report.html").read_text()


# The columns that the guide names


def test_the_guide_names_the_columns_that_tables_have(place, study):
    rows = {
        name: re.findall(r"`([\w.]+)`", content)
        for name, content in re.findall(r"^\| `(\w+\.(?:parquet|csv))` \| (.*) \|$", guide(), re.MULTILINE)
    }
    assert set(rows) == {
        *("spans.parquet", "metrics.parquet", "grants.parquet", "rounds.parquet", "causes.parquet"),
        *("phases.parquet", "outliers.parquet", "totals.parquet"),
        *("results.parquet", "curves.parquet", "summary.csv"),
    }
    factors = make_plan(load_study(place / "kinds.toml")).factors
    short = change(load(place / "tiny.toml"), {"record": "summary"})
    run(short, place / "short", timing_only=True)
    for name, told_columns in rows.items():
        folder = next(one for one in (study, place / "run", place / "short") if (one / name).exists())
        if name.endswith(".csv"):
            columns = (folder / name).read_text().splitlines()[0].split(",")
        else:
            columns = pyarrow.parquet.read_schema(folder / name).names
        assert told_columns == [one for one in columns if one not in factors], name


def guide():
    pages = ("run_folder.md", "studies.md")
    return "".join((ROOT / "docs" / "guide" / one).read_text(encoding="utf-8") for one in pages)


# Messages


@pytest.mark.parametrize("words", [progress._words, progress._few_words])
def test_a_round_without_evaluation_shows_no_loss_of_an_earlier_one(words):
    assert "2.5" in words(Progress(1, 0, 1, {"eval_loss": 2.5}), 3)
    assert "loss" not in words(Progress(2, 0, 1, {}), 3)


def test_progress_within_a_round_says_how_far_it_is_and_what_is_left(monkeypatch):
    now, said = [100.0], []
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    watching = progress.Watching(
        {"": 4}, lambda words, done: said.append((words, done)), 1.0, progress._words
    )
    watching.within(5, 10)
    watching.round_over(Progress(0, 0, 0, {"eval_loss": 4.0}))
    now[0] += 20.0
    watching.round_over(Progress(1, 10**9, 30, {"train_loss": 3.0, "eval_loss": 2.0}, num_ended=1))
    watching.within(1, 10)
    now[0] += 10.0
    watching.within(5, 10)
    assert [one for one, _ in said] == [
        "round 0/4: 0 s simulated, 0 spans, held-out loss 4",
        "round 1/4: 1 s simulated, 30 spans, training loss 3, held-out loss 2, about 1 min 0 s left",
        "1/4 rounds over, 5 of 10 values of the next, about 50 s left",
    ]
    assert said[-1][1] == 1.5


def test_measures_of_a_round_are_its_own(tiny_scenario, tmp_path):
    seen = []
    run(tiny_scenario({"scheme.evaluate_every": 2}), tmp_path / "run", watch=seen.append)
    assert [(one.round, "eval_loss" in one.measured) for one in seen] == [(0, True), (1, False), (2, True)]
    assert [one.round for one in seen if "train_loss" in one.measured] == [1, 2]


def test_a_scheduler_without_workers_is_told_of(caplog, monkeypatch):
    monkeypatch.setattr(dask.Dask, "_connect", lambda self, within_s: None)
    engine = dask.Dask("tcp://login:8786")

    class Client:
        status = "running"

        def scheduler_info(self, n_workers):
            return {"workers": {}}

    engine._client = Client()
    assert engine.num_workers == 0
    with caplog.at_level(logging.WARNING, logger="cosim"):
        for _ in range(3):
            engine._remind()
    (line,) = caplog.messages
    assert "tcp://login:8786 has no workers; the study waits" in line


@pytest.mark.parametrize(
    ("share", "words"), [(0.25, "25.0% below"), (-2.663, "266.3% above"), (0, "the same")]
)
def test_a_method_is_below_or_above_another_without_a_sign(share, words):
    assert import_module("analysis.fedsllm.__main__")._beside(share) == words


LONG = "x" * 10_000


@pytest.mark.parametrize(
    "change",
    [
        f"scheme.kind={LONG}",
        f"radio.noise_figure_db={LONG}",
        f"{LONG}=1",
        f"radio.{LONG}.y=1",
        f"seed.{LONG}=1",
        f"seed={LONG}.5",
        f"clients.clock_hz={LONG}",
        f"lora.target_modules=['{LONG}']",
        f"radio.main_uplink.subchannel_bandwidths_hz={['y'] * 3000}",
        f"scheme=[{', '.join(['1'] * 5000)}]",
        f"data.source.domain={LONG}",
        LONG,
    ],
)
def test_long_values_are_not_repeated_in_full(place, change, capsys):
    assert answer(["check", str(place / "tiny.toml"), "--set", change]) == 2
    said = capsys.readouterr().err
    assert max(map(len, said.splitlines())) < 1200


def test_a_table_that_was_given_says_what_it_keeps(place, capsys):
    """A table sets what is in it; what it keeps from before is listed, also under the kind that was there."""
    given = "data.source={kind='embedded', num_test=9}"
    assert answer(["check", str(place / "tiny.toml"), "--set", given]) == 0
    assert "  changed    data.source: kept num_train = 40\n" in capsys.readouterr().out
    assert answer(["check", str(place / "tiny.toml"), "--set", "data.source.num_test=9"]) == 0
    assert "changed" not in capsys.readouterr().out
