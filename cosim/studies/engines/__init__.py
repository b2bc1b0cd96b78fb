"""Engines: where the runs of a study are made."""

from collections.abc import Iterator
from typing import Protocol

from cosim.studies.execute import RunOutcome, RunRequest


class RequestQueue(Protocol):
    """Hands out requests; each is asked for when somebody is free to begin it."""

    @property
    def is_single(self) -> bool:
        """Whether there is one request in all."""

    def take(self) -> RunRequest | None:
        """Return the next request; None while none may begin, and for good once all have ended."""


class Engine(Protocol):
    """Makes runs, several at a time."""

    @property
    def num_workers(self) -> int:
        """How many runs go on at a time."""

    def perform(self, requests: RequestQueue) -> Iterator[RunOutcome]:
        """Return the outcome of every request of a queue, in whatever order they end.

        Raises
        ------
        CosimError
            If there is nobody left to make them.
        """

    def close(self) -> None:
        """Stop whatever still goes on."""


MOST_DEATHS = 3
"""A run is given up after this many workers died of it."""
