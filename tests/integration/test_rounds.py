"""Rounds that overlap or are absent, through every command; what the air did; folders of format 2."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.cli import answer, progress
from cosim.distribution import own_version
from cosim.errors import RecordError
from cosim.record import reading
from cosim.record.digests import sealed
from cosim.record.folder import FORMAT, Record, RunFolder
from cosim.record.log import Log
from cosim.report.attribution import attribute
from cosim.report.chart import chart
from cosim.report.comparison import compare
from cosim.report.gantt import draw
from cosim.report.page import write_page
from cosim.report.page.content import run_content
from cosim.report.rounds import Rounds
from cosim.report.spans import Spans, length_ns
from cosim.report.summary import summarise
from cosim.runs import run
from cosim.scenario.load import to_toml
from cosim.studies.measures import losses
from cosim.studies.measures.bits import Bits
from cosim.studies.measures.energy_j import EnergyJ
from cosim.studies.measures.metric import Metric
from cosim.studies.measures.time_to_loss import TimeToLoss
from cosim.studies.measures.total_s import TotalS
from cosim.world import Progress
from tests.made_runs import CLIENTS, LAST_ROUND, MS, write_run

MADE = ("overlapping", "no rounds", "two tasks", "going on")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return what writes a made-up run once."""
    place, known = tmp_path_factory.mktemp("made"), {}

    def written(what, slower=1):
        key = (what, slower)
        if key not in known:
            known[key] = write_run(place / f"{what} {slower}", what, slower)
        return known[key]

    return written


def rounds_of(record):
    return Rounds.of(record, length_ns(record, Spans.of(record)))


@pytest.mark.parametrize("what", MADE)
def test_every_view_of_a_run_is_made_whatever_its_rounds(what, made, tmp_path, capsys):
    record = made(what)
    pictures = ("png", "pdf") if what in ("overlapping", "no rounds") else ()
    views = {kind: tmp_path / f"run.{kind}" for kind in ("html", "perfetto", *pictures)}
    asked = [one for kind, path in views.items() for one in (f"--{kind}", str(path))]
    assert answer(["timeline", str(record.path), *asked]) == 0
    out = capsys.readouterr().out
    assert ("no rounds" if what == "no rounds" else "10 round(s), up to 3 at a time") in out
    assert "adapter_upload: 1 of 9 transfer(s) not delivered, 2.5 kbit sent again" in out
    assert all(path.stat().st_size > 1000 for path in views.values())
    rows = record.spans.to_pylist()
    rare = [row["id"] for row in rows if row["participants"] or not row["delivered"]]
    for span in (0, *rare):
        assert answer(["explain", str(record.path), str(span)]) == 0
    out = capsys.readouterr().out
    assert "3 clients to federated-server" in out
    assert "participants           client-0, client-1, client-2" in out
    assert "delivered              no" in out
    assert "sent again             2.5 kbit" in out


@pytest.mark.parametrize(
    ("what", "other"),
    [*((what, "overlapping") for what in MADE if what != "going on"), ("no rounds", "no rounds")],
)
def test_runs_are_compared_whatever_their_rounds(what, other, made, tmp_path, capsys):
    folders = [str(made(what).path), str(made(other, 2).path)]
    views = ["--html", str(tmp_path / "both.html"), "--png", str(tmp_path / "both.png")]
    assert answer(["compare", *folders, *views]) == 0
    out = capsys.readouterr().out
    assert ("rounds: neither run has any" in out) == (what == other == "no rounds")
    pairs = compare(made(what), made(other, 2)).rounds
    assert all(min(pair.length_ns) >= 0 for pair in pairs)
    lengths = {pair.label: pair.length_ns for pair in pairs}
    if what == other == "overlapping":
        assert lengths["round 2"] == (13 * MS, 26 * MS)


@pytest.mark.parametrize("what", MADE)
def test_measures_of_a_study_do_not_ask_for_rounds_one_after_the_other(what, made):
    record = made(what)
    assert TotalS().of(record) == pytest.approx(52e-3)
    assert Bits().of(record) == 11 * 5000
    assert TimeToLoss(level=2.0).of(record) == pytest.approx(20e-3)
    before_s = max(at_s for at_s, _, loss, _ in losses(record) if loss == 3.1)
    crossed = before_s + (20e-3 - before_s) * (3.1 - 2.0) / (3.1 - 1.55)
    assert TimeToLoss(level=2.0, interpolated=True).of(record) == pytest.approx(crossed)
    assert EnergyJ(actor="client").of(record) == pytest.approx(1.9)  # merges and multicast apart
    assert Metric(metric="train_loss").of(record) == 1.0  # the latest
    assert [loss for *_, loss, _ in losses(record)] == pytest.approx(
        [3.1] * 3 + [1.55] * 2 + [3.1 / 3, 1.55, 3.1 / 3, 3.1 / 3]
    )


@pytest.mark.parametrize("what", MADE)
def test_shares_of_rounds_are_of_rounds_that_are_recorded(what, made):
    record, found = made(what), attribute(made(what))
    known = set(rounds_of(record).keys)
    assert found.rounds.keys() <= known
    total = sum(share.time_ns for shares in found.rounds.values() for share in shares)
    assert total == (found.length_ns if known else 0)


def test_a_run_without_rounds_refuses_to_show_some_in_a_line(made, capsys):
    assert answer(["timeline", str(made("no rounds").path), "--rounds", "1:2"]) == 2
    assert capsys.readouterr().err.endswith("has no rounds; leave out --rounds to see the whole run.\n")
    assert answer(["timeline", str(made("overlapping").path), "--rounds", "17"]) == 2
    assert capsys.readouterr().err.endswith("has no rounds 17 to 17; it has rounds 1 to 10.\n")


def test_a_round_that_goes_on_ends_where_the_record_does(made):
    record = made("going on")
    assert record.rounds["end_ns"].to_pylist()[-1] is None
    rounds = rounds_of(record)
    assert rounds.is_over.tolist() == [True] * 9 + [False]
    assert rounds.end_ns[-1] == 52 * MS


def test_lanes_show_all_that_goes_on_while_the_chosen_rounds_do(made):
    shown = chart(made("overlapping"), 4, 4)
    assert (shown.from_ns, shown.to_ns) == (10 * MS, 20 * MS)
    busy_ns = [
        sum(
            int((np.minimum(bars.end_ns, shown.to_ns) - np.maximum(bars.start_ns, shown.from_ns)).sum())
            for bars in lane.bars
        )
        for lane in shown.lanes
    ]
    assert busy_ns == [10 * MS, 10 * MS, 10 * MS, 0]
    begins = chart(made("overlapping"), 1, 5).rounds
    assert begins == (("rounds 1 to 3", 0), ("round 4", 10 * MS), ("round 5", 13 * MS))


def test_what_several_clients_send_at_once_is_in_the_lane_of_each_and_counted_once(made):
    record = made("overlapping")
    lanes = {lane.actor: {bars.name for bars in lane.bars} for lane in chart(record, LAST_ROUND).lanes}
    for client in CLIENTS:
        assert {"superposed_upload", "multicast_download"} <= lanes[client]
    assert not {"superposed_upload", "multicast_download"} & lanes["federated-server"]
    spans = Spans.of(record)
    assert spans.links == ("federated_downlink", "federated_uplink")
    summary = summarise(record)
    assert [one.air_ns for one in summary.clients[:3]] == [19 * MS, 23.5 * MS, 28 * MS]
    assert [one.num_spans for one in summary.phases if one.kind == "transfer"] == [9, 1, 1]
    assert sum(summary.energy_j.values()) == pytest.approx(2.9)
    rows = run_content(record)["rows"]
    assert [row["actor"] for row in rows] == [0, 1, 2, 3]


def test_a_trace_has_lanes_for_rounds_that_overlap_and_says_what_the_air_did(made, tmp_path):
    pytest.importorskip("perfetto")
    from cosim.report.perfetto import write_trace
    from tests.unit.test_perfetto import read

    write_trace(made("overlapping"), tmp_path / "run.pftrace")
    trace = read(tmp_path / "run.pftrace")
    lanes = {one.lane for one in trace.slices if one.name.startswith("round ")}
    assert lanes == {"rounds", "rounds 2", "rounds 3"}
    by_span = {one.notes["span"]: one for one in trace.slices if "span" in one.notes}
    rows = made("overlapping").spans.to_pylist()
    for row in rows:
        notes = by_span[row["id"]].notes
        assert notes.get("delivered", True) == row["delivered"]
        assert notes.get("resent_bits", 0.0) == row["resent_bits"]
        assert ("participants" in notes) == bool(row["participants"])
    superposed, multicast = by_span[len(rows) - 2], by_span[len(rows) - 1]
    assert {superposed.process, multicast.process} == {"federated-server"}


@settings(deadline=None, max_examples=25)
@given(
    intervals=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9) | st.none()), max_size=8),
)
def test_rounds_are_read_as_they_were_written(intervals, tmp_path_factory):
    log = Log()
    events = []
    for number, (begin, lasts) in enumerate(intervals, start=1):
        events.append((begin, 0, number))
        if lasts is not None:
            events.append((begin + lasts, 1, number))
    for time_ns, is_end, number in sorted(events):
        if is_end:
            log.rounds.end(time_ns, number)
        else:
            log.rounds.begin(time_ns, number, [f"client-{number}"])
    folder = tmp_path_factory.mktemp("rounds") / "run"
    RunFolder.create(folder, "", {}).finish(log, "complete", simulated_s=100e-9)
    found = Rounds.of(Record.open(folder), 100)
    told = {
        (number, start, end)
        for number, start, end in zip(
            found.number.tolist(), found.start_ns.tolist(), found.end_ns.tolist(), strict=True
        )
    }
    ends = {
        number: 100 if lasts is None else begin + lasts
        for number, (begin, lasts) in enumerate(intervals, start=1)
    }
    assert told == {(number, begin, ends[number]) for number, (begin, _) in enumerate(intervals, start=1)}
    assert (np.diff(found.start_ns) >= 0).all()
    assert all(
        participants == (f"client-{number}",)
        for number, participants in zip(found.number.tolist(), found.participants, strict=True)
    )
    counted = [sum(start <= at < end for _, start, end in told) for at in range(100)]
    assert found.most_at_once == max([*counted, min(len(intervals), 1)])


def test_latencies_of_rounds_that_overlap_are_not_shown_against_a_limit_and_a_line_says_so(tmp_path):
    for name, second_ns, is_shown in (("apart", 10, True), ("overlapping", 9, False)):
        log = Log()
        for round_, from_ns in ((1, 0), (2, second_ns)):
            log.metrics.add(from_ns, round_, 0, "main-server", "latency_limit_s", 1e-8)
            log.metrics.add(from_ns, round_, 0, "client-0", "sparsification_ratio", 0.5)
            log.metrics.add(from_ns, round_, 0, "main-server", "predicted_round_s", 2e-8)
            sent = ("transfer", "adapter_upload", "client-0", "federated-server", round_, 0)
            log.spans.add((), *sent, from_ns, from_ns, from_ns + 10, 10, 0, 0.0, "")
        log.rounds.begin(0, 1, ["client-0"])
        log.rounds.begin(second_ns, 2, ["client-0"])
        log.rounds.end(second_ns + 10, 2)
        log.rounds.end(10, 1)
        RunFolder.create(tmp_path / name, "", {}).finish(log, "complete", simulated_s=2e-8)
        summary = summarise(Record.open(tmp_path / name))
        assert (summary.latency_limit is not None) == is_shown
        assert any("rounds overlap" in line for line in summary.notes) == (not is_shown)
        assert summary.prediction.measured_s.tolist() == [1e-8, 1e-8]


def test_a_round_without_spans_and_of_no_length_can_be_drawn(tmp_path):
    log = Log()
    log.spans.add((), "compute", "forward", "client-0", "", 1, 1, 0, 0, 10, 0, 7, 0.0, "")
    for round_, times in ((1, (0, 10)), (2, (30, 30)), (3, (30, 40))):
        log.rounds.begin(times[0], round_, [])
        log.rounds.end(times[1], round_)
    record_folder = RunFolder.create(tmp_path / "run", "", {})
    record_folder.finish(log, "complete", simulated_s=40e-9)
    record = Record.open(tmp_path / "run")
    for first, last in ((2, 2), (1, 3), (None, None)):
        draw(chart(record, first, last), tmp_path / "run.png", force=True)
    pairs = compare(record, record).rounds
    assert [pair.length_ns[0] for pair in pairs] == [10, 0, 10]
    write_page(record, tmp_path / "run.html")


@pytest.mark.parametrize("words", [progress._words, progress._few_words])
def test_progress_counts_rounds_that_end_out_of_their_order(words):
    assert "7, 3/12 over:" in words(Progress(7, 0, 1, {}, num_ended=3), 12)
    assert "3/12:" in words(Progress(3, 0, 1, {}, num_ended=3), 12)


def test_a_round_is_begun_once_and_ended_once():
    rounds = Log().rounds
    with pytest.raises(ValueError, match="round 1 ends, and has not begun"):
        rounds.end(0, 1)
    rounds.begin(0, 1, [])
    with pytest.raises(ValueError, match="round 1 begins, and one of that number has not ended"):
        rounds.begin(1, 1, [])
    rounds.begin(1, 1, [], task="other")


@pytest.mark.parametrize("ends", [("client-0", "main-server"), ("", "")])
def test_a_transmission_of_several_clients_has_one_end_that_is_one(ends):
    times_and_amounts = (1, 0, 0, 0, 1, 8, 0, 0.0, "")
    with pytest.raises(ValueError, match="upload: several clients are at one end"):
        Log().spans.add((), "transfer", "upload", *ends, *times_and_amounts, participants=CLIENTS)


def test_rounds_of_a_damaged_record_are_refused_in_a_line(tmp_path):
    for name, times in (("backwards", [(9, 3)]), ("twice", [(0, 3), (3, 5)])):
        log = Log()
        for start_ns, end_ns in times:
            log.rounds.begin(start_ns, 1, [])
            log.rounds.end(end_ns, 1)
        RunFolder.create(tmp_path / name, "", {}).finish(log, "complete")
        with pytest.raises(RecordError, match="the record is damaged: run the scenario again"):
            Rounds.of(Record.open(tmp_path / name), 10)


@pytest.mark.parametrize(
    ("changes", "participants"),
    [
        ({}, CLIENTS),
        ({"scheme.kind": "federated", "scheme.participation": 0.5}, None),
        ({"scheme.kind": "centralized"}, ()),
    ],
)
def test_schemes_write_their_rounds(changes, participants, tiny_scenario, tmp_path):
    record = Record.open(run(tiny_scenario(changes), tmp_path / "run", timing_only=True))
    rounds, spans = record.rounds.to_pylist(), record.spans.to_pydict()
    assert [row["round"] for row in rounds] == [1, 2]
    assert [row["task"] for row in rounds] == ["", ""]
    for row in rounds:
        of_round = [at for at, number in enumerate(spans["round"]) if number == row["round"]]
        assert row["start_ns"] == min(spans["asked_ns"][at] for at in of_round)
        assert row["end_ns"] == max(spans["end_ns"][at] for at in of_round)
        senders = {spans["actor"][at] for at in of_round if spans["name"][at] == "adapter_upload"}
        assert tuple(row["participants"]) == (
            tuple(sorted(senders)) if participants is None else participants
        )
    assert record.spans["delivered"].to_pylist() == [True] * record.spans.num_rows
    assert set(record.spans["resent_bits"].to_pylist()) == {0.0}
    assert set(map(tuple, record.spans["participants"].to_pylist())) == {()}


@pytest.mark.parametrize(
    ("versions", "named"),
    [
        (
            {"versions": {"cosim": "0.9.1"}, "commit": "0123456789abcdef"},
            "cosim 0.9.1 of commit 0123456789ab",
        ),
        ({"versions": {"cosim": "0.9.1"}, "commit": None}, "cosim 0.9.1"),
        ({"versions": 7}, "the version that wrote it"),
    ],
)
def test_a_folder_of_the_format_before_names_the_version_that_reads_it(versions, named, tmp_path, capsys):
    record = write_run(tmp_path / "run", "overlapping")
    old = {**json.loads((record.path / "manifest.json").read_bytes()), "format": 2, **versions}
    (record.path / "manifest.json").write_bytes(sealed(old))
    for command in (["timeline"], ["compare", str(record.path)], ["resume"]):
        assert answer([*command, str(record.path)]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        assert (
            f"is a run folder of format 2, this version of cosim reads {FORMAT}; open it with {named}" in err
        )
        assert f"or play it again: cosim run {record.path / 'scenario.toml'} --out ANOTHER" in err


def test_a_study_whose_runs_are_of_the_format_before_is_not_gone_on_with(tiny_scenario, tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text(to_toml(tiny_scenario()))
    study = 'base = "tiny.toml"\nname = "old"\ntiming_only = true\nmeasures = ["total_s"]\n'
    (tmp_path / "study.toml").write_text(study)
    out = tmp_path / "out"
    out.mkdir()
    before = {"kind": "study", "format": 1, "status": "complete", "name": "old"}
    versions = {"versions": {"cosim": own_version()}}
    (out / "manifest.json").write_bytes(sealed({**before, **versions, "files": {}}))
    assert answer(["study", str(tmp_path / "study.toml"), "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"{out}: its runs are of format 2, and this version of cosim makes and reads {FORMAT};"
    )


def test_columns_of_runs_before_have_the_names_of_today(made, monkeypatch):
    record, read = made("no rounds"), reading.read_table
    today = record.spans

    def of_before(*given):
        table = read(*given)
        return table.rename_columns(["work" if one == "node" else one for one in table.column_names])

    monkeypatch.setattr(reading, "read_table", of_before)
    assert record.spans.equals(today)
