"""What the contract tests need of pytest: small scenarios, and the name of the part that fails."""

from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cosim.graph.executor import TimingOnly
from cosim.learning.embedded import grammar
from cosim.plugins import named_class
from cosim.scenario.build import prepare_tasks
from cosim.scenario.load import change
from cosim.scenario.prepared import recipes, worlds
from cosim.scenario.settings import Scenario
from cosim.testing import PART
from cosim.world import World

VOCABULARY_SIZE = 300


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Name the part of another package, its package and its file where a contract test fails."""
    report = yield
    part = getattr(getattr(item, "module", None), PART, None)
    if report.failed and part is not None:
        report.sections.append(("part under test", f"{named_class(part)} breaks the contract of its family"))
    return report


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a byte-level tokenizer that knows a few syllables of the embedded text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    train, _ = grammar.split(grammar.HELD_OUT, 40, 10, 0)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"{one.mr}\n{one.text}" for one in train], trainer)
    path: Path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="session")
def tiny_scenario(tokenizer_path: Path) -> Callable[..., Scenario]:
    """Return a scenario of three clients and a drawn GPT-2, with these settings changed by their paths."""
    config = {
        "model_type": "gpt2",
        "n_layer": 3,
        "n_embd": 16,
        "n_head": 2,
        "n_positions": 64,
        "vocab_size": VOCABULARY_SIZE,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "initializer_range": 0.2,
    }
    tiny = change(
        Scenario(name="tiny", seed=3),
        {
            "model.base": {"kind": "random", "config": config, "tokenizer_path": str(tokenizer_path)},
            "data.source": {"kind": "embedded", "num_train": 40, "num_test": 8},
            "data.sequence_length": 48,
            "training.batch_size": 2,
            "scheme.num_rounds": 2,
            "scheme.local_steps": 2,
            "clients.count": 3,
        },
    )

    def changed(changes: Mapping[str, Any] | None = None) -> Scenario:
        return change(tiny, changes) if changes else tiny

    return changed


@pytest.fixture(scope="session")
def play() -> Callable[[Scenario], World]:
    """Return what plays a scenario from beginning to end without a tensor, and hands back its first world."""

    def played(scenario: Scenario) -> World:
        prepared = prepare_tasks(scenario)
        playing = worlds(prepared, lambda one: lambda rank: TimingOnly())
        playing[0].site.play(recipes(prepared, playing))
        return playing[0]

    return played
