"""A channel written down as a trace, to be replayed or looked at."""

import csv
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

import numpy as np

from cosim.files import write_whole
from cosim.radio.channel import Channel
from cosim.units import NS_PER_S, linear_to_db, seconds_to_ns


def write_trace(channel: Channel, links: Iterable[str], until_s: float, file: Path) -> None:
    """Write the gain of every client on some links, block by block, as a CSV file of ``gain_db``.

    A block has one row, so replayed with ``kind = "gain"`` it is the same channel to the last block
    before ``until_s``. Where subchannels differ it is the mean of their gains.
    """
    content = StringIO(newline="")
    writer = csv.writer(content)
    writer.writerow(("time_s", "client", "link", "gain_db"))
    count = num_blocks(channel, seconds_to_ns(until_s))
    for link in links:
        for client in range(channel.num_clients):
            times_s, gains_db = block_times_s(channel, count), gains_db_of(channel, link, client, count)
            writer.writerows((at_s, client, link, db) for at_s, db in zip(times_s, gains_db, strict=True))
    write_whole(file, content.getvalue().encode())


def num_blocks(channel: Channel, until_ns: int) -> int:
    """Return how many blocks a channel has until an instant, ns; one if it holds still."""
    return 1 if channel.block_ns is None else max(1, -(-until_ns // channel.block_ns))


def block_times_s(channel: Channel, count: int) -> list[float]:
    """Return when the first blocks begin, s."""
    return [block * (channel.block_ns or 0) / NS_PER_S for block in range(count)]


def gains_db_of(channel: Channel, link: str, client: int, count: int) -> list[float]:
    """Return the gain of a client in the first blocks, dB: the mean where subchannels differ."""
    gains = channel.gains(link, client, 0, count)
    flat = gains[:, 0] if np.ptp(gains, axis=1).max() == 0.0 else gains.mean(axis=1)
    found: list[float] = linear_to_db(flat).tolist()
    return found
