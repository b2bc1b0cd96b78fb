"""Engines: where the runs of a study are made."""

from collections.abc import Iterator
from typing import Protocol

from cosim.study.play import Outcome, Task


class Agenda(Protocol):
    """Hands out tasks; each is asked for when somebody is free to begin it."""

    def take(self) -> Task | None:
        """Return the next task; None while there is none that may begin, and for good once all have ended."""


class Engine(Protocol):
    """Makes runs, several at a time."""

    @property
    def num_workers(self) -> int:
        """How many runs go on at a time."""

    def perform(self, agenda: Agenda) -> Iterator[Outcome]:
        """Return the outcome of every task of an agenda, in whatever order they end.

        Raises
        ------
        CosimError
            If there is nobody left to make them.
        """

    def close(self) -> None:
        """Stop whatever still goes on."""


MOST_DEATHS = 3
"""A run is given up after this many workers died of it."""
