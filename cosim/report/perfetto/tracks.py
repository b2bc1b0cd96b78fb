"""The lanes and counters of a trace: which exist, beneath whom, and what goes on each of them."""

import heapq
from dataclasses import dataclass, field

import numpy as np

from cosim.report.spans import Spans
from cosim.units import Floats, Ints


@dataclass(frozen=True)
class Track:
    """A lane of slices or, with a ``unit``, a counter; ``process`` numbers what it belongs to."""

    process: int
    name: str
    unit: str | None = None


@dataclass(frozen=True, eq=False)
class Samples:
    """What the counters show: at ``time_ns`` the counter on ``track`` becomes ``value``; all of one shape."""

    track: Ints
    time_ns: Ints
    value: Floats


@dataclass(eq=False)
class Tracks:
    """All tracks of a trace; a track is known by its number.

    Attributes
    ----------
    processes
        Names of what tracks belong to.
    tracks
        In the order in which they are shown.
    """

    processes: list[str]
    tracks: list[Track] = field(default_factory=list)

    def add(self, process: int, name: str, unit: str | None = None) -> int:
        """Add one track and return its number."""
        self.tracks.append(Track(process, name, unit))
        return len(self.tracks) - 1

    def lanes(self, process: Ints, resource: Ints, names: list[str], start_ns: Ints, end_ns: Ints) -> Ints:
        """Add the lanes some slices need and return the track of each, shape (num_slices,).

        Slices of one resource that overlap go to lanes of their own, of which as
        few are made as will do.

        Parameters
        ----------
        process, resource
            Whose each slice is, and on what of theirs it went on, shape (num_slices,).
        names
            What the resources are called.
        start_ns, end_ns
            From when to when, shape (num_slices,).
        """
        key = process * len(names) + resource
        order = np.lexsort((end_ns, start_ns, key))
        different, begins = np.unique(key[order], return_index=True)
        track = np.zeros(len(key), dtype=np.int64)
        for which, mine in zip(different.tolist(), np.split(order, begins[1:]), strict=False):
            whose, what = divmod(which, len(names))
            lane = _lanes_of(start_ns[mine], end_ns[mine])
            numbers = [
                self.add(whose, names[what] if not number else f"{names[what]} {number + 1}")
                for number in range(int(lane.max()) + 1)
            ]
            track[mine] = np.array(numbers)[lane]
        return track


def _lanes_of(start_ns: Ints, end_ns: Ints) -> Ints:
    """Return a lane for each slice, by order of start, so that those of one lane never overlap."""
    lane = np.zeros(len(start_ns), dtype=np.int64)
    if (start_ns[1:] >= end_ns[:-1]).all():
        return lane
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    for row, (start, end) in enumerate(zip(start_ns.tolist(), end_ns.tolist(), strict=True)):
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane[row] = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, int(lane[row])))
    return lane


def span_lanes(tracks: Tracks, spans: Spans) -> Ints:
    """Add the lanes of a run and return the track of each span; process ``n`` is actor ``n``.

    A computation is on the track of its device, a transfer on that of its client. What several
    clients send or receive at once is one slice, on a track of the server: a slice is a span, so
    sums over slices are right.
    """
    process = np.where(spans.is_transfer & (spans.client >= 0), spans.client, spans.actor)
    names = ["compute", *(link.replace("_", " ") for link in spans.links)]
    return tracks.lanes(process, spans.link + 1, names, spans.start_ns, spans.end_ns)
