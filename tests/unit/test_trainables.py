"""What a trainable lists, counts and writes is what the real model has, for every architecture and task."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Program, python

from cosim.errors import ScenarioError
from cosim.learning import flop
from cosim.learning.learner import mean_loss
from cosim.learning.model import SplitModel
from cosim.learning.parameters import parameters_of
from cosim.learning.shape import ModelShape, ModelTask
from cosim.learning.trainable import Trainable
from cosim.learning.trainable.full import Full
from cosim.testing.tiny_bases import NUM_LABELS, USES, as_charged, gradients, moved_adapter, tiny_batch
from cosim.testing.ulps import ulps_apart
from tests.tiny_bases import keep_float64, scored_logits, tiny_base

# peft asks transformers a question under a name that newer releases have renamed
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

FEW = 128  # ulps: kernels sum in other orders than transformers, in three blocks there and back
WIDE = {"hidden_size": 64, "intermediate_size": 160, "max_position_embeddings": 80, "vocab_size": 200}
VARIANTS: tuple[tuple[str, ModelTask, dict[str, Any]], ...] = (
    *((family, task, {}) for family, task in USES),
    ("gpt2", "causal_lm", {"tie_word_embeddings": False, "n_inner": 20}),
    ("llama", "causal_lm", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    ("llama", "causal_lm", {"head_dim": 6, "num_key_value_heads": 1}),
)


def model_of(
    family: str, task: ModelTask, trainable: Trainable, dtype: Any = "float64", **changes: Any
) -> SplitModel:
    labels = NUM_LABELS if task == "classification" else 0
    return SplitModel.load(tiny_base(family, **changes), trainable, task, labels, dtype)


def sizes_of(parameters: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weights.shape) for name, weights in parameters}


@pytest.mark.parametrize(("family", "task", "changes"), VARIANTS)
def test_a_shape_gives_the_parameters_of_the_real_model(
    family: str, task: ModelTask, changes: dict[str, Any]
) -> None:
    labels = NUM_LABELS if task == "classification" else 0
    base = tiny_base(family, **changes)
    found = parameters_of(shape := base.shape(task, labels))
    real = sizes_of(base.load(task, labels, "float32").named_parameters())
    assert [(one.name, one.shape) for one in found] == list(real.items())
    assert sum(one.numbers for one in found) == shape.num_weights
    of = {place: sum(one.numbers for one in found if one.block == place) for place in (0, 1, 4)}
    assert of == {0: shape.embedding_weights, 1: shape.block_weights, 4: shape.head_weights}


@pytest.mark.parametrize(("family", "task"), USES)
def test_memory_of_full_training_lies_within_a_factor_of_two_of_what_is_held(
    family: str, task: ModelTask
) -> None:
    changes = {"n_embd": 64, "n_positions": 80, "vocab_size": 200} if family == "gpt2" else WIDE
    trainable = Full(untie_head=True)
    model = as_charged(model_of(family, task, trainable, "float32", **changes))
    shape, batch, tensors = model.shape, tiny_batch(model.shape, 4, 64), moved_adapter(model)
    weights = {one.untyped_storage().data_ptr() for one in tensors.values()}

    def kept_bytes(action: Any) -> int:
        held: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            result = action()
        assert result is not None
        return sum(storage.nbytes() for start, storage in held.items() if start not in weights)

    def resident(names: tuple[str, ...]) -> int:  # weights, gradients, two moments
        return 4 * 4 * sum(tensors[name].numel() for name in names)

    activations = model.client_forward(tensors, batch, 2).detach().requires_grad_()
    client = kept_bytes(lambda: model.client_forward(tensors, batch, 2)) + resident(model.client_names(2))
    server = kept_bytes(lambda: model.server_outputs(tensors, activations, batch, 2))
    server += resident(model.server_names(2))
    assert 0.5 < flop.client_memory_bytes(shape, trainable, 2, 4, 64) / client < 2.0
    assert 0.5 < flop.server_memory_bytes(shape, trainable, 2, 4, 64) / server < 2.0


@pytest.mark.parametrize(("family", "task", "changes"), VARIANTS)
def test_gradients_are_those_of_the_whole_model_of_transformers(
    family: str, task: ModelTask, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_float64(monkeypatch)
    model = model_of(family, task, Full(), **changes)
    labels = NUM_LABELS if task == "classification" else 0
    real = tiny_base(family, **changes).load(task, labels, "float64")
    tensors, batch = moved_adapter(model), tiny_batch(model.shape, 3, 6)
    with torch.no_grad():
        for name, weights in real.named_parameters():
            weights.copy_(tensors[name])
    outputs = model.whole_outputs(tensors, batch)
    mean_loss(outputs).backward()
    logits = real(
        input_ids=torch.tensor(batch.input_ids), attention_mask=torch.tensor(batch.attention_mask).long()
    ).logits
    assert ulps_apart(outputs.logits, scored_logits(batch, logits)) <= FEW
    targets = torch.tensor(batch.labels)
    if task == "causal_lm":
        logits, targets = logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten()
    torch.nn.functional.cross_entropy(logits, targets).backward()
    expected = {name: weights.grad for name, weights in real.named_parameters()}
    assert ulps_apart(gradients(tensors), expected) <= FEW


def test_an_untied_head_starts_as_the_embedding_and_has_a_gradient_of_its_own() -> None:
    tied, untied = (model_of("gpt2", "causal_lm", Full(untie_head=one)) for one in (False, True))
    start = untied.initial_adapter()
    assert start.keys() - tied.initial_adapter().keys() == {"lm_head.weight"}
    assert torch.equal(start["lm_head.weight"], start["transformer.wte.weight"])
    batch, found = tiny_batch(tied.shape, 2, 5), []
    for model in (tied, untied):
        tensors = {name: one.requires_grad_() for name, one in model.initial_adapter().items()}
        mean_loss(model.whole_outputs(tensors, batch)).backward()
        found.append(gradients(tensors))
    both = found[1]["transformer.wte.weight"] + found[1]["lm_head.weight"]
    assert ulps_apart(both, found[0]["transformer.wte.weight"]) <= FEW


def test_what_a_model_cannot_carry_is_refused() -> None:
    tied = ModelShape.read({"model_type": "gpt2"})
    with pytest.raises(ScenarioError, match=r"set trainable\.untie_head = true"):
        Full().check(tied, "float32", is_cut=True)
    Full().check(tied, "float32", is_cut=False)
    Full(untie_head=True).check(Full(untie_head=True).fitted(tied), "float32", is_cut=True)
    with pytest.raises(ScenarioError, match="'bfloat16' rounds an optimiser's steps away"):
        Full().check(tied, "bfloat16", is_cut=False)


def test_the_trainable_of_the_readme_keeps_the_contract_and_runs(tmp_path: Path) -> None:
    """In a process of its own: a class of a part is there for good once it is made."""
    root = Path(__file__).parents[2]
    page = (root / "docs" / "guide" / "own_parts.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    (block,) = [one for one in blocks if "class Biases" in one]
    script = f"""{block}
import os
import sys
import warnings
from pathlib import Path

os.chdir({str(root)!r})
warnings.simplefilter("ignore")
sys.path[:0] = ["tests"]
import cosim.testing.contracts.trainable as contract
from cosim.runs import run
from cosim.scenario.load import change, load

for use in (("gpt2", "causal_lm"), ("roberta", "classification")):
    contract.test_it_trains_what_it_lists_in_the_order_of_the_list(Biases(), *use)
    contract.test_it_counts_the_flop_that_torch_does(Biases(), *use)
    contract.test_split_gradients_are_those_of_the_whole(Biases(), *use)
source = {{"kind": "embedded", "num_train": 24, "num_test": 4}}
scheme = {{"num_rounds": 1, "local_steps": 1}}
changes = {{"trainable.kind": "biases", "scheme": scheme, "clients.count": 2, "data.source": source}}
folder = run(change(load("scenarios/quickstart.toml"), changes), Path({str(tmp_path / "run")!r}))
print(sorted(path.name for path in (folder / "model").iterdir()))
"""
    out, err = Program(python, [script], tmp_path / "printed").communicate()
    assert out.strip() == "['biases.safetensors']", err[-2000:]
