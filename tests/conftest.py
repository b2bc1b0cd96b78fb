"""Fixtures of more than one room: a clock, a log, and a scenario so small that a run takes no time."""

import gc
import logging
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # works are small here, and tests run side by side
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # workers and children would compile the same code again

from collections.abc import Generator, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from here import Here

from cosim.kernel.clock import Clock
from cosim.learning.base.random import RandomBase
from cosim.record.log import Log
from cosim.testing.plugin import play, tiny_scenario, tokenizer_path  # noqa: F401 -- fixtures

hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.load_profile("same")  # same commit, same tests; others: --hypothesis-profile=default


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for no examples in docstrings of tests: there are none, and looking takes seconds."""
    found = yield
    is_test = file_path.name.startswith("test_")
    return [one for one in found if isinstance(one, pytest.Module)] if is_test else found


def pytest_sessionstart() -> None:
    """Collect no garbage while tests are collected: what is loaded for them stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what was loaded.

    Torch's loggers hand on what they say: to give each of fifty a handler takes longer than many a test.
    """
    for name, one in logging.root.manager.loggerDict.items():
        if name.startswith("torch.") and isinstance(one, logging.Logger):
            one.propagate = True
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _store_of_the_tests(tmp_path_factory) -> Iterator[None]:
    """Let no test read or write the store of whoever runs them, child processes included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSIM_STORE", str(tmp_path_factory.mktemp("store of the tests")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _models_drawn_once() -> Iterator[None]:
    """Let trainings of one random base get copies of a model that was drawn once; ``load`` itself draws."""
    drawn: dict[str, Any] = {}

    def pieces(self: RandomBase, *use: Any) -> Any:
        key = repr((self.content_key(), use))
        if key not in drawn:
            drawn[key] = self.load(*use)
        return deepcopy(drawn[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RandomBase, "pieces", pieces)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Let files go to the disk when the system likes; a process that is killed has written them anyway."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _coarse_pictures() -> Iterator[None]:
    """Let PNGs have a hundredth of their dots, which take long to press together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cosim.report.publication.DOTS_PER_INCH", 60)
        yield


@pytest.fixture
def here(monkeypatch) -> None:
    """Let the runs of studies be made in this process."""
    monkeypatch.setattr("cosim.studies.run_study.Processes", Here)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Log:
    return Log()
