"""The commands around the store as a user meets them: run, resume, whatif, store."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from forked import Program, cosim

from cosim.cli import answer
from cosim.graph.store import FORMAT, Store
from cosim.record.digests import sealed
from cosim.record.folder import Record
from cosim.scenario.load import to_toml

FILES = (
    "scenario.toml",
    "spans.parquet",
    "metrics.parquet",
    "grants.parquet",
    "adapter/adapter_model.safetensors",
)
WIDER = ("--set", "radio.main_uplink.bandwidth_hz=40e6")


class Shell:
    """Asks cosim things, with a store and a folder of its own."""

    def __init__(self, place, capsys):
        self.place = place
        self._capsys = capsys

    @property
    def store(self):
        return Store(self.place / "store")

    def __call__(self, command, *arguments, store=True):
        """Return the exit status, what was printed, and the lines of faults and warnings."""
        kept = ["--store", str(self.place / "store")] if store else []
        status = answer([command, *map(str, arguments), *kept])
        out, err = self._capsys.readouterr()
        told = [line for line in err.splitlines() if not line.startswith(("round ", "warning: the base"))]
        return status, out, told


@pytest.fixture
def shell(tmp_path, capsys):
    return Shell(tmp_path, capsys)


@pytest.fixture(scope="module")
def played(tmp_path_factory, tiny_scenario):
    """Return a folder with a scenario, a complete run of it, and its store."""
    place = tmp_path_factory.mktemp("played")
    file = place / "tiny.toml"
    file.write_text(to_toml(tiny_scenario({"radio.fading": {"kind": "rician", "k_factor": 3.0}})))
    out, store = str(place / "run"), str(place / "store")
    assert answer(["run", str(file), "--out", out, "--store", store]) == 0
    assert Record.open(place / "run").status == "complete"
    return place


@pytest.fixture
def file(tmp_path, played):
    return Path(shutil.copy(played / "tiny.toml", tmp_path))


@pytest.fixture
def folder(file, played, shell):
    shutil.copytree(played / "store", shell.place / "store")
    return Path(shutil.copytree(played / "run", shell.place / "run"))


def same_bytes(left, right):
    return all((Path(left) / name).read_bytes() == (Path(right) / name).read_bytes() for name in FILES)


# Run


def test_a_second_run_is_recalled(file, folder, shell):
    status, _, told = shell("run", file, "--out", shell.place / "again")
    assert (status, told) == (0, [])
    assert Record.open(shell.place / "again").manifest["works"]["computed"] == 0
    assert same_bytes(folder, shell.place / "again")


def test_no_store_recalls_and_keeps_nothing(file, shell):
    status, _, told = shell("run", file, "--out", shell.place / "run", "--no-store", store=False)
    assert (status, told) == (0, [])
    manifest = Record.open(shell.place / "run").manifest
    assert manifest["works"]["recalled"] == 0
    assert manifest["store_warning"] is None


def test_without_a_name_the_store_of_the_user_is_taken(file, shell, monkeypatch):
    monkeypatch.setenv("COSIM_STORE", str(shell.place / "mine"))
    assert shell("run", file, "--out", shell.place / "run", store=False)[0] == 0
    assert list(Store(shell.place / "mine").bundles())


def test_timing_only_needs_no_store_not_even_a_sound_one(file, shell):
    (shell.place / "store").write_text("a file")
    out = shell.place / "run"
    assert shell("run", file, "--timing-only", "--out", out)[0] == 0
    assert shell("whatif", out, *WIDER, "--out", shell.place / "wider")[0] == 0
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_bytes(sealed(manifest | {"status": "running"}))
    assert shell("resume", out)[0] == 0


def test_a_store_that_cannot_be_used_is_one_line_and_nothing_is_made(file, shell):
    (shell.place / "store").mkdir()
    (shell.place / "store" / "format").write_text(f"{FORMAT + 1}\n")
    status, out, told = shell("run", file, "--out", shell.place / "run")
    assert status == 2
    assert out == ""
    assert len(told) == 1
    assert f"is a store of format {FORMAT + 1}" in told[0]
    assert not (shell.place / "run").exists()


def test_a_store_that_cannot_be_written_is_a_warning(file, shell):
    """A file stands where the bundles would go."""
    assert shell("run", file, "--out", shell.place / "first")[0] == 0
    (namespace,) = {bundle.path.parent for bundle in shell.store.bundles()}
    assert shell.store.prune(max_bytes=0)[0] > 0
    namespace.rmdir()
    namespace.write_text("in the way")
    status, _, told = shell("run", file, "--out", shell.place / "run")
    assert status == 0
    assert told == [
        f"warning: {shell.place / 'store'}: cannot be written (File exists); "
        "the run goes on without keeping values."
    ]
    assert same_bytes(shell.place / "first", shell.place / "run")


# Resume


def test_a_killed_run_is_resumed_to_the_bytes_of_another(file, shell):
    killed, changes = shell.place / "killed", ["--set", "scheme.num_rounds=12"]
    arguments = ["run", file, *changes, "--out", killed, "--store", shell.place / "store"]
    running = Program(cosim, arguments, shell.place / "printed")
    running.wait_for("round 2/")
    running.kill()
    running.wait()
    assert Record.open(killed).status == "running"
    status, out, told = shell("resume", killed)
    assert (status, told) == (0, [])
    assert out.rstrip().endswith(f"run folder: {killed}")
    assert Record.open(killed).status == "complete"
    assert Record.open(killed).manifest["works"]["recalled"] > 0
    assert shell("run", file, *changes, "--out", shell.place / "whole", "--no-store", store=False)[0] == 0
    assert same_bytes(killed, shell.place / "whole")


@pytest.fixture
def stopped(file, shell):
    """A run that never came to its end."""
    folder = shell.place / "stopped"
    assert shell("run", file, "--timing-only", "--out", folder)[0] == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_bytes(sealed(manifest | {"status": "running"}))
    return folder


def test_a_resumed_run_that_is_stopped_says_where_its_record_is(file, shell):
    arguments = ["--timing-only", "--out", str(shell.place / "run"), "--set", "scheme.num_rounds=100000"]
    for command in (["run", str(file), *arguments], ["resume", str(shell.place / "run")]):
        running = Program(cosim, command, shell.place / "printed")
        running.wait_for("round 3/")
        running.send_signal(signal.SIGTERM)
        assert running.wait() == 1
        rest = running.stderr().splitlines()
        assert rest[-1] == f"cosim: interrupted; what was recorded is in {shell.place / 'run'}."


def test_what_cannot_be_resumed_is_one_line(folder, shell):
    for path, words in (
        (folder, "the run is complete; there is nothing to resume"),
        (shell.place / "nowhere", "is no run folder: it has no manifest.json"),
    ):
        status, out, told = shell("resume", path)
        assert (status, out) == (2, "")
        assert len(told) == 1
        assert words in told[0]


def test_an_existing_run_that_was_stopped_says_how_to_go_on(file, stopped, shell):
    status, _, told = shell("run", file, "--out", stopped)
    assert status == 2
    assert told == [
        f"{stopped}: exists already; it is a run that is running: go on with it by cosim resume {stopped}."
    ]


def test_an_edited_scenario_is_one_line(stopped, shell):
    path = stopped / "scenario.toml"
    path.write_text(path.read_text().replace("seed = 3", "seed = 5", 1))
    status, _, told = shell("resume", stopped)
    assert status == 2
    assert told == [
        f"{stopped}: scenario.toml is not the one the run began with; run it as a new one: cosim run {path}"
    ]


# What if


def test_a_whatif_says_what_changed_and_how_much_was_recalled(folder, shell):
    after = shell.place / "wider"
    status, out, told = shell("whatif", folder, *WIDER, "--out", after)
    assert (status, told) == (0, [])
    works = Record.open(after).manifest["works"]
    assert works["computed"] == 0
    words = " ".join(out.replace("\u202f", "").split())
    assert "simulated time" in words
    assert "activation_upload" in words
    assert "learning: the same, value for value" in words
    assert f"training: {works['recalled']} node(s) recalled from the store, 0 computed again" in words
    assert out.rstrip().endswith(f"run folder: {after}")
    assert Record.open(after).status == "complete"


def test_a_whatif_with_a_deadline_names_the_rounds_that_were_learned_anew(folder, shell):
    after = shell.place / "late"
    status, out, _ = shell("whatif", folder, "--set", "scheme.deadline_s=1e-9", "--out", after)
    assert status == 0
    words = " ".join(out.replace("\u202f", "").split())
    assert "learning: differs in rounds 1 to 2" in words
    assert f"{Record.open(after).manifest['works']['computed']} computed again" in words


def test_a_fork_leaves_a_run_folder_that_runs_again(folder, shell):
    at_s = Record.open(folder).manifest["simulated_s"] / 2
    fork = shell.place / "fork"
    status, out, told = shell("whatif", folder, *WIDER, "--at", at_s, "--out", fork)
    assert (status, told) == (0, [])
    assert "timelines part in round" in " ".join(out.split())
    assert shell("run", fork / "scenario.toml", "--out", shell.place / "again")[0] == 0
    assert same_bytes(fork, shell.place / "again")


FAULTS = {
    "later than the end": (("--at", "1e9", *WIDER), "cannot be forked at 1e+09 s"),
    "unknown setting": (("--set", "radio.colour=red"), "radio.colour"),
    "no change": (("--set", "bandwidth"), "must be path=value"),
    "not during a run": (("--at", "1e-3", "--set", "lora.rank=2"), "lora.rank cannot change during a run"),
    "left out": (
        ("--at", "1e-3", "--set", "radio.main_uplink.max_total_tx_power_dbm="),
        "is left out, which an event cannot do",
    ),
    "no number": (("--at", "noon", *WIDER), "Invalid value for '--at'"),
}


@pytest.mark.parametrize(("arguments", "words"), FAULTS.values(), ids=FAULTS)
def test_a_whatif_that_cannot_be_is_one_line_and_leaves_nothing(folder, shell, arguments, words):
    status, out, told = shell("whatif", folder, *arguments, "--out", shell.place / "new")
    assert (status, out) == (2, "")
    assert len(told) == 1
    assert words in told[0]
    assert not (shell.place / "new").exists()


def test_a_whatif_on_a_stopped_run_is_one_line(stopped, shell):
    status, _, told = shell("whatif", stopped, *WIDER, "--out", shell.place / "new")
    assert status == 2
    assert told == [f"{stopped}: the run is running; end it first: cosim resume {stopped}"]


def test_a_whatif_into_a_folder_that_is_taken_is_one_line(folder, shell):
    status, _, told = shell("whatif", folder, *WIDER, "--out", folder)
    assert status == 2
    assert len(told) == 1
    assert "exists already" in told[0]


# The store itself


def show(shell, *arguments):
    status, out, told = shell("store", *arguments)
    assert (status, told) == (0, [])
    return [" ".join(line.replace("\u202f", "").split()) for line in out.splitlines()]


def test_store_says_how_much_it_holds(folder, shell):
    bundles = list(shell.store.bundles())
    (line,) = show(shell)
    assert line.startswith(f"{shell.place / 'store'}: {len(bundles)} bundle(s) of 1 training namespace(s), ")


def test_store_finds_and_removes_what_is_damaged(folder, shell):
    bundles = list(shell.store.bundles())
    bundles[0].path.write_bytes(b"damaged")
    lines = show(shell, "--verify")
    assert lines[0] == f"verified: {len(bundles) - 1} bundle(s) whole, 1 damaged and removed"
    assert (
        show(shell, "--verify")[0] == f"verified: {len(bundles) - 1} bundle(s) whole, 0 damaged and removed"
    )


def test_store_is_made_smaller(folder, shell):
    num_bundles = len(list(shell.store.bundles()))
    assert show(shell, "--prune-days", "1")[0].startswith("pruned: 0 bundle(s)")
    assert show(shell, "--prune-mb", "0")[0].startswith(f"pruned: {num_bundles} bundle(s)")
    assert ": 0 bundle(s) of 0 training namespace(s)" in show(shell)[0]


def test_store_that_is_none_is_one_line(shell):
    (shell.place / "store").mkdir()
    (shell.place / "store" / "thesis.tex").write_text("")
    status, _, told = shell("store", "--prune-mb", "0")
    assert status == 2
    assert told == [f"{shell.place / 'store'}: is not a store, and not empty; name another with --store."]
    assert (shell.place / "store" / "thesis.tex").exists()
