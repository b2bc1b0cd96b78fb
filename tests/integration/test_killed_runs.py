"""A run that is killed shows what was recorded until then, piece by piece, and goes on to the same bytes."""

import pytest

from cosim.cli import answer
from cosim.record import folder as run_folder
from cosim.record.folder import Record, RunFolder
from cosim.record.pieces import pieces_of
from cosim.report.summary import summarise
from cosim.runs import resume, run

TABLES = ("spans", "causes", "metrics", "grants", "rounds")


@pytest.fixture
def often(monkeypatch):
    """Let a piece be written at the end of each round."""
    monkeypatch.setattr(run_folder, "_WRITE_EVERY_S", 0.0)
    monkeypatch.setattr(run_folder, "_MOST_PIECES", 1e9)
    monkeypatch.setattr(run_folder, "_PATIENCE", 0.0)


class Killed(BaseException):
    """The process ends here, and says nothing any more."""


@pytest.fixture
def kill(tmp_path, monkeypatch):
    """Let a run be killed behind a round; its lock is then one that nobody holds."""

    def kill(scenario, round_):
        def watch(progress):
            if progress.round == round_:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "finish", lambda *_a, **_b: None)
            patch.setattr(RunFolder, "fail", lambda *_a, **_b: None)
            patch.setattr(RunFolder, "_ended", RunFolder.writing)
            with pytest.raises(Killed):
                run(scenario, tmp_path / "killed", timing_only=True, watch=watch)
        (tmp_path / "killed" / ".lock").touch()
        return tmp_path / "killed"

    return kill


@pytest.fixture
def killed(tiny_scenario, tmp_path, often, kill):
    """A run of four rounds that was killed after its third, and beside it one that was not."""
    scenario = tiny_scenario({"scheme.num_rounds": 4})
    run(scenario, tmp_path / "whole", timing_only=True)
    return kill(scenario, 3)


def test_a_killed_run_shows_what_was_recorded_in_pieces(killed, capsys):
    record, whole = Record.open(killed), Record.open(killed.parent / "whole")
    assert (record.status, record.state) == ("running", "killed")
    assert len(pieces_of("spans", record.manifest["files"])) == 3
    assert not (killed / "spans.parquet").exists()
    for name in ("spans", "causes", "metrics"):
        there = record.table(name)
        assert there.num_rows
        assert there.equals(whole.table(name).slice(0, there.num_rows))
    assert summarise(record).status == "killed"
    assert answer(["timeline", str(killed)]) == 0
    assert "killed at" in capsys.readouterr().out
    (killed / pieces_of("spans", record.manifest["files"])[1]).write_bytes(b"damaged")
    assert answer(["timeline", str(killed)]) == 2


def test_a_killed_run_goes_on_to_the_bytes_of_one_that_was_not(killed):
    resume(killed)
    whole = killed.parent / "whole"
    for name in TABLES:
        file = f"{name}.parquet"
        assert (killed / file).read_bytes() == (whole / file).read_bytes()
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert Record.open(killed).state == "complete"


def test_a_run_that_was_killed_before_its_first_round_ended_has_all_tables(
    tiny_scenario, often, kill, capsys
):
    killed = kill(tiny_scenario(), 0)
    assert [Record.open(killed).table(name).num_rows for name in ("spans", "causes", "rounds")] == [0, 0, 0]
    assert answer(["timeline", str(killed)]) == 0
    assert "killed at 0 s" in capsys.readouterr().out


def test_a_run_that_was_killed_before_anything_was_written_says_how_to_go_on(tiny_scenario, kill, capsys):
    killed = kill(tiny_scenario(), 1)
    assert answer(["timeline", str(killed)]) == 2
    assert f"begin again: cosim resume {killed}" in capsys.readouterr().err
