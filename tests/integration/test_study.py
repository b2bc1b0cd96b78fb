"""Studies: made once, whoever dies meanwhile, with the same results whatever the number of workers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import Program, Workers, cosim
from here import Here

from cosim.cli import answer
from cosim.errors import RecordError
from cosim.graph.store import Store
from cosim.record.digests import sealed
from cosim.record.folder import Record
from cosim.rng import stream
from cosim.runs import run
from cosim.scenario.load import load, to_toml
from cosim.studies.engines.processes import threads_each
from cosim.studies.load import load_study
from cosim.studies.measures.metric import LEARNED
from cosim.studies.plan import make_plan, run_folder
from cosim.studies.results import Results
from cosim.studies.run_study import run_study

NOISE = "radio.noise_figure_db"
TABLES = ("results.parquet", "curves.parquet", "summary.csv")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tiny_scenario, tmp_path_factory):
    """Return a folder with the tiny scenario and studies of it."""
    folder = tmp_path_factory.mktemp("studies")
    (folder / "tiny.toml").write_text(to_toml(tiny_scenario()), encoding="utf-8")
    write(
        folder / "channel.toml",
        "timing_only = true",
        "replications = 2",
        'measures = ["total_s", "energy_j", "bits", "gap_to_bound"]',
        'baseline = { "allocator.kind" = "equal" }',
        "[vary.grid]",
        f'"{NOISE}" = [3.0, 9.0, 15.0]',
        '"allocator.kind" = ["equal", "time_shared"]',
    )
    write(
        folder / "trained.toml",
        "replications = 2",
        'measures = ["total_s", { kind = "loss_at", time_s = 1e6 }, { kind = "time_to_loss", level = 1e-3 }]',
        "[vary.grid]",
        f'"{NOISE}" = [3.0, 9.0, 15.0]',
    )
    return folder


def write(path, *lines):
    path.write_text("\n".join(['base = "tiny.toml"', *lines, ""]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def unbroken(place, tmp_path_factory):
    """Return the channel study, made in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cosim.studies.run_study.Processes", Here)
        out = tmp_path_factory.mktemp("unbroken") / "out"
        return run_study(load_study(place / "channel.toml"), out, workers=1)


def assert_same(results, others):
    for name in TABLES:
        assert (results.path / name).read_bytes() == (others.path / name).read_bytes(), name


def start(file, out, *options):
    return Program(cosim, ["study", file, "--out", out, *options], Path(f"{out} printed"))


def children(pid):
    """Return the processes a process has started that still live."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(one) for one in found.stdout.split()]


# Results


def test_results_have_a_row_for_each_case_replication_and_measure(unbroken):
    table = unbroken.table
    assert table.column_names == ["case", "replication", "seed", "measure", "value", NOISE, "allocator.kind"]
    assert table.num_rows == 6 * 2 * 4
    rows = table.slice(0, 5).to_pylist()
    assert [row["measure"] for row in rows] == ["total_s", "energy_j", "bits", "gap_to_bound", "total_s"]
    assert [row["seed"] for row in rows] == [3, 3, 3, 3, 4]
    assert rows[0][NOISE] == 3.0
    assert rows[0]["allocator.kind"] == "equal"


def test_a_value_is_that_of_the_run_in_its_folder(unbroken, place):
    plan = make_plan(load_study(place / "channel.toml"))
    case = plan.cases[3]
    record = Record.open(run_folder(unbroken.path, case, 1))
    values = {
        row["measure"]: row["value"]
        for row in unbroken.table.to_pylist()
        if (row["case"], row["replication"]) == (case.name, 1)
    }
    assert values["total_s"] == record.manifest["simulated_s"]
    assert values["bits"] == sum(record.spans["bits"].to_pylist())
    assert values["energy_j"] == pytest.approx(sum(record.spans["energy_j"].to_pylist()), rel=1e-12)


def test_a_run_of_a_study_is_the_run_of_its_scenario(unbroken, place, tmp_path):
    plan = make_plan(load_study(place / "channel.toml"))
    folder = run_folder(unbroken.path, plan.cases[1], 1)
    again = run(load(folder / "scenario.toml"), tmp_path / "run", timing_only=True)
    for name in ("spans.parquet", "metrics.parquet", "grants.parquet"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()


def test_every_case_meets_the_same_air_devices_and_data(unbroken, place):
    plan = make_plan(load_study(place / "channel.toml"))
    shared = []
    for case in plan.cases[::2]:  # one allocator, three noise figures
        spans = Record.open(run_folder(unbroken.path, case, 0)).spans.to_pylist()
        shared.append([(one["name"], one["bits"], one["flop"], one["actor"]) for one in spans])
    assert sorted(shared[0]) == sorted(shared[1]) == sorted(shared[2])


def test_two_workers_give_the_bytes_of_one(unbroken, place, tmp_path):
    assert_same(run_study(load_study(place / "channel.toml"), tmp_path / "out", workers=2), unbroken)


def test_a_study_in_a_notebook_is_three_lines_and_a_data_frame(unbroken):
    frame = Results.open(unbroken.path).frame()
    assert list(frame.columns[:5]) == ["case", "replication", "seed", "measure", "value"]
    assert "6 cases of 2 replications" in unbroken._repr_html_()


# Once


def test_what_is_complete_is_not_run_again(unbroken, place):
    before = {path: path.stat().st_mtime_ns for path in unbroken.path.glob("runs/*/*/spans.parquet")}
    tallies = []
    again = run_study(load_study(place / "channel.toml"), unbroken.path, watch=tallies.append)
    assert len(tallies) == 1  # nobody was started
    assert tallies[0].num_kept == 12
    assert {path: path.stat().st_mtime_ns for path in unbroken.path.glob("runs/*/*/spans.parquet")} == before
    assert again.manifest["runs"] == {"kept": 12, "made": 0}


@pytest.mark.usefixtures("here")
def test_a_study_given_more_cases_makes_only_those(unbroken, place, tmp_path):
    shutil.copytree(unbroken.path, tmp_path / "out")
    text = (place / "channel.toml").read_text(encoding="utf-8")
    more = place / "more.toml"
    more.write_text('name = "channel"\n' + text.replace("15.0]", "15.0, 12.0]"), encoding="utf-8")
    results = run_study(load_study(more), tmp_path / "out", workers=1)
    assert results.manifest["runs"] == {"kept": 12, "made": 4}


def test_cases_that_differ_in_the_channel_train_once(place, tmp_path, monkeypatch):
    monkeypatch.setattr("cosim.studies.run_study.Processes", Workers)
    (single,) = {
        Record.open(run(load(place / "tiny.toml"), tmp_path / "single")).manifest["works"]["computed"]
    }
    tallies = []
    results = run_study(
        load_study(place / "trained.toml"),
        tmp_path / "out",
        workers=2,
        store=tmp_path / "store",
        watch=tallies.append,
    )
    assert tallies[-1].num_computed == 2 * single  # one training for each of two seeds
    computed = [one.latest.num_computed for one in tallies if one.latest is not None]
    assert sorted(computed) == [0, 0, 0, 0, single, single]
    losses = [row["value"] for row in results.table.to_pylist() if row["measure"] == "loss_at 1e+06 s"]
    assert losses[0] == losses[2] == losses[4] != losses[1] == losses[3] == losses[5]
    assert results.curves.num_rows == 6 * 3
    assert all(value != value for value in results.frame().query("measure == 'time_to_loss 0.001'").value)


@pytest.mark.slow
def test_processes_that_know_nothing_of_each_other_train_once_between_them(place, tmp_path):
    program = (
        "import sys; from pathlib import Path; from cosim.runs import run\n"
        "from cosim.graph.store import Store\n"
        "from cosim.scenario.load import load, change\n"
        "run(change(load(sys.argv[1]), {'radio.noise_figure_db': float(sys.argv[2])}),"
        " Path(sys.argv[3]), store=Store(Path(sys.argv[4])))"
    )
    folders = [tmp_path / str(number) for number in range(3)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, place / "tiny.toml", str(number), folder, tmp_path / "store"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for number, folder in enumerate(folders)
    ]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    works = [Record.open(folder).manifest["works"] for folder in folders]
    assert sum(one["computed"] for one in works) == works[0]["computed"] + works[0]["recalled"]
    assert not list((tmp_path / "store").rglob("*.lock"))
    assert Store(tmp_path / "store").verify()[1] == []


@pytest.mark.usefixtures("here")
def test_replications_are_added_until_intervals_are_narrow(place, tmp_path):
    file = write(
        place / "until.toml",
        "timing_only = true",
        "replications = 2",
        'until = "half-width <= 25 %"',
        "max_replications = 5",
        "[vary.grid]",
        f'"{NOISE}" = [3.0, 9.0]',
    )
    results = run_study(load_study(file), tmp_path / "out", workers=1)
    manifest = results.manifest
    assert 2 < manifest["replications"] <= 5
    assert manifest["seeds"] == [3 + number for number in range(manifest["replications"])]
    rows = (results.path / "summary.csv").read_text(encoding="utf-8").splitlines()
    widths = [
        float(dict(zip(rows[0].split(","), row.split(","), strict=True))["relative_half_width"])
        for row in rows[1:]
    ]
    assert manifest["tight"] == (max(widths) <= 0.25)


@pytest.mark.usefixtures("here")
def test_a_measure_no_run_has_is_told_with_the_first_run(place, tmp_path, capsys):
    file = write(place / "misspelt.toml", "timing_only = true", 'measures = ["total_s", "gap_to_bund"]')
    assert answer(["study", str(file), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    told = capsys.readouterr().err.splitlines()
    first = told.index("warning: measures: the first run has no metric 'gap_to_bund'.")
    assert first < told.index(next(line for line in told if line.startswith("runs 3/3")))


def test_the_metrics_of_a_run_that_learns_nothing_are_those_that_hang_on_no_learned_value(
    tiny_scenario, tmp_path
):
    federated = {"kind": "federated", "num_rounds": 2, "local_steps": 1, "adapter_codec": {"kind": "soft"}}
    for number, changes in enumerate(({}, {"scheme": federated})):
        recorded = []
        for timing_only in (False, True):
            folder = tmp_path / f"{number}-{timing_only}"
            run(tiny_scenario(changes), folder, timing_only=timing_only)
            recorded.append(set(Record.open(folder).columns("metrics", ("name",))["name"].to_pylist()))
        whole, timed = recorded
        assert whole - timed == whole & LEARNED
        assert timed <= whole - LEARNED


# Faults of runs


@pytest.fixture
def partly_bad(place):
    return write(
        place / "partly.toml",
        "timing_only = true",
        "replications = 2",
        "[vary.grid]",
        '"model.cut_layer" = [1, 9]',
    )


@pytest.mark.usefixtures("here")
def test_a_case_that_fails_is_kept_apart_and_stops_nobody(partly_bad, tmp_path, capsys):
    assert answer(["study", str(partly_bad), "--out", str(tmp_path / "out"), "--workers", "1"]) == 1
    told = capsys.readouterr().err
    assert "cut_layer=9, replication 0: model.cut_layer: 9 leaves nothing for the main server" in told
    assert "2 run(s) failed and are not in the results; the same command tries them again." in told
    results = Results.open(tmp_path / "out")
    assert {row["case"] for row in results.table.to_pylist()} == {"cut_layer=1"}
    assert [(one["case"], one["replication"]) for one in results.manifest["failed"]] == [
        ("cut_layer=9", 0),
        ("cut_layer=9", 1),
    ]


def test_threads_are_divided_among_workers(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("cosim.studies.engines.processes.cores", lambda: 8)
    assert [threads_each(num_workers) for num_workers in (1, 3, 8, 20)] == [8, 2, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads_each(1) == 2


# Deaths


def kill_when(process, out, num_runs):
    """Kill a study at its so-many-th complete run."""
    until = time.monotonic() + 60.0
    while process.poll() is None and time.monotonic() < until:
        if len(list(out.glob("runs/*/*/spans.parquet"))) >= num_runs:
            break
        time.sleep(0.005)
    process.kill()
    process.communicate()


@pytest.mark.usefixtures("here")
def test_a_study_that_is_killed_goes_on_to_the_bytes_of_an_unbroken_one(unbroken, place, tmp_path):
    out = tmp_path / "out"
    for num_runs in stream(0, "killed studies").generator().integers(1, 10, 2):
        process = start(place / "channel.toml", out, "--workers", "2")
        kill_when(process, out, num_runs)
    assert_same(run_study(load_study(place / "channel.toml"), out, workers=2), unbroken)


@pytest.mark.slow
def test_a_study_killed_while_it_trains_goes_on_to_the_bytes_of_an_unbroken_one(place, tmp_path):
    whole = run_study(load_study(place / "trained.toml"), tmp_path / "whole", workers=1, keep_values=False)
    out, chance = tmp_path / "out", stream(0, "killed trainings").generator()
    for _ in range(4):
        process = start(place / "trained.toml", out, "--workers", "2", "--store", str(tmp_path / "store"))
        time.sleep(float(chance.uniform(3.0, 12.0)))
        process.kill()
        process.communicate()
    study = load_study(place / "trained.toml")
    assert_same(run_study(study, out, workers=2, store=tmp_path / "store"), whole)


@pytest.mark.slow
def test_any_number_of_workers_some_of_them_killed_while_they_train_gives_the_same_bytes(place, tmp_path):
    study = load_study(place / "trained.toml")
    whole = run_study(study, tmp_path / "whole", workers=1, keep_values=False)
    chance, num_killed = stream(0, "killed trainers").generator(), 0
    for workers in (1, 2, 3, 5):
        out, store = tmp_path / str(workers), tmp_path / f"store-{workers}"
        process = start(place / "trained.toml", out, "--workers", str(workers), "--store", str(store))
        for _ in range(2):  # a run that three workers died of is given up
            time.sleep(float(chance.uniform(1.0, 6.0)))
            if process.poll() is None and (victims := children(process.pid)):
                os.kill(victims[int(chance.integers(len(victims)))], signal.SIGKILL)
                num_killed += 1
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told
        assert_same(Results.open(out), whole)
        assert Store(store).verify()[1] == []
    assert num_killed >= 4


@pytest.mark.slow
def test_a_study_killed_at_many_random_instants_goes_on_to_the_bytes_of_an_unbroken_one(
    unbroken, place, tmp_path
):
    """The study and its workers, in turns, until it is through."""
    out, chance, num_killed = tmp_path / "out", stream(0, "many kills").generator(), 0
    for number in range(20):
        if out.exists():
            for file in sorted(out.glob("runs/*/*/spans.parquet"))[:: 1 + number % 3]:
                shutil.rmtree(file.parent)  # or it would soon be through
        process = start(place / "channel.toml", out, "--workers", str(1 + number % 3))
        time.sleep(float(chance.uniform(0.3, 4.0)))
        victims = [process.pid] if number % 2 else children(process.pid)[:1]
        for one in victims if process.poll() is None else ():
            os.kill(one, signal.SIGKILL)
            num_killed += 1
        process.communicate(timeout=120)
    assert num_killed > 5
    assert_same(run_study(load_study(place / "channel.toml"), out, workers=2), unbroken)


def test_workers_of_a_killed_study_end_at_once(place, tmp_path):
    process = start(place / "channel.toml", tmp_path / "out", "--workers", "2")
    while len(workers := children(process.pid)) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    until = time.monotonic() + 60.0
    while any(Path(f"/proc/{one}").exists() for one in workers):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_worker_that_is_killed_is_replaced_and_its_run_made_again(unbroken, place, tmp_path):
    out = tmp_path / "out"
    process = start(place / "channel.toml", out, "--workers", "2")
    killed = 0
    chance = stream(0, "killed workers").generator()
    for num_runs in (1, 4):
        while process.poll() is None and len(list(out.glob("runs/*/*/spans.parquet"))) < num_runs:
            time.sleep(0.005)
        if workers := children(process.pid):
            os.kill(workers[int(chance.integers(len(workers)))], signal.SIGKILL)
            killed += 1
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert killed
    assert_same(Results.open(tmp_path / "out"), unbroken)


@pytest.mark.usefixtures("here")
def test_ctrl_c_leaves_a_study_that_goes_on(unbroken, place, tmp_path):
    process = start(place / "channel.toml", tmp_path / "out", "--workers", "1")
    while not list((tmp_path / "out").glob("runs/*/*/spans.parquet")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted; what was recorded is in" in told
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["status"] == "stopped"
    assert_same(run_study(load_study(place / "channel.toml"), tmp_path / "out", workers=1), unbroken)


# The folder, and the command line


@pytest.fixture
def made(unbroken, tmp_path):
    """Return a copy of the unbroken study, to be spoilt."""
    return Path(shutil.copytree(unbroken.path, tmp_path / "made"))


def spoil(folder, **entries):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_bytes(sealed({**manifest, **entries}))


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"versions": {"cosim": "0.0.1"}}, "was made by cosim 0.0.1, and this is .*name another folder"),
        ({"format": 99}, "is a study folder of format 99, this version of cosim reads 1"),
        ({"name": "other"}, "holds the study 'other', not 'channel'"),
    ],
)
def test_a_folder_of_something_else_is_left_as_it_is(place, made, entries, told):
    spoil(made, **entries)
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    with pytest.raises(RecordError, match=told):
        run_study(load_study(place / "channel.toml"), made)
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before


def test_a_folder_that_is_no_study_is_left_as_it_is(place, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RecordError, match="is there already and is no study"):
        run_study(load_study(place / "channel.toml"), tmp_path)


def test_a_study_that_goes_on_elsewhere_is_not_made_twice(place, made):
    import fcntl

    with (made / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RecordError, match="still going on in another process"):
            run_study(load_study(place / "channel.toml"), made)


def test_check_says_what_a_study_would_do(place, capsys):
    assert answer(["check", str(place / "channel.toml")]) == 0
    told = capsys.readouterr().out
    assert "channel: fine, 6 case(s), 12 runs, seeds 3 to 4" in told
    assert "allocator.kind: equal, time_shared" in told


def test_the_measures_and_the_schema_of_studies_are_listed(capsys):
    assert answer(["parts", "measures"]) == 0
    assert "time_to_loss" in capsys.readouterr().out
    assert answer(["schema", "--study"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["title"] == "cosim study"
    assert schema["required"] == ["base"]
    assert {"type": "string"} in schema["properties"]["measures"]["items"]["anyOf"]


def test_a_dry_run_says_how_long_it_takes_and_leaves_nothing(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert answer(["study", str(place / "trained.toml"), "--dry-run", "--workers", "2"]) == 0
    told = capsys.readouterr().out
    assert "training   2 training(s) of" in told
    assert "with 2 worker(s), by a pilot of" in told
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_tells_cases_apart_and_what_the_most_replications_take(place, capsys):
    file = write(
        place / "named.toml",
        "timing_only = true",
        "replications = 2",
        'until = "half-width <= 1 %"',
        "max_replications = 12",
        '[[vary.cases]]\nname = "calm"\nset = { events = [] }',
        '[[vary.cases]]\nname = "noisy"',
        'set = { events = [{ at_s = 1.0, set = { "radio.noise_figure_db" = 9.0 } }] }',
        "[vary.latin_hypercube]\nsamples = 3",
        '[vary.latin_hypercube.ranges]\n"radio.antenna_gain_db" = { low = 0.0, high = 10.0 }',
    )
    assert answer(["study", str(file), "--dry-run", "--workers", "2"]) == 0
    told = capsys.readouterr().out
    assert "events: calm, noisy\n" in told
    assert "radio.antenna_gain_db: 0 to 10; Latin hypercube of 3 samples\n" in told
    assert "for 12 replications, by a pilot of" in told


@pytest.mark.usefixtures("here")
def test_a_study_over_ranges_says_what_matters(place, tmp_path, capsys):
    file = write(
        place / "drawn.toml",
        "timing_only = true",
        "replications = 1",
        "[vary.sobol]\nsamples = 4",
        '[vary.sobol.ranges]\n"radio.antenna_gain_db" = { low = 0.0, high = 10.0 }',
        '"radio.main_uplink.bandwidth_hz" = { low = 1e6, high = 1e7, scale = "log" }',
    )
    assert answer(["study", str(file), "--out", str(tmp_path / "out"), "--workers", "2"]) == 0
    told = capsys.readouterr().out
    assert "main uplink bandwidth makes" in told
    assert "least" in told
    assert "pick and freeze over 4 points" in told


@pytest.mark.usefixtures("here")
def test_named_cases_are_told_by_their_names(place, tmp_path, capsys):
    file = write(
        place / "blocked.toml",
        "timing_only = true",
        "replications = 2",
        '[[vary.cases]]\nname = "calm"\nset = { events = [] }',
        '[[vary.cases]]\nname = "noisy"',
        'set = { events = [{ at_s = 0.01, set = { "radio.noise_figure_db" = 9.0 } }] }',
    )
    assert answer(["study", str(file), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert rows[1] == "events"
    assert {"calm", "noisy"} <= set(rows)


@pytest.mark.parametrize("verb", ["check", "study"])
def test_a_study_file_at_fault_starts_nothing(place, tmp_path, verb, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(place / "bad.toml", "[vary.grid]", '"radio.noise_figur_db" = [1.0, 2.0]')
    assert answer([verb, str(file)]) == 2
    told = capsys.readouterr().err
    assert told == "bad: vary: radio.noise_figur_db: no such setting; did you mean 'noise_figure_db'?\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tiny.toml"], "is no study: it names no base and varies nothing; a scenario is run by cosim run"),
        (["none.toml"], "none.toml: there is no such file."),
        (["channel.toml", "--scheduler", "tcp://127.0.0.1:9", "--workers", "2"], "leave one of them out."),
    ],
)
def test_a_command_line_that_makes_no_sense_is_told_in_a_line(place, tmp_path, arguments, told, capsys):
    file, *options = arguments
    assert answer(["study", str(place / file), "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_store_that_is_none_is_told_before_anything_is_begun(place, tmp_path, capsys):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "format").write_text("99")
    arguments = ["study", str(place / "trained.toml"), "--out", str(tmp_path / "out")]
    assert answer([*arguments, "--store", str(tmp_path / "store")]) == 2
    told = "is a store of format 99, this version of cosim has 1; name another with --store."
    assert capsys.readouterr().err == f"{tmp_path}/store: {told}\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("here")
def test_a_store_that_cannot_be_written_is_a_warning_and_every_run_trains(tiny_scenario, tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text(to_toml(tiny_scenario({"scheme.num_rounds": 1})), encoding="utf-8")
    file = write(tmp_path / "one.toml", "replications = 2")
    arguments = ["study", str(file), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert answer([*arguments, "--store", "/proc/nowhere/store"]) == 0
    told = capsys.readouterr().err
    assert told.count("warning: /proc/nowhere/store: cannot be written") == 1
    assert "runs go on without keeping values" in told
    assert Results.open(tmp_path / "out").table.num_rows == 2


def test_very_many_runs_must_be_meant(place, tmp_path, capsys):
    file = write(
        place / "many.toml",
        "timing_only = true",
        "replications = 1",
        "[vary.grid]",
        f'"{NOISE}" = {{ low = 0, high = 20, points = 1000 }}',
        '"radio.snr_gap_db" = { low = 0, high = 20, points = 1000 }',
    )
    assert answer(["study", str(file), "--out", str(tmp_path / "out")]) == 2
    assert (
        "1 000 000 runs, more than 10 000; give cosim study the option --yes if that is meant."
        in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()
