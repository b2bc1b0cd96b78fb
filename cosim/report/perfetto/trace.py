"""A run as a trace: what goes on which track, and the file."""

from pathlib import Path

import numpy as np

from cosim.errors import RecordError
from cosim.files import check_output, output_faults, replacing
from cosim.record.folder import Record
from cosim.report.air import Air
from cosim.report.graph import critical_path
from cosim.report.perfetto.samples import counters
from cosim.report.perfetto.tracks import Tracks, span_lanes
from cosim.report.perfetto.writer import Writer
from cosim.report.spans import Spans
from cosim.units import Ints


def write_trace(record: Record, path: Path, air: Air | None = None, *, force: bool = False) -> None:
    """Write a run as a Perfetto trace; a run that failed as far as it came, and marked.

    Parameters
    ----------
    record
        The run.
    path
        The file, written whole or not at all.
    air
        The air the run met; without it there are no counters of SNR.
    force
        Replace a file that is there.

    Raises
    ------
    RecordError
        If the run has no spans or cannot be read, the file is there already or
        cannot be written, or the package ``perfetto`` is not installed.
    """
    check_output(path, force=force)
    spans = Spans.of(record)
    if not len(spans):
        raise RecordError(f"{record.path}: has no spans; the run is {record.status}.")
    run = len(spans.actors)
    tracks = Tracks([*spans.actors, _title(record)])
    first_round, round_lane, *round_times = _rounds(tracks, spans, run)
    path_lane = tracks.add(run, "critical path")
    lane = span_lanes(tracks, spans)
    samples = counters(tracks, record, spans, air, run)
    on_path = critical_path(spans)
    names = [*spans.names, *(f"round {first_round + number}" for number in range(len(round_lane)))]
    with output_faults(path), replacing(path) as file:
        writer = Writer(file)
        writer.describe(tracks, names)
        writer.slices(round_lane, len(spans.names) + np.arange(len(round_lane)), *round_times)
        path_times = spans.start_ns[on_path], spans.end_ns[on_path]
        writer.slices(np.full(len(on_path), path_lane), spans.name[on_path], *path_times)
        writer.spans(spans, lane, on_path)
        for some in samples:
            writer.samples(some)


def _title(record: Record) -> str:
    title = f"{record.manifest.get('name', record.path.name)}, seed {record.manifest.get('seed', 0)}"
    return title if record.status == "complete" else f"{title} ({record.status})"


def _rounds(tracks: Tracks, spans: Spans, run: int) -> tuple[int, Ints, Ints, Ints]:
    """Add the lane of rounds; returns the number of the first, and lane, begin and end of each, ns."""
    first = int(spans.round.min())
    count = int(spans.round.max()) - first + 1
    begin_ns = np.full(count, np.iinfo(np.int64).max)
    end_ns = np.zeros(count, dtype=np.int64)
    np.minimum.at(begin_ns, spans.round - first, spans.asked_ns)
    np.maximum.at(end_ns, spans.round - first, spans.end_ns)
    begin_ns = np.minimum(begin_ns, end_ns)  # a round without spans has no length
    nothing = np.zeros(count, dtype=np.int64)
    return first, tracks.lanes(nothing + run, nothing, ["round"], begin_ns, end_ns), begin_ns, end_ns
