"""Programs in processes of their own, each forked from one that has loaded what they need.

A fresh interpreter takes seconds to import torch, transformers and PEFT.
"""

import multiprocessing
import os
import selectors
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from cosim.studies.engines.processes import Processes, _Worker
from cosim.studies.worker import main as work


def server() -> ForkServerContext:
    """Return what starts such processes; one for all tests of this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["heavy", "forked"])
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)  # Python 3.11 preloads from nowhere else
        forkserver.ensure_running()
    return context


class Program:
    """A program that prints to files of a folder; otherwise like :class:`subprocess.Popen`."""

    def __init__(self, program: Callable[[], Any], arguments: Sequence[object], place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        number = len(list(place.glob("stdout-*")))
        self._printed = [place / f"{name}-{number}" for name in ("stdout", "stderr")]
        for path in self._printed:
            path.touch()
        given = program, list(map(str, arguments)), self._printed, dict(os.environ)
        self._process = server().Process(target=_run, args=given)
        self._process.start()
        self.pid = self._process.pid
        self.kill = self._process.kill

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def wait(self, timeout: float = 120.0) -> int:
        self._process.join(timeout)
        assert self.returncode is not None, f"still runs after {timeout} s"
        return self.returncode

    def wait_for(self, beginning: str) -> None:
        """Wait until a line on stderr begins so, or the process has ended."""
        while f"\n{beginning}" not in f"\n{self.stderr()}" and self.poll() is None:
            time.sleep(0.005)

    def communicate(self, timeout: float = 120.0) -> tuple[str, str]:
        """Return what it has printed when it has ended."""
        self.wait(timeout)
        return self.stdout(), self.stderr()

    def stdout(self) -> str:
        return self._printed[0].read_text(encoding="utf-8")

    def stderr(self) -> str:
        return self._printed[1].read_text(encoding="utf-8")

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


class Workers(Processes):
    """Workers of a study that are forked, and the same in all else."""

    def _start(self) -> _Worker:
        worker = _Worker(_Piped(self._log))
        self._workers.append(worker)
        self._selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
        return worker


class _Piped:
    """A forked worker with pipes to its stdin and from its stdout, like :class:`subprocess.Popen`."""

    def __init__(self, log: Path) -> None:
        context = server()
        tasks, given = context.Pipe(duplex=False)
        answers, made = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(tasks, made, log))
        self._process.start()
        self.stdin, self.stdout = (
            os.fdopen(os.dup(one.fileno()), mode, buffering=0)
            for one, mode in ((given, "wb"), (answers, "rb"))
        )
        for one in (tasks, given, answers, made):
            one.close()
        self.kill = self._process.kill

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> None:
        self._process.join()


def _work(tasks: Connection, made: Connection, log: Path) -> None:
    for number, pipe in enumerate((tasks, made)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    work()


def cosim() -> None:
    from cosim.cli import main

    main()


def dask() -> None:
    from dask.__main__ import main

    main()


def python() -> None:
    """Run a script that is the only argument."""
    exec(sys.argv[1], {"__name__": "__main__"})


def _run(
    program: Callable[[], Any], arguments: list[str], printed: list[Path], environment: dict[str, str]
) -> None:
    for number, path in enumerate(printed, start=1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program.__name__, *arguments]
    program()
