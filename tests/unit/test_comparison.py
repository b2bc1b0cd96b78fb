"""Runs side by side: what stands for what, where they part, round by round, on a terminal."""

from collections import Counter
from io import StringIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from cosim.errors import RecordError
from cosim.record.folder import Record, RunFolder
from cosim.record.log import Log
from cosim.report import side_by_side, time_spent
from cosim.report.alignment import align, pair_rounds, part
from cosim.report.attribution import attribute
from cosim.report.comparison import compare, compare_all
from cosim.report.forecast import savings
from cosim.report.rounds import Rounds
from cosim.report.spans import Spans
from cosim.runs import run


@pytest.fixture(scope="module")
def recorded(tiny_scenario, tmp_path_factory):
    def record(changes=None):
        return Record.open(
            run(tiny_scenario(changes), tmp_path_factory.mktemp("run") / "run", timing_only=True)
        )

    return record


@pytest.fixture(scope="module")
def plain(recorded):
    return recorded()


def shown(print_, *arguments):
    sink = StringIO()
    print_(*arguments, Console(file=sink, width=200))
    return sink.getvalue()


def test_settings_that_one_run_has_by_default_are_compared_by_what_is_in_force(recorded, plain):
    short = recorded({"record": "summary"})
    assert compare(plain, short).settings == {"record": ("spans", "summary")}
    other = {"scheme.kind": "federated", "trainable.kind": "full"}
    found = compare(plain, recorded(other)).settings
    assert found["trainable.kind"] == ("lora", "full")
    assert not any(path.startswith("lora") for path in found)


@st.composite
def logs(draw):
    """Spans of a few names, rounds and actors, several of which are the same piece of work."""
    log = Log()
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["forward", "backward"]),
                st.sampled_from(["client-0", "client-1"]),
                st.integers(1, 2),
                st.integers(0, 1),
                st.integers(0, 9),
                st.integers(0, 3),
            ),
            max_size=12,
        )
    )
    for name, actor, round_, step, asked, lasts in sorted(rows, key=lambda row: row[4] + row[5]):
        log.spans.add(
            (), "compute", name, actor, "", round_, step, asked, asked, asked + lasts, 0, 7, 0.0, ""
        )
    return log


def spans_of(log, folder):
    RunFolder.create(folder, "", {}).finish(log, "complete")
    return Spans.of(Record.open(folder))


def told(spans):
    """Return everything about each span but its number, by what it is and whose turn among its like."""
    found, turns = {}, Counter()
    for row in np.argsort(spans.asked_ns, kind="stable").tolist():
        key = (
            int(spans.round[row]),
            int(spans.local_step[row]),
            spans.names[spans.name[row]],
            spans.actors[spans.actor[row]],
            spans.actors[spans.peer[row]] if spans.peer[row] >= 0 else "",
        )
        times = tuple(int(one[row]) for one in (spans.asked_ns, spans.start_ns, spans.end_ns))
        found[*key, turns[key]] = (row, times, (spans.bits[row], spans.flop[row]))
        turns[key] += 1
    return found


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(one=logs(), other=logs())
def test_spans_are_paired_by_what_they_are_and_part_at_the_first_difference(one, other, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    before, after = spans_of(one, folder / "before"), spans_of(other, folder / "after")
    left, right = told(before), told(after)
    pairs = align(before, after)
    expected = {(left[key][0], right[key][0]) for key in left.keys() & right.keys()}
    assert set(zip(pairs.before.tolist(), pairs.after.tolist(), strict=True)) == expected
    assert set(pairs.only_before.tolist()) == {left[key][0] for key in left.keys() - right.keys()}
    assert set(pairs.only_after.tolist()) == {right[key][0] for key in right.keys() - left.keys()}

    partings = [left[key][1][0] for key in left.keys() - right.keys()]
    partings += [right[key][1][0] for key in right.keys() - left.keys()]
    for key in left.keys() & right.keys():
        differing = [
            min(pair) for pair in zip(left[key][1], right[key][1], strict=True) if pair[0] != pair[1]
        ]
        partings += differing[:1]
    parting = part(before, after)
    assert (parting.time_ns if parting is not None else None) == min(partings, default=None)


def test_a_run_and_itself_are_the_same(plain):
    found = compare(plain, plain)
    assert found.divergence is None
    assert all(one.change_ns == 0 for one in found.rounds)
    assert "timelines: the same, span for span" in shown(side_by_side.show, found)


def test_rounds_are_paired_and_add_up_to_the_difference(plain, recorded):
    after = recorded({"radio.main_uplink.bandwidth_hz": 40e6, "scheme.num_rounds": 3})
    found = compare(plain, after)
    assert [one.round for one in found.rounds] == [1, 2, 3]
    assert found.rounds[2].begin_ns[0] is None
    assert found.rounds[2].length_ns[0] == 0
    assert sum(one.length_ns[0] for one in found.rounds) == found.before.length_ns
    assert sum(one.length_ns[1] for one in found.rounds) == found.after.length_ns
    uploads = found.rounds[0].phase_ns["activation_upload"]
    assert uploads[1] < uploads[0]


def test_a_wider_uplink_parts_the_runs_at_the_first_upload(plain, recorded):
    found = compare(plain, recorded({"radio.main_uplink.bandwidth_hz": 40e6}))
    spans = Spans.of(plain)
    first = spans.name == spans.names.index("activation_upload")
    assert found.divergence.time_ns <= spans.end_ns[first].min()
    assert found.divergence.round == found.divergence.local_step == 1
    assert found.divergence.before.startswith("activation_upload of client-")
    assert found.divergence.before.split(" from ")[0] == found.divergence.after.split(" from ")[0]
    assert "timelines part in round 1, local step 1" in shown(side_by_side.show, found)


def test_several_runs_stand_side_by_side_against_the_first(plain, recorded):
    runs = [
        plain,
        recorded({"clients.count": 2}),
        recorded({"scheme": {"kind": "centralized", "num_rounds": 2}}),
    ]
    text = shown(side_by_side.show_all, compare_all(runs), ["plain", "two", "central"])
    heading = text.splitlines()[0].split()
    assert heading == ["plain", "two", "central"]
    assert "two: timelines part" in text
    assert "whole_step" in text
    with pytest.raises(ValueError, match="need that many labels and one"):
        side_by_side.show_all(compare_all(runs), ["plain", "two"], Console())


def test_a_failed_run_is_shown_as_far_as_it_came_and_marked(plain, tmp_path):
    log = Log()
    log.spans.add((), "compute", "client_forward", "client-0", "", 1, 1, 0, 0, 10, 0, 7, 0.0, "")
    RunFolder.create(tmp_path / "run", "", {"name": "cut off"}).finish(log, "failed", simulated_s=2e-8)
    failed = Record.open(tmp_path / "run")
    text = shown(side_by_side.show_all, compare_all([plain, failed]), ["plain", "cut off"])
    assert "cut off: the run is failed; it is shown as far as it came" in text


def test_a_run_going_on_and_a_run_alone_are_refused_in_a_line(plain, tmp_path):
    RunFolder.create(tmp_path / "run", "", {"name": "going"})
    with pytest.raises(RecordError, match=r"has no spans\.parquet; the run is running"):
        compare_all([plain, Record.open(tmp_path / "run")])
    with pytest.raises(RecordError, match="at least two runs, got 1"):
        compare_all([plain])


def test_runs_of_nothing_are_the_same(tmp_path):
    for name in ("one", "other"):
        RunFolder.create(tmp_path / name, "", {}).finish(Log(), "failed")
    records = [Record.open(tmp_path / name) for name in ("one", "other")]
    assert compare(*records).divergence is None
    assert pair_rounds(*(Spans.of(one) for one in records), *(Rounds.of(one, 0) for one in records)) == ()
    assert shown(time_spent.show, attribute(records[0]), savings(Spans.of(records[0]))) == ""


def test_the_terminal_tells_where_the_time_went_and_what_would_save_some(plain):
    text = shown(time_spent.show, attribute(plain), savings(Spans.of(plain)))
    assert "activation upload of client-" in text
    assert "times as fast would save" in text


def test_spans_that_wait_for_what_comes_later_are_refused(tmp_path):
    log = Log()
    log.spans.add((0,), "compute", "forward", "client-0", "", 1, 1, 0, 0, 10, 0, 7, 0.0, "")
    RunFolder.create(tmp_path / "run", "", {}).finish(log, "complete")
    with pytest.raises(RecordError, match="span 0 waits for span 0, which does not come before it"):
        Spans.of(Record.open(tmp_path / "run"))
