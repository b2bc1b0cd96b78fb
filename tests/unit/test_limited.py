"""Rounds against a limit on latency, read off a record."""

import numpy as np
import pytest

from cosim.record.folder import Record, RunFolder
from cosim.record.log import Log
from cosim.report import side_by_side
from cosim.report.chart import chart
from cosim.report.comparison import compare
from cosim.report.gantt import draw
from cosim.report.latency_limit import latency_limit
from cosim.report.page.columns import Columns
from cosim.report.page.content import curves_content
from cosim.report.spans import Spans
from cosim.report.summary import summarise
from cosim.report.terminal import on_stdout, show

SECOND = 10**9
LIMIT_S = 2.0
LATENCIES_S = (3.0, 1.0, 2.5)
QUEUES_S = (0.5, 1.5, 0.5)
RATIOS = ({"client-0": 0.25, "client-1": 0.75}, {"client-0": 0.5, "client-1": 0.0}, {"client-1": 1.0})


def recorded(path, status="complete", has_queue=True) -> Record:
    """Return a run of three rounds; client-0 does not take part in the third."""
    log, begin_s = Log(), 0.0
    for number, latency_s in enumerate(LATENCIES_S):
        round_, at = number + 1, int(begin_s * SECOND)
        log.metrics.add(at, round_, 0, "main-server", "latency_limit_s", LIMIT_S)
        if has_queue:
            log.metrics.add(at, round_, 0, "main-server", "queue_s", QUEUES_S[number])
        for client in ("client-0", "client-1"):
            log.metrics.add(at, round_, 0, client, "sparsification_ratio", RATIOS[number].get(client, 0.0))
        end = int((begin_s + latency_s) * SECOND)
        for client in RATIOS[number]:
            sent = ("transfer", "adapter_upload", client, "federated-server", round_, 0)
            log.spans.add((), *sent, at, at, end, 10, 0, 0.0, "")
        log.rounds.begin(at, round_, sorted(RATIOS[number]))
        if round_ < len(LATENCIES_S) or status == "complete":
            log.rounds.end(end, round_)
        log.metrics.add(
            end - 1, round_, 0, "client-1", "sparsification_ratio", 0.9
        )  # too late for this round
        begin_s += latency_s
    folder = RunFolder.create(path, "", {"name": "made", "seed": 1})
    folder.finish(log, status, simulated_s=begin_s)
    return Record.open(path)


def of(record: Record):
    return latency_limit(record, Spans.of(record))


def test_latencies_queue_and_ratios_are_those_of_the_rounds(tmp_path):
    found = of(recorded(tmp_path / "run"))
    assert found.rounds.tolist() == [1, 2, 3]
    assert found.latency_s == pytest.approx(LATENCIES_S)
    assert found.limit_s.tolist() == [LIMIT_S] * 3
    assert found.queue_s == pytest.approx([*QUEUES_S, 1.0])
    assert found.clients == ("client-0", "client-1")
    assert found.sparsification_ratios[:2].tolist() == [[0.25, 0.75], [0.5, 0.0]]
    assert np.isnan(found.sparsification_ratios[2, 0])  # who does not take part keeps nothing back either
    assert found.mean_ratio == pytest.approx(0.5)
    assert found.extremes == ((0.0, "client-1", 2), (1.0, "client-1", 3))


def test_a_round_under_way_does_not_count(tmp_path):
    found = of(recorded(tmp_path / "run", status="failed"))
    assert found.rounds.tolist() == [1, 2]
    assert found.queue_s == pytest.approx([0.5, 1.5, 0.5])


def test_the_summary_tells_latency_against_the_limit(tmp_path, capsys):
    show(summarise(recorded(tmp_path / "run")), on_stdout())
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == (
        "latency: 2.17 s a round on average, the limit is 2 s (+8.33%); longest 3 s; "
        "virtual queue 500 ms at first, 1 s now"
    )
    assert lines[-1] == (
        "kept of the adapters: 50 % on average, "
        "from 0 % of client-1 in round 2 to 100 % of client-1 in round 3"
    )


def test_without_a_queue_none_is_told(tmp_path, capsys):
    record = recorded(tmp_path / "run", has_queue=False)
    assert of(record).queue_s is None
    show(summarise(record), on_stdout())
    assert "queue" not in capsys.readouterr().out


def test_a_comparison_tells_what_was_kept(tmp_path, capsys):
    runs = [recorded(tmp_path / "one"), recorded(tmp_path / "two", status="failed")]
    side_by_side.show(compare(*runs), on_stdout())
    (line,) = (one for one in capsys.readouterr().out.splitlines() if one.startswith("kept"))
    assert " ".join(line.split()) == "kept of the adapters 50 % 38 % -12.5 points"
    side_by_side.show_all([compare(runs[0], one) for one in (runs[1], runs[0])], ["a", "b", "c"], on_stdout())
    (line,) = (one for one in capsys.readouterr().out.splitlines() if one.startswith("kept"))
    assert " ".join(line.split()) == "kept of the adapters 50 % 38 % 50 %"


@pytest.mark.parametrize("has_queue", [True, False])
def test_the_picture_has_room_for_it(tmp_path, has_queue):
    record = recorded(tmp_path / "run", has_queue=has_queue)
    draw(chart(record), tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    assert chart(record).latency_limit is not None


@pytest.mark.parametrize("has_queue", [True, False])
def test_a_page_draws_it_over_time(tmp_path, has_queue):
    record = recorded(tmp_path / "run", has_queue=has_queue)
    drawn = {}

    class Noted(Columns):
        def add(self, name, values, kind):
            super().add(name, values, kind)
            drawn[name] = np.asarray(values).tolist()

    curves = curves_content(Noted(), record, Spans.of(record))
    begins, ends = [0.0, 3e9, 4e9], [3e9, 4e9, 6.5e9]
    expected = {
        "latency_s": (ends, LATENCIES_S),
        "mean_latency_s": (ends, (3.0, 2.0, 6.5 / 3)),
        "latency_limit_s": ([*begins, 6.5e9], [LIMIT_S] * 4),
        "queue_s": ([*begins, 6.5e9], [*QUEUES_S, 1.0]),
        "kept": (begins, (50.0, 25.0, 100.0)),
    }
    if not has_queue:
        del expected["queue_s"]
    assert [curve["name"] for curve in curves] == list(expected)
    for curve in curves:
        times, values = expected[curve["name"]]
        assert drawn[f"{curve['column']}.time"] == times
        assert drawn[f"{curve['column']}.value"] == pytest.approx(values)
