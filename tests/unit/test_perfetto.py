"""Traces, read back with the protobuf package: lanes, times, arrows, counters."""

from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent

from cosim.channel_replay import replay_channel
from cosim.errors import RecordError
from cosim.record.folder import Record, RunFolder
from cosim.record.log import Log
from cosim.report.perfetto import write_trace
from cosim.report.perfetto.packets import Shape
from cosim.report.perfetto.tracks import Tracks
from cosim.report.spans import Spans
from cosim.runs import run


def read(path):
    """Return a trace as slices, samples and tracks, put together only from what stands in the file."""
    trace = Trace()
    trace.ParseFromString(Path(path).read_bytes())
    names, notes, processes, tracks = {}, {}, {}, {}
    slices, samples, open_slices = [], defaultdict(list), {}
    for packet in trace.packet:
        assert packet.trusted_packet_sequence_id == 1
        for one in packet.interned_data.event_names:
            names[one.iid] = one.name
        for one in packet.interned_data.debug_annotation_names:
            notes[one.iid] = one.name
        described = packet.track_descriptor
        if packet.HasField("track_descriptor") and described.HasField("process"):
            processes[described.uuid] = described.process.process_name
        elif packet.HasField("track_descriptor"):
            tracks[described.uuid] = (processes[described.parent_uuid], described.name)
        event = packet.track_event
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            assert event.track_uuid not in open_slices, "slices of a lane overlap"
            open_slices[event.track_uuid] = SimpleNamespace(
                process=tracks[event.track_uuid][0],
                lane=tracks[event.track_uuid][1],
                track=event.track_uuid,
                name=names[event.name_iid],
                start_ns=packet.timestamp,
                notes={notes[one.name_iid]: value_of(one) for one in event.debug_annotations},
                flows=set(event.flow_ids),
                ending_flows=set(event.terminating_flow_ids),
            )
        elif event.type == TrackEvent.TYPE_SLICE_END:
            one = open_slices.pop(event.track_uuid)
            one.end_ns = packet.timestamp
            slices.append(one)
        elif event.type == TrackEvent.TYPE_COUNTER:
            samples[tracks[event.track_uuid]].append((packet.timestamp, event.double_counter_value))
    assert not open_slices
    assert len(set(tracks.values())) == len(tracks), "every track has a name of its own"
    return SimpleNamespace(slices=slices, samples=samples, tracks=tracks, processes=processes)


def value_of(note):
    return getattr(note, note.WhichOneof("value"))


@pytest.fixture(scope="module")
def recorded(tiny_scenario, tmp_path_factory):
    def record(changes):
        return Record.open(
            run(tiny_scenario(changes), tmp_path_factory.mktemp("run") / "run", timing_only=True)
        )

    return record


@st.composite
def cells(draw):
    return {
        "seed": draw(st.integers(0, 10**6)),
        "clients.count": draw(st.integers(1, 4)),
        "clients.flop_per_cycle": draw(st.sampled_from([0.01, 1.0])),
        "main_server.flop_per_cycle": draw(st.sampled_from([0.001, 1.0])),
        "main_server.queue_capacity": draw(st.integers(1, 3)),
        "scheme.server_batch": draw(st.sampled_from(["joint", "per_client"])),
        "allocator.kind": draw(st.sampled_from(["equal", "time_shared"])),
        "radio.access.kind": draw(st.sampled_from(["orthogonal", "reassign"])),
        "radio.fading.kind": draw(st.sampled_from(["none", "rayleigh_block"])),
        "radio.main_downlink.modelled": draw(st.booleans()),
    }


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(chosen=cells())
def test_a_trace_tells_every_span_of_any_run_and_every_tensor_that_travels(
    chosen, recorded, tmp_path_factory
):
    record = recorded(chosen)
    path = tmp_path_factory.mktemp("trace") / "run.pftrace"
    write_trace(record, path)
    trace, rows = read(path), record.spans.to_pylist()

    by_lane = defaultdict(list)
    for one in trace.slices:
        by_lane[one.track].append(one)
    for lane in by_lane.values():
        for before, after in pairwise(sorted(lane, key=lambda one: (one.start_ns, one.end_ns))):
            assert before.end_ns <= after.start_ns

    told = {one.notes["span"]: one for one in trace.slices if "span" in one.notes}
    assert sorted(told) == list(range(len(rows)))
    for row in rows:
        one = told[row["id"]]
        assert (one.name, one.start_ns, one.end_ns) == (row["name"], row["start_ns"], row["end_ns"])
        names = ("round", "local_step", "bits", "flop", "energy_j")
        assert {name: one.notes[name] for name in names} == {name: row[name] for name in names}
        assert one.notes["queued_ns"] == row["start_ns"] - row["asked_ns"]
        whose = row["peer"] if row["peer"].startswith("client-") else row["actor"]
        assert one.process == (whose if row["kind"] == "transfer" else row["actor"])
        assert one.lane.startswith("compute") == (row["kind"] == "compute")

    made, used = defaultdict(set), defaultdict(set)
    for one in told.values():
        row = rows[one.notes["span"]]
        if row["kind"] == "compute":
            for flow in one.flows:
                made[flow].add(row["actor"])
            for flow in one.ending_flows:
                used[flow].add(row["actor"])
    transfers = [row for row in rows if row["kind"] == "transfer"]
    for row in transfers:
        (flow,) = told[row["id"]].flows
        assert made[flow] == {row["actor"]}
        children = {rows[one]["actor"] for one in range(len(rows)) if row["id"] in rows[one]["parents"]}
        assert used[flow] == children & {row["peer"]}
    assert len(made) == len(transfers)


@pytest.fixture(scope="module")
def record(recorded):
    return recorded(
        {
            "scheme.server_batch": "per_client",
            "main_server.flop_per_cycle": 0.001,
            "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.002},
        }
    )


@pytest.fixture(scope="module")
def trace(record, tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "run.pftrace"
    write_trace(record, path, replay_channel(record))
    return read(path)


def test_every_actor_is_a_process_and_the_run_is_one_of_its_own(record, trace):
    assert list(trace.processes.values()) == [*Spans.of(record).actors, "tiny, seed 3"]


def test_the_critical_path_and_the_rounds_have_lanes(record, trace):
    lanes = {one.lane for one in trace.slices if one.process == "tiny, seed 3"}
    assert lanes == {"rounds", "critical path"}
    critical = [one for one in trace.slices if one.lane == "critical path"]
    marked = [one for one in trace.slices if one.notes.get("on_critical_path")]
    assert [
        (one.name, one.start_ns, one.end_ns) for one in sorted(marked, key=lambda one: one.notes["span"])
    ] == [(one.name, one.start_ns, one.end_ns) for one in critical]
    assert critical[-1].end_ns == record.manifest["simulated_s"] * 1e9
    assert [one.name for one in trace.slices if one.lane == "rounds"] == ["round 1", "round 2"]


def test_the_queue_counter_is_the_number_of_works_that_wait(record, trace):
    rows = [
        row for row in record.spans.to_pylist() if row["actor"] == "main-server" and row["kind"] == "compute"
    ]
    samples = trace.samples["main-server", "queue length"]
    assert max(length for _, length in samples) > 0
    for instant, length in samples:
        assert length == sum(row["asked_ns"] <= instant < row["start_ns"] for row in rows)
    assert {row["start_ns"] for row in rows if row["asked_ns"] < row["start_ns"]} <= {at for at, _ in samples}


def test_rate_and_power_of_a_client_times_time_are_its_bits_and_joules(record, trace):
    rows = [
        row
        for row in record.spans.to_pylist()
        if row["name"] == "activation_upload" and row["actor"] == "client-1"
    ]
    for what, amount in (("rate", "bits"), ("power", "energy_j")):
        samples = trace.samples["client-1", f"main uplink {what}"]
        drained = sum((after - at) * value for (at, value), (after, _) in pairwise(samples)) / 1e9
        assert drained == pytest.approx(sum(row[amount] for row in rows))
        assert samples[-1][1] == 0.0


def test_snr_is_that_of_the_air_and_only_told_with_it(record, trace, tmp_path):
    with_air = {name for name in trace.samples if "SNR" in name[1]}
    assert ("client-0", "main uplink SNR") in with_air
    assert ("tiny, seed 3", "main uplink subchannel 0 SNR") in with_air
    air = replay_channel(record)
    (link,) = [one for one in air.links if one.name == "main_uplink"]
    told = dict(trace.samples["tiny, seed 3", "main uplink subchannel 0 SNR"])
    for instant, snr_db in zip(link.times_ns.tolist(), link.snr_db[0].tolist(), strict=True):
        assert told.get(instant, snr_db) == snr_db
    write_trace(record, tmp_path / "run.pftrace")
    assert not [name for name in read(tmp_path / "run.pftrace").samples if "SNR" in name[1]]


def made_of(tmp_path, fill, status="complete"):
    log = Log()
    fill(log)
    folder = RunFolder.create(tmp_path / "run", "", {"name": "made", "seed": 1})
    folder.finish(log, status, simulated_s=1e-6)
    return Record.open(tmp_path / "run")


def test_losses_are_counters_of_who_measured_them(tmp_path):
    def fill(log):
        log.spans.add((), "compute", "forward", "client-0", "", 1, 1, 0, 0, 10, 0, 5, 0.5, "")
        for time_ns, value in ((0, 4.0), (10, float("nan")), (20, 2.5)):
            log.metrics.add(time_ns, 1, 0, "client-0", "train_loss", value)

    write_trace(made_of(tmp_path, fill), tmp_path / "trace")
    assert read(tmp_path / "trace").samples["client-0", "train loss"] == [(0, 4.0), (20, 2.5)]


def test_a_failed_run_is_written_as_far_as_it_came_and_marked(tmp_path):
    def fill(log):
        log.spans.add((), "compute", "forward", "client-0", "", 1, 1, 0, 0, 10, 0, 5, 0.5, "")

    write_trace(made_of(tmp_path, fill, "failed"), tmp_path / "trace")
    trace = read(tmp_path / "trace")
    assert "made, seed 1 (failed)" in trace.processes.values()
    assert [one.name for one in trace.slices if "span" in one.notes] == ["forward"]


def test_a_run_without_spans_is_refused_and_nothing_is_written(tmp_path):
    record = made_of(tmp_path, lambda log: None, "failed")
    with pytest.raises(RecordError, match="has no spans; the run is failed"):
        write_trace(record, tmp_path / "trace")
    assert not (tmp_path / "trace").exists()


def test_a_file_that_cannot_be_written_is_told_in_a_line(record, tmp_path):
    with pytest.raises(RecordError, match="cannot be written: No such file or directory"):
        write_trace(record, tmp_path / "nowhere" / "trace")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6), st.integers(0, 1)), min_size=1, max_size=30))
def test_lanes_never_overlap_and_are_as_few_as_will_do(drawn):
    starts = np.array([start for start, _, _ in drawn])
    ends = starts + np.array([lasts for _, lasts, _ in drawn])
    resource = np.array([one for _, _, one in drawn])
    tracks = Tracks(["it"])
    lane = tracks.lanes(np.zeros_like(starts), resource, ["left", "right"], starts, ends)
    for number, track in enumerate(tracks.tracks):
        mine = np.flatnonzero(lane == number)
        assert {("left", "right")[one] for one in resource[mine]} == {track.name.split()[0]}
        mine = mine[np.lexsort((ends[mine], starts[mine]))]
        assert (ends[mine][:-1] <= starts[mine][1:]).all()
    for one in np.unique(resource):
        mine = resource == one
        deepest = max(int(((starts <= at) & (ends > at) & mine).sum()) for at in starts[mine])
        assert len(np.unique(lane[mine])) <= deepest + int(((starts == ends) & mine).any())


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**64 - 1), st.floats(allow_nan=False)),
        min_size=1,
    )
)
def test_what_is_put_into_a_shape_is_what_protobuf_reads(rows):
    def make(values):
        packet = TracePacket(timestamp=values[0])
        packet.track_event.flow_ids.append(values[1])
        packet.track_event.double_counter_value = values[2]
        return packet.SerializeToString()

    shape = Shape(["varint", "fixed", "double"], make)
    kinds = (np.int64, np.uint64, np.float64)
    columns = [
        np.array(column, dtype=kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)
    ]
    read_back = [TracePacket.FromString(one) for one in shape.fill(columns)]
    assert [
        (one.timestamp, one.track_event.flow_ids[0], one.track_event.double_counter_value)
        for one in read_back
    ] == rows
