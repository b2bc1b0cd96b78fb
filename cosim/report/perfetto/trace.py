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
from cosim.report.perfetto.writer import Writer, texts_of
from cosim.report.rounds import Rounds
from cosim.report.spans import Spans, length_ns


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
        raise RecordError(f"{record.path}: has no spans; the run is {record.state}.")
    run = len(spans.actors)
    tracks = Tracks([*spans.actors, _title(record)])
    rounds = Rounds.of(record, length_ns(record, spans))
    nothing = np.zeros(len(rounds), dtype=np.int64)
    round_lane = tracks.lanes(nothing + run, nothing, ["rounds"], rounds.start_ns, rounds.end_ns)
    path_lane = tracks.add(run, "critical path")
    lane = span_lanes(tracks, spans)
    samples = counters(tracks, record, spans, air, run)
    on_path = critical_path(spans)
    names = [*spans.names, *rounds.labels]
    with output_faults(path), replacing(path) as file:
        writer = Writer(file)
        writer.describe(tracks, names, texts_of(spans))
        round_names = len(spans.names) + np.arange(len(rounds))
        writer.slices(round_lane, round_names, rounds.start_ns, rounds.end_ns)
        path_times = spans.start_ns[on_path], spans.end_ns[on_path]
        writer.slices(np.full(len(on_path), path_lane), spans.name[on_path], *path_times)
        writer.spans(spans, lane, on_path)
        for some in samples:
            writer.samples(some)


def _title(record: Record) -> str:
    title = f"{record.manifest.get('name', record.path.name)}, seed {record.manifest.get('seed', 0)}"
    return title if record.status == "complete" else f"{title} ({record.state})"
