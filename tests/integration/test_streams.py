"""What cannot be written to stdout is one line on stderr and status 1; what was to be done is done."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from cosim.cli import answer
from cosim.record.folder import Record
from cosim.scenario.load import to_dict

PROGRAM = f"{sys.executable} -c 'from cosim.cli import main; main()'"
HAS_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")


def shell(arguments, redirected, **environment):
    done = subprocess.run(
        [f"{PROGRAM} {arguments} {redirected}"],
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("redirected", "why"),
    [
        (">&-", "it is closed"),
        pytest.param("> /dev/full", "No space left on device", marks=HAS_FULL),
    ],
)
def test_a_stdout_that_cannot_be_written_is_one_line_and_status_1(redirected, why):
    status, out, err = shell("--version", redirected)
    assert (status, out) == (1, "")
    assert err == f"stdout: cannot be written: {why}; what is in files stays.\n"


@pytest.mark.parametrize("redirected", ["2>&-", "<&-", pytest.param("2> /dev/full", marks=HAS_FULL)])
def test_other_streams_that_lead_nowhere_stop_nothing(redirected):
    status, out, err = shell("--version", redirected)
    assert (status, err) == (0, "")
    assert out.startswith("cosim ")


def test_a_run_that_nobody_can_see_is_recorded_whole(tmp_path, tiny_scenario):
    file, folder = tmp_path / "tiny.toml", tmp_path / "run"
    file.write_text(tomli_w.dumps(to_dict(tiny_scenario({"scheme.num_rounds": 1}))), encoding="utf-8")
    status, _, _ = shell(f"run {file} --timing-only --out {folder}", "<&- >&- 2>&-")
    assert status == 1
    assert Record.open(folder).status == "complete"


def test_a_user_without_a_home_is_told_how_to_name_a_store(monkeypatch, tmp_path, tiny_scenario, capsys):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    for name in ("COSIM_STORE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    file = tmp_path / "tiny.toml"
    file.write_text(tomli_w.dumps(to_dict(tiny_scenario({"scheme.num_rounds": 1}))), encoding="utf-8")
    assert answer(["run", str(file), "--out", str(tmp_path / "none")]) == 2
    assert "name one with --store or in COSIM_STORE, or do without by --no-store" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert answer(["run", str(file), "--timing-only", "--out", str(tmp_path / "run")]) == 0
