"""A run killed at any instant and resumed ends with the bytes of a run that never was."""

import fcntl
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from forked import server
from writes import play

from cosim.errors import RecordError, ScenarioError
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.rng import stream
from cosim.runs import resume, run
from cosim.scenario.load import to_toml

TABLES = ("spans.parquet", "metrics.parquet", "grants.parquet", "rounds.parquet")
FILES = ("scenario.toml", *TABLES, "adapter/adapter_config.json", "adapter/adapter_model.safetensors")
CHANGES = {
    "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.002},
    "lora.dropout": 0.1,
    "scheme.num_rounds": 3,
}


@pytest.fixture(scope="module")
def scenario(tiny_scenario):
    return tiny_scenario(CHANGES)


@pytest.fixture(scope="module")
def file(scenario, tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "tiny.toml"
    path.write_text(to_toml(scenario), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def unbroken(scenario, tmp_path_factory):
    return Record.open(run(scenario, tmp_path_factory.mktemp("unbroken") / "run"))


def start(*arguments, **options):
    context = server()
    started = context.Event()
    process = context.Process(target=play, args=(*arguments, started), kwargs=options)
    process.start()
    started.wait(60)
    return process


def killed_at(number, file, place, **options):
    """Let a run, or its resumption, die before a write."""
    process = start(file, place, dies_at=number, **options)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, number


def assert_ends_like(unbroken, place, scenario):
    """Resume what a killed process left and hold it against a run that was never killed."""
    store = Store(place / "store")
    if (place / "run").exists():
        if Record.open(place / "run").status != "complete":
            resume(place / "run", store=store)
    else:
        with pytest.raises(RecordError, match="is no run folder: it has no manifest"):
            resume(place / "run", store=store)
        run(scenario, place / "run", store=store)
    record = Record.open(place / "run")
    assert record.status == "complete"
    for name in FILES:
        assert (record.path / name).read_bytes() == (unbroken.path / name).read_bytes(), name
    assert record.manifest["fingerprints"] == unbroken.manifest["fingerprints"]
    assert record.manifest.keys() == unbroken.manifest.keys()
    assert names_in(record.path) == names_in(unbroken.path)
    whole, damaged = store.verify()
    assert damaged == []
    assert whole >= 5  # four settled rounds and the adapter


def names_in(folder):
    """Return what is in a folder; a run killed at its very end may leave a lock nobody holds."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock")


@pytest.fixture(scope="module")
def snapshots(file, tmp_path_factory):
    """Return what is on disk before each write of a run, in their order."""
    place, folder = (tmp_path_factory.mktemp(name) for name in ("played", "snapshots"))
    process = start(file, place, snapshots=folder)
    process.join(120)
    assert process.exitcode == 0
    return [folder / str(number) for number in range(1, 1 + len(list(folder.iterdir())))]


def test_a_run_killed_before_any_of_its_writes_and_resumed_has_the_same_bytes(
    scenario, unbroken, snapshots, tmp_path
):
    """Store, manifest, tables and adapter: every place where a file is opened, renamed or made, in turn."""
    assert len(snapshots) > 20
    for snapshot in snapshots[::2]:
        place = Path(shutil.copytree(snapshot, tmp_path / snapshot.name))
        assert_ends_like(unbroken, place, scenario)


def test_a_killed_process_leaves_what_was_on_disk_before_its_write(
    file, scenario, unbroken, snapshots, tmp_path
):
    """What the test above rests on; names of files that are being written are drawn."""
    for number in (3, len(snapshots) // 2, len(snapshots) - 2):
        place = tmp_path / str(number)
        place.mkdir()
        killed_at(number, file, place)
        assert sizes_in(place) == sizes_in(snapshots[number - 1])
        assert_ends_like(unbroken, place, scenario)


def sizes_in(place):
    """Return folder and size of all files but manifests, in which times are."""
    files = [path for path in place.rglob("*") if path.is_file() and "manifest" not in path.name]
    return sorted((str(path.parent.relative_to(place)), path.stat().st_size) for path in files)


def kill_at_random_instants(file, scenario, unbroken, tmp_path, instants):
    """Kill at given shares of the time an unbroken run takes; returns how many were caught at work."""
    whole = start(file, tmp_path)
    begin = time.monotonic()
    whole.join(120)
    length_s = time.monotonic() - begin
    num_killed = 0
    for number, share in enumerate(instants):
        place = tmp_path / str(number)
        place.mkdir()
        process = start(file, place)
        process.join(share * length_s)
        process.kill()
        process.join(60)
        num_killed += process.exitcode == -signal.SIGKILL
        assert_ends_like(unbroken, place, scenario)
    return num_killed


def test_a_run_killed_at_a_few_random_instants_and_resumed_has_the_same_bytes(
    file, scenario, unbroken, tmp_path
):
    instants = stream(0, "a few instants").generator().uniform(0.0, 0.9, 4)
    assert kill_at_random_instants(file, scenario, unbroken, tmp_path, instants) > 0


@pytest.mark.slow
def test_a_run_killed_at_50_random_instants_and_resumed_has_the_same_bytes(
    file, scenario, unbroken, tmp_path
):
    instants = stream(0, "many instants").generator().uniform(0.0, 1.0, 50)
    num_killed = kill_at_random_instants(file, scenario, unbroken, tmp_path, instants)
    print(f"{num_killed} of 50 were killed at work")
    assert num_killed >= 25


def test_a_resumed_run_can_be_killed_and_resumed_again(file, scenario, unbroken, tmp_path):
    for number, is_resume in ((16, False), (6, True), (9, True)):
        killed_at(number, file, tmp_path, is_resume=is_resume)
        assert Record.open(tmp_path / "run").status == "running"
    assert_ends_like(unbroken, tmp_path, scenario)


def test_a_resumed_run_computes_only_what_was_not_kept(scenario, unbroken, tmp_path):
    store = Store(tmp_path / "store")

    def stop(progress):
        if progress.round == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(scenario, tmp_path / "run", store=store, watch=stop)
    assert Record.open(tmp_path / "run").status == "failed"
    resume(tmp_path / "run", store=store)
    works = Record.open(tmp_path / "run").manifest["works"]
    all_works = unbroken.manifest["works"]["computed"]
    assert works["computed"] + works["recalled"] == all_works
    assert 0 < works["computed"] < 0.5 * all_works
    assert_ends_like(unbroken, tmp_path, scenario)


def test_without_a_store_a_stopped_run_is_computed_again_to_the_same_bytes(scenario, unbroken, tmp_path):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(scenario, tmp_path / "run", watch=stop)
    resume(tmp_path / "run")
    for name in FILES:
        assert (tmp_path / "run" / name).read_bytes() == (unbroken.path / name).read_bytes(), name


def test_a_run_of_timing_alone_is_resumed_as_one(scenario, unbroken, tmp_path):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(scenario, tmp_path / "run", timing_only=True, watch=stop)
    resume(tmp_path / "run")
    assert (tmp_path / "run/spans.parquet").read_bytes() == (unbroken.path / "spans.parquet").read_bytes()
    assert not (tmp_path / "run/adapter").exists()
    assert Record.open(tmp_path / "run").manifest["works"] == {"computed": 0, "recalled": 0}


# What cannot be resumed


def test_a_complete_run_is_not_resumed_and_stays_as_it_is(scenario, tmp_path):
    folder = run(scenario, tmp_path / "run", timing_only=True)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RecordError, match="is complete; there is nothing to resume"):
        resume(folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def hold_up(process):
    """Stop a process until it is told to go on, and give it the time to have stopped."""
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(0.01)


def is_held(path):
    """Return whether a process, itself held up so long, has a lock on a file."""
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_run_that_is_still_going_on_is_not_resumed(file, scenario, unbroken, tmp_path):
    process = start(file, tmp_path)
    hold_up(process)
    while not is_held(tmp_path / "run" / ".lock"):
        assert process.is_alive()
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.001)
        hold_up(process)
    try:
        with pytest.raises(RecordError, match="is still going on in another process"):
            resume(tmp_path / "run")
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.join(120)
    assert process.exitcode == 0
    assert_ends_like(unbroken, tmp_path, scenario)


@pytest.fixture
def stopped(scenario, tmp_path):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(scenario, tmp_path / "run", timing_only=True, watch=stop)
    return tmp_path / "run"


def test_a_run_whose_scenario_was_edited_by_hand_is_not_resumed(stopped):
    text = (stopped / "scenario.toml").read_text()
    (stopped / "scenario.toml").write_text(text.replace("seed = 3", "seed = 4", 1))
    before = (stopped / "manifest.json").read_bytes()
    with pytest.raises(
        RecordError, match=r"scenario\.toml.* is not the one the run began with; .* cosim run"
    ):
        resume(stopped)
    assert (stopped / "manifest.json").read_bytes() == before


def test_a_run_whose_data_were_changed_is_not_resumed(tmp_path, tiny_scenario):
    texts = tmp_path / "texts.csv"
    texts.write_text("text\n" + "\n".join(f"the number is {one}" for one in range(40)), encoding="utf-8")
    source = {"kind": "file", "train_path": str(texts), "test_fraction": 0.2, "target_column": "text"}

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_scenario({"data.source": source}), tmp_path / "run", timing_only=True, watch=stop)
    texts.write_text(texts.read_text(encoding="utf-8").replace("number", "answer"), encoding="utf-8")
    with pytest.raises(RecordError, match=rf": {texts} is not the one the run began"):
        resume(tmp_path / "run")


def test_a_remark_in_the_scenario_is_no_change(stopped, unbroken):
    text = (stopped / "scenario.toml").read_text()
    (stopped / "scenario.toml").write_text(f"# mine\n{text}")
    assert Record.open(resume(stopped)).status == "complete"


@pytest.mark.parametrize(
    "damage", ["seed = ", "no_such_setting = 1", None], ids=["no TOML", "unknown", "gone"]
)
def test_a_run_whose_scenario_cannot_be_read_is_not_resumed(damage, stopped):
    path = stopped / "scenario.toml"
    if damage is None:
        path.unlink()
    else:
        path.write_text(f"{damage}\n{path.read_text()}")
    with pytest.raises(ScenarioError, match=r"scenario\.toml: "):
        resume(stopped)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}'])
def test_a_folder_whose_manifest_makes_no_sense_is_not_resumed(content, stopped):
    (stopped / "manifest.json").write_text(content)
    with pytest.raises(RecordError):
        resume(stopped)


def test_a_run_folder_on_a_full_disk_is_told_and_resumed_when_there_is_space(
    scenario, unbroken, tmp_path, monkeypatch
):
    replace = os.replace

    def full(source, target):
        if Path(target).name == "metrics.parquet":
            raise OSError(28, os.strerror(28))
        return replace(source, target)

    store = Store(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(RecordError, match=r"cannot be written: No space left on device; .* cosim resume"):
            run(scenario, tmp_path / "run", store=store)
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "failed"
    assert_ends_like(unbroken, tmp_path, scenario)
    assert Record.open(tmp_path / "run").manifest["works"]["computed"] == 0
