"""A run in a notebook: it shows itself, and its tables come as data frames."""

import pytest

from cosim.errors import RecordError
from cosim.record.folder import Record, RunFolder
from cosim.record.log import Log


@pytest.fixture
def made(tmp_path):
    log = Log()
    log.spans.add((), "compute", "forward", "client-0", "", 1, 1, 0, 0, 20, 0, 5, 1.0, "")
    log.spans.add((0,), "transfer", "upload", "client-0", "main-server", 1, 1, 20, 20, 40, 300, 0, 0.5, "")
    log.metrics.add(0, 0, 0, "main-server", "eval_loss", 4.0)
    folder = RunFolder.create(tmp_path / "run", "", {"name": "<script>alert(1)</script>", "seed": 7})
    folder.finish(log, "complete", simulated_s=2.5, wall_s=0.1)
    return Record.open(tmp_path / "run")


def test_a_record_shows_itself_and_its_name_stays_text(made):
    shown = made._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    for told in ("complete", "7", "2.5 s", "2 rows", "1 rows", "0 rows"):
        assert f"<td>{told}</td>" in shown


def test_a_run_that_is_going_on_shows_itself_without_tables(tmp_path):
    RunFolder.create(tmp_path / "run", "", {"name": "going", "seed": 7})
    shown = Record.open(tmp_path / "run")._repr_html_()
    assert "<td>running</td>" in shown
    assert "rows" not in shown


def test_tables_come_as_data_frames(made):
    spans = made.frame("spans")
    assert spans["end_ns"].tolist() == [20, 40]
    assert [list(some) for some in spans["parents"]] == [[], [0]]
    assert spans.groupby("actor")["energy_j"].sum().to_dict() == {"client-0": 1.5}
    assert made.frame("metrics")["value"].tolist() == [4.0]
    assert len(made.frame("grants")) == 0


def test_a_table_that_is_not_there_is_told_in_a_line(tmp_path):
    RunFolder.create(tmp_path / "run", "", {"name": "going", "seed": 7})
    with pytest.raises(RecordError, match=r"has no spans\.parquet; the run is running"):
        Record.open(tmp_path / "run").frame("spans")
