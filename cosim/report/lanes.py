"""A small lane chart for a terminal: who computed, who was on the air, who waited."""

import numpy as np
from rich.console import Console

from cosim.report.chart import Chart, Lane
from cosim.report.quantities import duration
from cosim.report.spans import is_client
from cosim.report.terminal import say

_WIDTH = 64
_MOST_LANES = 12
_COMPUTING, _ON_AIR, _WAITING = "█", "░", "·"


def show(shown: Chart, console: Console) -> None:
    """Print a chart's lanes, a character for what took most of its stretch of time."""
    lanes = shown.lanes
    if not lanes or shown.to_ns <= shown.from_ns:
        return
    say(console, shown.title)
    if len(lanes) > _MOST_LANES:
        lanes = (*lanes[: _MOST_LANES - 2], *lanes[-2:])
    left_out = shown.num_clients - sum(is_client(lane.actor) for lane in lanes)
    width = max(len(lane.label) for lane in lanes)
    for lane in lanes:
        say(console, f"{lane.label:<{width}} {lane_text(lane, shown.from_ns, shown.to_ns)}")
    begin, end = duration(shown.from_ns), duration(shown.to_ns)
    say(console, f"{'':<{width}} {begin:<{_WIDTH - len(end)}}{end}")
    rest = f"; {left_out} more clients" if left_out > 0 else ""
    say(console, f"{'':<{width}} {_COMPUTING} computing  {_ON_AIR} on air  {_WAITING} waiting{rest}")


def lane_text(lane: Lane, begin_ns: int, end_ns: int, width: int = _WIDTH) -> str:
    """Return one lane as ``width`` characters between two instants."""
    edges = np.linspace(begin_ns, end_ns, width + 1)
    taken = np.zeros((2, width))
    for bars in lane.bars:
        for start, stop in zip(bars.start_ns.tolist(), bars.end_ns.tolist(), strict=True):
            covered = np.clip(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0.0, None)
            taken[int(bars.is_transfer)] += covered
    step = (end_ns - begin_ns) / width
    waiting = step - taken.sum(axis=0)
    marks = np.array([_COMPUTING, _ON_AIR, _WAITING])
    return "".join(marks[np.argmax(np.vstack([taken, waiting]), axis=0)])
