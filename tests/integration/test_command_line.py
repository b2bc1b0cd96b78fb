"""The commands as a user meets them."""

import gc
import json
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from forked import Program, cosim

from cosim import cli
from cosim.cli import answer
from cosim.record.folder import Record
from cosim.scenario.load import to_toml

SCENARIOS = Path(__file__).parents[2] / "scenarios"


@pytest.fixture(autouse=True)
def _process_as_before(monkeypatch):
    """Undo what quick commands do to the process they live in."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    yield
    gc.enable()


@pytest.fixture
def file(tmp_path, tiny_scenario):
    path = tmp_path / "tiny.toml"
    path.write_text(to_toml(tiny_scenario({"radio.main_downlink.modelled": True})))
    return path


@pytest.fixture
def run_folder(file, tmp_path, capsys):
    folder = tmp_path / "run"
    assert answer(["run", str(file), "--timing-only", "--out", str(folder)]) == 0
    capsys.readouterr()
    return folder


def test_help_and_check_answer_without_the_heavy_libraries(file):
    program = (
        "import sys; from cosim.cli import answer; "
        "statuses = [answer(['--help']), *(answer(['check', one]) for one in sys.argv[1:])]; "
        "heavy = {'torch', 'transformers', 'peft', 'pyarrow', 'matplotlib', 'scipy', 'rich', 'pandas'}; "
        "print(statuses, sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(file), str(SCENARIOS / "quickstart.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0] []"


WITHOUT_TORCH = """
import importlib.metadata as metadata, importlib.machinery as machinery, sys

missing = {"torch", "transformers", "peft"}
find, distributions = machinery.PathFinder.find_spec, metadata.MetadataPathFinder.find_distributions
machinery.PathFinder.find_spec = lambda name, *more: None if name in missing else find(name, *more)
metadata.MetadataPathFinder.find_distributions = staticmethod(
    lambda *asked: (one for one in distributions(*asked) if one.name not in missing)
)

from cosim.cli import answer

file, run, study, studied = sys.argv[1:]
statuses = [
    answer(["run", file, "--timing-only", "--out", run, "--set", "model.device=auto"]),
    answer(["timeline", run]),
    answer(["explain", run, "1"]),
    answer(["study", study, "--out", studied, "--workers", "1"]),
    answer(["run", file, "--out", run + "-trained"]),
]
print(statuses)
"""


def test_a_training_without_torch_is_refused_before_there_is_a_folder(monkeypatch, file, tmp_path, capsys):
    monkeypatch.setattr("cosim.learning.execution.find_spec", lambda name: None)
    assert answer(["run", str(file), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.endswith(
        "a training needs torch and transformers and peft: pip install torch transformers peft, "
        "or compute no tensor, by --timing-only.\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_times_need_no_torch(file, tmp_path):
    study, run = tmp_path / "study.toml", tmp_path / "run"
    study.write_text(f'base = "{file}"\ntiming_only = true\nreplicate = "radio.seed"\nengine = "tensor"\n')
    command = [sys.executable, "-c", WITHOUT_TORCH, file, run, study, tmp_path / "studied"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0, 2]"
    assert json.loads((run / "manifest.json").read_text())["versions"]["torch"] == "not installed"


def test_what_is_no_scenario_or_no_run_is_named_for_what_it_is(file, tmp_path, capsys):
    study, folder = tmp_path / "study.toml", tmp_path / "studied"
    study.write_text(f'base = "{file}"\n')
    folder.mkdir()
    (folder / "manifest.json").write_text('{"kind": "study"}')
    for words, told in (
        (["run", study], f"{study}: is a study, no scenario; give cosim study {study}"),
        (["timeline", study], f"{study}: is a file, and no run folder."),
        (["timeline", folder], f"{folder}: is no run folder, but a study; name one of its runs, in"),
    ):
        assert answer(list(map(str, words))) == 2
        assert capsys.readouterr().err.startswith(told)


def test_check_says_what_would_run_and_warns_of_random_weights(file, capsys):
    assert answer(["check", str(file)]) == 0
    out = capsys.readouterr().out
    assert "tiny: fine, seed 3" in out
    assert "3 blocks of width 16" in out
    assert "federated_downlink: free" in out
    assert "RANDOM weights" in out


@pytest.mark.parametrize("scheme", ["split_federated", "centralized"])
@pytest.mark.parametrize("server_batch", ["joint", "per_client"])
def test_check_predicts_how_many_spans_there_will_be(scheme, server_batch, file, tmp_path, capsys):
    changes = ["--set", f"scheme.kind={scheme}", "--set", "scheme.local_steps=3"]
    if scheme == "split_federated":
        changes += ["--set", f"scheme.server_batch={server_batch}"]
    assert answer(["check", str(file), *changes]) == 0
    foretold = capsys.readouterr().out
    assert answer(["run", str(file), *changes, "--timing-only", "--out", str(tmp_path / "run")]) == 0
    num_spans = Record.open(tmp_path / "run").spans.num_rows
    assert f", {num_spans} spans;" in foretold.replace("\u202f", " ")


def test_a_run_tells_its_progress_on_stderr_and_its_results_on_stdout(file, tmp_path, capsys):
    assert answer(["run", str(file), "--out", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    progress = [line for line in err.splitlines() if line.startswith("round ")]
    assert [line.split(":")[0] for line in progress] == ["round 0/2", "round 1/2", "round 2/2"]
    assert "held-out loss" in progress[-1]
    assert "training loss" in progress[-1]
    assert "RANDOM weights" in err
    assert "held-out loss" in out
    assert "slowest: client-" in out
    assert f"run folder: {tmp_path / 'run'}" in out


def test_changes_and_seed_of_the_command_line_are_in_force_and_recorded(file, tmp_path):
    folder = tmp_path / "run"
    options = ["--seed", "9", "--set", "radio.fading.kind=rician", "--set", "radio.fading.k_factor=2"]
    assert answer(["run", str(file), "--timing-only", "--out", str(folder), *options]) == 0
    recorded = tomllib.loads((folder / "scenario.toml").read_text())
    assert recorded["seed"] == 9
    assert recorded["radio"]["fading"]["kind"] == "rician"
    assert recorded["radio"]["fading"]["k_factor"] == 2.0


def test_the_recorded_scenario_runs_again_to_the_same_timeline(run_folder, tmp_path):
    again = tmp_path / "again"
    assert answer(["run", str(run_folder / "scenario.toml"), "--timing-only", "--out", str(again)]) == 0
    assert (again / "spans.parquet").read_bytes() == (run_folder / "spans.parquet").read_bytes()
    assert (again / "scenario.toml").read_bytes() == (run_folder / "scenario.toml").read_bytes()


def test_without_out_the_run_folder_is_named_after_scenario_and_hash(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert answer(["run", str(file), "--timing-only"]) == 0
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    assert f"run folder: {folder.relative_to(tmp_path)}" in capsys.readouterr().out


def test_a_timeline_is_a_summary_and_a_picture(run_folder, tmp_path, capsys):
    picture = tmp_path / "timeline.png"
    assert answer(["timeline", str(run_folder), "--png", str(picture), "--rounds", "1:2"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"timeline: {picture}" in capsys.readouterr().out


def test_a_picture_that_cannot_be_written_is_told(run_folder, tmp_path, capsys):
    assert answer(["timeline", str(run_folder), "--png", str(tmp_path / "no" / "such.png")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_every_span_of_a_run_can_be_explained(run_folder, capsys):
    for number in range(0, Record.open(run_folder).spans.num_rows, 3):
        assert answer(["explain", str(run_folder), str(number)]) == 0
        assert "the same to the nanosecond" in capsys.readouterr().out


def test_parts_lists_every_family_or_the_one_asked_for(capsys):
    assert answer(["parts"]) == 0
    every = capsys.readouterr().out
    for place in ("scheme", "model.base", "data.partition", "radio.fading", "allocator"):
        assert f"\n{place}\n" in f"\n{every}"
    assert answer(["parts", "fading"]) == 0
    one = capsys.readouterr().out
    assert one.startswith("radio.fading\n")
    assert "coherence_time_s: number, s; default left out" in one
    assert "allocator" not in one
    assert answer(["parts", "adapter_codec"]) == 0
    inner = capsys.readouterr().out
    assert inner.startswith("scheme.adapter_codec, ")
    assert "\n  qsgd " in inner
    assert f"\nscheme.aggregator\n  {'chosen_blocks':<18} " in every


def test_the_schema_knows_meaning_and_unit_of_a_setting(capsys):
    assert answer(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert "name" not in schema.get("required", [])
    noise = schema["$defs"]["Radio"]["properties"]["noise_figure_db"]
    assert noise["description"].endswith("Unit: dB.")
    assert schema["$defs"]["Lora"]["properties"]["rank"]["description"] == "Inner size of the two factors."


def test_every_table_in_the_schema_refuses_unknown_keys(capsys):
    assert answer(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    tables = [one for one in schema["$defs"].values() if one.get("type") == "object"]
    assert tables
    assert all(one["additionalProperties"] is False for one in tables)


def test_an_unforeseen_error_is_one_line_that_says_how_to_see_more(monkeypatch, capsys):
    monkeypatch.delenv(cli.TRACEBACK, raising=False)
    monkeypatch.setattr("cosim.scenario.catalogue.json_schema", lambda: {"no json": np.arange(3)})
    assert answer(["schema"]) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "TypeError" in err
    assert f"{cli.TRACEBACK}=1" in err
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(TypeError):
        answer(["schema"])


def test_a_reader_that_has_seen_enough_is_no_fault():
    done = subprocess.run(
        [f"{sys.executable} -c 'from cosim.cli import main; main()' schema | head -1"],
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "{\n"
    assert done.stderr == ""


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_run_that_is_stopped_keeps_what_was_recorded(signal_, file, tmp_path):
    folder = tmp_path / "run"
    arguments = ["run", str(file), "--timing-only", "--out", str(folder), "--set", "scheme.num_rounds=100000"]
    running = Program(cosim, arguments, tmp_path / "printed")
    running.wait_for("round 3/")
    running.send_signal(signal_)
    assert running.wait() == 1
    rest = running.stderr().splitlines()
    assert rest[-1] == f"cosim: interrupted; what was recorded is in {folder}."
    record = Record.open(folder)
    assert record.status == "failed"
    assert record.spans.num_rows > 0
    assert record.grants.num_rows > 0
    assert record.manifest["simulated_s"] > 0.0


def test_results_are_one_json_document_and_quiet_says_nothing(file, run_folder, tmp_path, capsys):
    def told(*arguments):
        assert answer([*map(str, arguments)]) == 0
        return capsys.readouterr()

    def document(*arguments):
        shown = told(*arguments, "--json")
        return json.loads(shown.out)

    changed = ("whatif", run_folder, "--set", "radio.main_uplink.bandwidth_hz=20e6")
    assert document("check", file)["fine"]
    made = document("run", file, "--timing-only", "--out", tmp_path / "other")
    assert made["folder"] == str(tmp_path / "other")
    assert made["summary"]["length_ns"] == document("timeline", run_folder)["summary"]["length_ns"]
    other = document(*changed, "--out", tmp_path / "wider")["others"][0]
    assert other["settings"] == {"radio.main_uplink.bandwidth_hz": [10e6, 20e6]}
    assert document("compare", run_folder, tmp_path / "wider")["others"][0] == other
    assert document("explain", run_folder, 1)["span"]["id"] == 1
    assert [one["kind"] for one in document("parts", "fading")[0]["kinds"]]
    assert document("store", "--store", tmp_path / "store")["bundles"] == 0
    for arguments in (
        ("check", file),
        ("run", file, "--timing-only", "--out", tmp_path / "third"),
        ("timeline", run_folder),
        ("compare", run_folder, tmp_path / "wider"),
        (*changed, "--out", tmp_path / "again"),
    ):
        shown = told(*arguments, "--quiet")
        assert shown.out == ""
        assert all(line.startswith("warning: ") for line in shown.err.splitlines())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_exported_tables_have_a_row_for_each_of_every_run(kind, run_folder, tmp_path, capsys):
    from pyarrow import csv, parquet

    shutil.copytree(run_folder, tmp_path / "other")
    out = tmp_path / "tables"
    folders = [str(run_folder), str(tmp_path / "other")]
    assert answer(["export", *folders, "--out", str(out), "--format", kind]) == 0
    read = {"csv": csv.read_csv, "parquet": parquet.read_table}[kind]
    spans = read(out / f"spans.{kind}")
    record = Record.open(run_folder)
    assert spans.num_rows == 2 * record.spans.num_rows
    assert sorted(set(spans["run"].to_pylist())) == ["tiny (other)", "tiny (run)"]
    seconds = [ns / 1e9 for ns in record.spans["end_ns"].to_pylist()]
    assert spans["end_s"].to_pylist()[: len(seconds)] == pytest.approx(seconds)
    assert {path.stem for path in out.iterdir()} == {"spans", "metrics", "rounds", "grants"}
    assert answer(["export", *folders, "--out", str(out), "--format", kind]) == 2
    assert "exists already" in capsys.readouterr().err
