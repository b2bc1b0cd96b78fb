"""Queues in order of arrival, for many channels at once: ties go to the first row."""

from collections.abc import Callable

import numpy as np

from cosim.units import Ints


def served(asked_ns: Ints, durations_ns: Ints, capacity: int) -> Ints:
    """Return when each request begins at ``capacity`` places, first come first served, ns.

    Parameters
    ----------
    asked_ns
        Shape (num_requests, num_channels), rows in the order in which ties are served.
    durations_ns
        How long each is served, shape (num_requests,).

    Examples
    --------
    >>> served(np.array([[5], [0], [5]]), np.array([2, 6, 1]), 1).ravel().tolist()
    [6, 0, 8]
    """
    order = np.argsort(asked_ns, axis=0, kind="stable")
    asked = np.take_along_axis(asked_ns, order, axis=0)  # (requests, channels), by arrival
    lasts = durations_ns[order]
    starts = np.empty_like(asked)
    if capacity == 1:
        before = np.cumsum(lasts, axis=0) - lasts
        starts[:] = np.maximum.accumulate(asked - before, axis=0) + before
    else:
        free = np.zeros((capacity, asked.shape[1]), dtype=np.int64)
        channels = np.arange(asked.shape[1])
        for number in range(len(asked)):
            place = free.argmin(axis=0)
            starts[number] = np.maximum(asked[number], free[place, channels])
            free[place, channels] = starts[number] + lasts[number]
    found = np.empty_like(starts)
    np.put_along_axis(found, order, starts, axis=0)
    return found


def taken_in_turn(asked_ns: Ints, finish: Callable[[Ints, Ints], Ints]) -> tuple[Ints, Ints]:
    """Return when each transfer over a band that one has at a time begins and ends, ns.

    Parameters
    ----------
    asked_ns
        Shape (num_transfers, num_channels), rows in the order in which ties are served.
    finish
        ``finish(rows, start_ns)``: ends of one transfer in each channel, both of shape (num_channels,).
    """
    order = np.argsort(asked_ns, axis=0, kind="stable")
    starts, ends = np.empty_like(asked_ns), np.empty_like(asked_ns)
    channels, free_ns = np.arange(asked_ns.shape[1]), np.zeros(asked_ns.shape[1], dtype=np.int64)
    for rows in order:  # the next in each channel
        start_ns = np.maximum(asked_ns[rows, channels], free_ns)
        free_ns = finish(rows, start_ns)
        starts[rows, channels], ends[rows, channels] = start_ns, free_ns
    return starts, ends
