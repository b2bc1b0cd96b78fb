"""Processes of this machine, each started once for many runs."""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cosim.cores import SHARE, cores, wait_briefly
from cosim.errors import CosimError
from cosim.graph.processes import threads
from cosim.studies.engines import MOST_DEATHS, RequestQueue
from cosim.studies.execute import RunOutcome, RunRequest, perform

_ROOT = Path(__file__).parents[3]
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from cosim.studies.worker import main; main()"


class NoWorkerError(CosimError):
    """Workers die before they have done anything."""

    exit_status = 1


@dataclass
class _Worker:
    process: "subprocess.Popen[bytes]"
    request: RunRequest | None = None
    received: bytearray = field(default_factory=bytearray)
    has_answered: bool = False


class Processes:
    """Workers on this machine.

    They are started as programs rather than forked or spawned, so that it does
    not matter what the process they are started from has loaded, or whether its
    ``__main__`` may be imported. One that dies is replaced, and its run is made again.

    Parameters
    ----------
    num_workers
        How many.
    log
        Where what they print goes.
    """

    def __init__(self, num_workers: int, log: Path) -> None:
        self.num_workers = num_workers
        self._log = log
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._deaths: dict[tuple[int, int], int] = {}
        self._num_stillborn = 0

    def perform(self, requests: RequestQueue) -> Iterator[RunOutcome]:
        """Return the outcome of every request, in the order in which they end.

        One that is alone is done in this process, with a worker's threads: another process takes seconds
        to start.
        """
        if requests.is_single and (alone := requests.take()) is not None:
            with nullcontext() if alone.timing_only else threads(threads_each(self.num_workers)):
                outcome = perform(alone)
            yield outcome
            return
        again: list[RunRequest] = []

        def next_request() -> RunRequest | None:
            return again.pop() if again else requests.take()

        while True:
            self._hand_out(next_request)
            if all(worker.request is None for worker in self._workers):
                return
            for key, _ in self._selector.select():
                worker: _Worker = key.data
                for outcome in self._read(worker):
                    self._give(worker, next_request())
                    yield outcome
                if worker not in self._workers and worker.request is not None:  # it died
                    outcome_or_request = self._after_death(worker, worker.request)
                    if isinstance(outcome_or_request, RunRequest):
                        again.append(outcome_or_request)
                    else:
                        yield outcome_or_request

    def close(self) -> None:
        """End every worker, whatever it is at."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            self._bury(worker)
        self._workers.clear()
        with suppress(OSError):
            if self._log.stat().st_size == 0:
                self._log.unlink()

    def _hand_out(self, next_request: Any) -> None:
        """Give everybody idle a request, and start who is missing while there are requests."""
        for worker in self._workers:
            if worker.request is None:
                self._give(worker, next_request())
        while len(self._workers) < self.num_workers:
            request = next_request()
            if request is None:
                return
            worker = self._start()
            self._give(worker, request)

    def _start(self) -> _Worker:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(_ROOT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(self.num_workers),
            )
        worker = _Worker(process)
        self._workers.append(worker)
        self._selector.register(_pipe(process.stdout), selectors.EVENT_READ, worker)
        return worker

    def _give(self, worker: _Worker, request: RunRequest | None) -> None:
        worker.request = request
        if request is None:
            return
        stdin = _pipe(worker.process.stdin)
        with suppress(BrokenPipeError):  # it has died, and its stdout is about to tell
            stdin.write(json.dumps(vars(request)).encode() + b"\n")
            stdin.flush()

    def _read(self, worker: _Worker) -> list[RunOutcome]:
        """Return what a worker has answered; one that has died is taken out."""
        content = os.read(_pipe(worker.process.stdout).fileno(), 1 << 20)
        if not content:
            self._workers.remove(worker)
            self._bury(worker)
            return []
        worker.received += content
        *lines, rest = bytes(worker.received).split(b"\n")
        worker.received[:] = rest
        worker.has_answered |= bool(lines)
        return [_outcome(json.loads(line)) for line in lines]

    def _after_death(self, worker: _Worker, request: RunRequest) -> RunRequest | RunOutcome:
        """Return a dead worker's request, to be done again, or its failure.

        Raises
        ------
        NoWorkerError
            If no worker lives long enough to do anything.
        """
        status = worker.process.returncode
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        if not worker.has_answered:
            self._num_stillborn += 1
        if self._num_stillborn >= MOST_DEATHS * max(2, self.num_workers):
            raise NoWorkerError(
                f"workers die before they have done anything ({how}){_last_line(self._log)}; see {self._log}."
            )
        run = (request.case, request.replication)
        self._deaths[run] = self._deaths.get(run, 0) + 1
        if self._deaths[run] < MOST_DEATHS:
            return request
        return RunOutcome(
            request.case,
            request.replication,
            reason=f"{MOST_DEATHS} workers died of it, the last one: {how}",
        )

    def _bury(self, worker: _Worker) -> None:
        self._selector.unregister(_pipe(worker.process.stdout))
        for pipe in (worker.process.stdin, worker.process.stdout):
            with suppress(BrokenPipeError):
                _pipe(pipe).close()
        worker.process.wait()


def threads_each(num_workers: int) -> int:
    """Return how many threads torch has in each of so many workers; no more than ``OMP_NUM_THREADS``."""
    each = max(1, cores() // num_workers)
    told = os.environ.get("OMP_NUM_THREADS", "")
    return min(each, int(told)) if told.isdecimal() and int(told) > 0 else each


def _environment(num_workers: int) -> dict[str, str]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads_each(num_workers)),
        SHARE: str(max(1, cores() // num_workers)),
        "OPENBLAS_NUM_THREADS": "1",
    }
    wait_briefly(environment)
    return environment


def _outcome(given: dict[str, Any]) -> RunOutcome:
    losses = tuple((time_s, round_, loss, task) for time_s, round_, loss, task in given["losses"])
    return RunOutcome(**{**given, "values": tuple(given["values"]), "losses": losses})


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _last_line(log: Path) -> str:
    """Return the last line of what workers printed, as the end of a message."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    told = [line.strip() for line in lines if line.strip()]
    return f"; it said: {told[-1][:200]}" if told else ""
