"""Level of detail of figures: stacks of shares where spans are too many to be seen one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cosim.report.span_style import span_style
from cosim.units import Floats, Ints

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HATCH_COLOUR = "#333333"
WAITING_COLOUR = "#E3E3E3"
_MOST_AN_INCH = 20.0
"""Spans of one actor that can be told apart on an inch."""

_SPANS_A_BIN, _BINS_AN_INCH, _LEAST_BINS = 12.0, 50.0, 8


@dataclass(frozen=True, eq=False)
class Part:
    """The spans of one name: from when to when each goes on, ns, shape (num_spans,)."""

    name: str
    is_transfer: bool
    start_ns: Ints
    end_ns: Ints


def occupancy(start_ns: Ints, end_ns: Ints, edges_ns: Floats) -> Floats:
    """Return how many intervals go on at a time, on average between edges, shape (num_edges - 1,).

    Examples
    --------
    >>> occupancy(np.array([0, 5]), np.array([10, 10]), np.array([0.0, 5.0, 10.0, 20.0])).tolist()
    [1.0, 2.0, 0.0]
    """

    def until(times_ns: Ints) -> Floats:
        ordered = np.sort(times_ns).astype(np.float64)
        sums = np.concatenate([[0.0], np.cumsum(ordered)])
        count = np.searchsorted(ordered, edges_ns)
        return np.asarray(count * edges_ns - sums[count])

    return np.asarray(np.diff(until(start_ns) - until(end_ns)) / np.diff(edges_ns))


def is_crowded(num_spans: float, width_in: float) -> bool:
    """Return whether an actor has more spans than can be told apart on such a width."""
    return num_spans > _MOST_AN_INCH * width_in


def bin_edges(window_ns: tuple[int, int], num_spans: float, width_in: float) -> Floats:
    """Return the bins shares are taken over, ns: each holds about a dozen spans of an actor.

    Finer bins would show the beat of bins and spans, not what was done. Where the spans of an
    actor can be told apart, bins are as fine as print.
    """
    crowded = is_crowded(num_spans, width_in)
    wanted = num_spans / _SPANS_A_BIN if crowded else _BINS_AN_INCH * width_in
    number = int(np.clip(wanted, _LEAST_BINS, _BINS_AN_INCH * max(width_in, 1.0)))
    return np.linspace(window_ns[0], max(window_ns[1], window_ns[0] + 1), number + 1)


def draw_stack(
    axes: "Axes",
    parts: Sequence[Part],
    names: Sequence[str],
    edges_ns: Floats,
    *,
    scale: float,
    bottom: float,
    height: float,
    most: float = 1.0,
    zorder: float = 2.0,
) -> None:
    """Stack how many spans of each part go on at a time, on average over each bin.

    Parameters
    ----------
    names
        All that the figure shows, in the order of the stack; they decide the colours.
    edges_ns
        Of the bins.
    scale
        Nanoseconds to a unit of the axis.
    bottom, height
        Where the stack begins, and how high ``most`` spans at once are, in units of the axis.
        What goes beyond ``most`` makes its bin smaller throughout, so that parts stay shares.
    """
    found = {one.name: (one, occupancy(one.start_ns, one.end_ns, edges_ns)) for one in parts}
    total = np.sum([share for _, share in found.values()], axis=0) if found else np.zeros(1)
    unit = height / np.maximum(total, most)
    base = np.zeros(len(edges_ns) - 1)
    for name in names:
        if name not in found or not found[name][1].any():
            continue
        part, share = found[name]
        drawn = span_style(name, part.is_transfer, names)
        axes.stairs(
            bottom + (base + share) * unit,
            edges_ns / scale,
            baseline=bottom + base * unit,
            fill=True,
            facecolor=drawn.colour,
            edgecolor=HATCH_COLOUR,
            hatch=drawn.hatch or None,
            linewidth=0.0,
            zorder=zorder,
        )
        base = base + share
