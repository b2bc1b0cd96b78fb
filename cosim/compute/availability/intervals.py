"""Clients that come and go as a file says."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from cosim.columns import read_columns, stamp_of
from cosim.compute.availability import Availability
from cosim.errors import ScenarioError
from cosim.kernel.job import NEVER_NS
from cosim.kernel.presence import Away
from cosim.rng import Stream
from cosim.units import NS_PER_S

_PLACE = "availability.file"


class Intervals(Availability):
    """Times away from a CSV or Parquet file.

    It has the columns ``client`` (from 0), ``away_s`` and ``back_s``. The rows of a client are in order
    of time, each after the one before; without ``back_s`` it stays away. A client without rows
    always is there.
    """

    kind: Literal["intervals"] = "intervals"
    file: Path
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"file": "away.csv"},)

    def times_away(self, client: int, stream: Stream) -> Iterator[Away]:
        return iter(self._read().get(client, (0, ()))[1])

    def check(self, num_clients: int) -> None:
        for client, (line, _) in self._read().items():
            if client >= num_clients:
                raise ScenarioError(
                    f"{_PLACE}: {self.file}, line {line}: there is no client {client}; there are clients "
                    f"0 to {num_clients - 1}, so leave its rows out or set clients.count."
                )

    @property
    def told(self) -> str:
        """When clients are there, in words."""
        read = self._read()
        times = sum(len(away) for _, away in read.values())
        return f"{self.file.name} has {len(read)} client(s) away {times} time(s)"

    def _read(self) -> Mapping[int, tuple[int, tuple[Away, ...]]]:
        return _read(self.file, stamp_of(self.file))


@lru_cache(maxsize=8)
def _read(file: Path, stamp: tuple[int, int]) -> Mapping[int, tuple[int, tuple[Away, ...]]]:
    """Return the first line of each client, and its times away."""
    columns = read_columns(file, _PLACE, ("client", "away_s", "back_s"))
    clients, away_s, back_s = (
        columns.clients(),
        columns.numbers("away_s"),
        columns.numbers("back_s", empty=np.inf),
    )
    found: dict[int, list[Away]] = {}
    lines: dict[int, int] = {}
    for row, client in enumerate(clients.tolist()):
        before = found.setdefault(client, [])
        lines.setdefault(client, columns.lines[row])
        leaves_ns = round(away_s[row] * NS_PER_S)
        back_ns = NEVER_NS if np.isinf(back_s[row]) else round(back_s[row] * NS_PER_S)
        if leaves_ns < 0 or back_ns <= leaves_ns:
            raise ScenarioError(
                f"{columns.at(row)}: client {client} is away from {away_s[row]:g} to {back_s[row]:g} s; it "
                "must leave at 0 s or later and come back after that, or never, with an empty back_s."
            )
        if before and leaves_ns <= before[-1].back_ns:
            raise ScenarioError(
                f"{columns.at(row)}: client {client} leaves at {away_s[row]:g} s, and is back from the time "
                f"before at {before[-1].back_ns / NS_PER_S:g} s; sort its rows, and join those that touch."
            )
        before.append(Away(leaves_ns, back_ns))
    return {client: (lines[client], tuple(away)) for client, away in found.items()}
