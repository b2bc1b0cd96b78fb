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
    block_ns = channel.block_ns
    count = 1 if block_ns is None else max(1, -(-seconds_to_ns(until_s) // block_ns))
    content = StringIO(newline="")
    writer = csv.writer(content)
    writer.writerow(("time_s", "client", "link", "gain_db"))
    for link in links:
        for client in range(channel.num_clients):
            gains = channel.gains(link, client, 0, count)
            flat = gains[:, 0] if np.ptp(gains, axis=1).max() == 0.0 else gains.mean(axis=1)
            for block, gain_db in enumerate(linear_to_db(flat).tolist()):
                writer.writerow((block * (block_ns or 0) / NS_PER_S, client, link, gain_db))
    write_whole(file, content.getvalue().encode())
