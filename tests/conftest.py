"""Fixtures of more than one room: a clock, a log, and a scenario so small that a run takes no time."""

import gc
import logging
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # works are small here, and tests run side by side
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # workers and children would compile the same code again

from collections.abc import Callable, Generator, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from here import Here

from cosim.graph import code_identity
from cosim.kernel.clock import Clock
from cosim.learning import execution
from cosim.learning.base.random import RandomBase
from cosim.learning.data.tokens import TokenCorpus
from cosim.learning.task import Task
from cosim.record.log import Log
from cosim.testing.plugin import play, tiny_scenario, tokenizer_path  # noqa: F401 -- fixtures

# same commit, same tests; others, and thrice as many: --hypothesis-profile=default
hypothesis.settings.register_profile("same", derandomize=True, max_examples=30)
hypothesis.settings.load_profile("same")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for no examples in docstrings below tests: there are none, and looking imports all of them."""
    found = yield
    return [one for one in found if type(one) is pytest.Module]


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
    gc.set_threshold(50_000, 50, 50)
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
def _models_and_texts_loaded_once() -> Iterator[None]:
    """Let runs that one process plays share models and token ids: to compute with them changes nothing."""
    load, tokenise = execution.load_model, TokenCorpus._tokenise

    def key_of(task: Task, lora_rank: int) -> str:
        model, trainable = task.model, task.trainable.of_rank(lora_rank)
        use = task.shape.task, task.shape.num_labels, model.dtype, model.autocast, model.torch_device
        # stacked clients go through a model in other steps, so it is another one
        return repr((model.base, task.model_hash, trainable, use, task.training.executor, task.seed))

    def loaded(task: Task, lora_rank: int) -> Any:
        if task.model.base.content_key() != task.model_hash:
            return load(task, lora_rank)  # refuses it
        return _once(models, key_of(task, lora_rank), lambda: load(task, lora_rank))

    def tokenised(self: TokenCorpus, name: str, examples: Any) -> Any:
        return _once(texts, (self.content_key, name), lambda: tokenise(self, name, examples))

    models: dict[Any, Any] = {}
    texts: dict[Any, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "load_model", loaded)
        patch.setattr(TokenCorpus, "_tokenise", tokenised)
        yield


def _once(known: dict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
    """Return what is known, or else made; the oldest of many is forgotten."""
    if key not in known:
        made = make()
        if len(known) >= 32:
            del known[next(iter(known))]
        known[key] = made
    return known[key]


@pytest.fixture(scope="session", autouse=True)
def _own_code_stays() -> Iterator[None]:
    """Look at each file of cosim itself once: no test edits one, but copies of them."""
    own, stamp, known = str(Path(code_identity.__file__).parents[1]), code_identity._stamp, {}

    def stamped(path: str) -> Any:
        if not path.startswith(own):
            return stamp(path)
        if path not in known:
            known[path] = stamp(path)
        return known[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_identity, "_stamp", stamped)
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
