"""An engine that makes the runs of a study in this process, for tests that ask nothing of processes."""

from collections.abc import Iterator
from pathlib import Path

from cosim.studies.engines import RequestQueue
from cosim.studies.execute import RunOutcome, perform


class Here:
    """One worker: this process. It saves the seconds that another one takes to import what runs need."""

    num_workers = 1

    def __init__(self, num_workers: int, log: Path) -> None:
        """Take what :class:`~cosim.studies.engines.processes.Processes` takes."""

    def perform(self, requests: RequestQueue) -> Iterator[RunOutcome]:
        """Return the outcome of every request, one after the other."""
        while (request := requests.take()) is not None:
            yield perform(request)

    def close(self) -> None:
        """Nothing goes on that could be stopped."""
