"""What a run would save if one device or one link were faster."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from cosim.report.graph import Causes, critical_path, retimed
from cosim.report.spans import Spans


@dataclass(frozen=True)
class Saving:
    """What a run would save with one device, or one client's link, ``speed`` times faster.

    ``link`` is empty for a device.
    """

    actor: str
    link: str
    speed: float
    length_ns: int
    saved_ns: int


def savings(spans: Spans, speed: float = 2.0, most: int = 8) -> tuple[Saving, ...]:
    """Return what the run would save if one thing were faster, the largest saving first.

    Only what is on the critical path can save anything; of that, the ``most``
    that took the longest are tried. For what a forecast takes for granted see
    :func:`cosim.report.graph.retimed`.
    """
    path = critical_path(spans)
    owner = np.where(spans.is_transfer & (spans.client >= 0), spans.client, spans.actor)
    on_path: dict[tuple[int, int], int] = defaultdict(int)
    for span, lasts_ns in zip(path.tolist(), spans.duration_ns[path].tolist(), strict=True):
        on_path[int(owner[span]), int(spans.link[span])] += lasts_ns
    causes, carries = Causes.of(spans), ~spans.is_transfer | (spans.bits > 0)  # no link hurries a latency
    before_ns = int(spans.end_ns.max()) if len(spans) else 0
    found = []
    for actor, link in sorted(on_path, key=lambda key: (-on_path[key], key))[:most]:
        if not on_path[actor, link]:
            continue
        chosen = carries & (owner == actor) & (spans.link == link)
        after_ns = retimed(spans, np.where(chosen, speed, 1.0), causes).length_ns
        found.append(
            Saving(
                spans.actors[actor],
                spans.links[link] if link >= 0 else "",
                speed,
                after_ns,
                before_ns - after_ns,
            )
        )
    return tuple(sorted(found, key=lambda one: -one.saved_ns))
