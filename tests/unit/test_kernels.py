"""The kernels of the blocks give what transformers gives, and padding has no say in anything that counts."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosim.learning import allocator
from cosim.learning.base.folder import FolderBase
from cosim.learning.config_values import ACTIVATIONS
from cosim.learning.data.batch import IGNORED, Batch
from cosim.learning.families import take_apart
from cosim.learning.families.kernels import activation, attend_fused, attend_stepwise, causal_mask
from cosim.learning.families.modules import can_build
from cosim.learning.learner import mean_loss
from cosim.learning.shape import ModelTask
from cosim.testing.tiny_bases import NUM_LABELS, USES, gradients, moved_adapter, tiny_batch
from cosim.testing.ulps import ulps_apart
from tests.tiny_bases import keep_float64, tiny_base, tiny_model

FEW = 128  # ulps, as in test_split_model
VARIANTS: tuple[tuple[str, ModelTask, dict[str, Any]], ...] = (
    *((family, task, {}) for family, task in USES),
    ("gpt2", "causal_lm", {"tie_word_embeddings": False, "scale_attn_by_inverse_layer_idx": True}),
    ("gpt2", "causal_lm", {"scale_attn_weights": False, "activation_function": "relu", "n_inner": 20}),
    ("llama", "causal_lm", {"tie_word_embeddings": True, "rope_theta": 500.0, "attention_bias": True}),
    ("llama", "causal_lm", {"head_dim": 6, "num_key_value_heads": 1, "mlp_bias": True}),
    ("llama", "causal_lm", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    ("roberta", "classification", {"pad_token_id": 3, "layer_norm_eps": 1e-5, "hidden_act": "gelu_new"}),
)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_an_activation_is_that_of_transformers(name: str) -> None:
    from transformers.activations import get_activation

    inputs = torch.linspace(-12, 12, 201, dtype=torch.float64, requires_grad=True)
    ours, theirs = activation(name)(inputs), get_activation(name)(inputs)
    assert ulps_apart(ours, theirs) <= 4
    slopes = [torch.autograd.grad(one.sum(), inputs)[0] for one in (ours, theirs)]
    assert ulps_apart(*slopes) <= 64


@pytest.mark.parametrize(("family", "task", "changes"), VARIANTS)
def test_plain_modules_are_the_model_of_transformers_bit_for_bit(
    family: str, task: ModelTask, changes: dict[str, Any], tmp_path: Path
) -> None:
    labels = NUM_LABELS if task == "classification" else 0
    tiny_base(family, **changes).load(task, labels, "float32").save_pretrained(tmp_path)
    base = FolderBase(path=tmp_path)
    shape = base.shape(task, labels)
    theirs, ours = base.load(task, labels, "float64"), base.pieces(task, labels, "float64")
    assert can_build(base.read_config()) == ("rope_scaling" not in changes)
    assert [(name, one.shape) for name, one in ours.named_parameters()] == [
        (name, one.shape) for name, one in theirs.named_parameters()
    ]
    batch = tiny_batch(shape, 3, 6)
    bodies = [take_apart(model, shape) for model in (ours, theirs)]
    hidden = [body.embed(torch.tensor(batch.input_ids)) for body in bodies]
    for blocks in zip(*(body.blocks for body in bodies), strict=True):
        hidden = [body.run_block(*one, None) for body, *one in zip(bodies, blocks, hidden, strict=True)]
    assert torch.equal(*hidden)
    if task == "causal_lm":  # a classifier's head is drawn by its trainer
        assert torch.equal(*(body.scores(one[0]) for body, one in zip(bodies, hidden, strict=True)))


@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize("mask", ["none", "causal", "padding"])
def test_both_kernels_of_attention_agree(mask: str, heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (
        torch.randn(3, one, 7, 8, dtype=torch.float64, generator=generator).requires_grad_()
        for one in (4, heads, heads)
    )
    added = None
    if mask == "padding":
        added = torch.zeros(3, 1, 1, 7, dtype=torch.float64)
        added[1, ..., 4:] = torch.finfo(torch.float64).min
        added = torch.minimum(added, causal_mask(7, torch.float64, torch.device("cpu")))
    found = []
    for attend in (attend_fused, attend_stepwise):
        mixed = attend(queries, keys, values, added, mask == "causal", 0.3)
        found.append([mixed, *torch.autograd.grad(mixed.square().sum(), (queries, keys, values))])
    assert ulps_apart(*found) <= FEW


@pytest.mark.parametrize(("family", "task"), USES)
def test_what_stands_in_the_padding_changes_nothing(family: str, task: ModelTask) -> None:
    """Losses, scores, gradients and activations are the same bits, whatever tokens the padding has."""
    model, found = tiny_model(family, task), []
    plain = tiny_batch(model.shape, 3, 6)
    ids = plain.input_ids.copy()
    ids[~plain.attention_mask] = 7
    if family == "roberta":  # which counts positions by the tokens that are none
        ids = plain.input_ids
    for batch in (plain, replace(plain, input_ids=ids)):
        adapter = moved_adapter(model)
        outputs = model.whole_outputs(adapter, batch)
        mean_loss(outputs).backward()
        activations = model.client_forward(adapter, batch, 2)[torch.tensor(batch.attention_mask)]
        found.append([outputs.loss_sum, outputs.logits, activations, *gradients(adapter).values()])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@pytest.mark.parametrize(("family", "task"), USES)
def test_a_trimmed_batch_gives_the_same(family: str, task: ModelTask) -> None:
    model, found = tiny_model(family, task), []
    short = tiny_batch(model.shape, 3, 6)
    pad = 1 if family == "roberta" else 0

    def longer(array: Any, value: Any) -> Any:
        return np.pad(array, ((0, 0), (0, 4)), constant_values=value)

    labels = short.labels if task == "classification" else longer(short.labels, IGNORED)
    long = Batch(longer(short.input_ids, pad), longer(short.attention_mask, False), labels)
    trimmed = long.trimmed()
    assert trimmed.input_ids.shape == (3, 6)
    assert short.trimmed() is short
    for batch in (long, trimmed):
        adapter = moved_adapter(model)
        outputs = model.whole_outputs(adapter, batch)
        mean_loss(outputs).backward()
        found.append([outputs.loss_sum, outputs.logits, *gradients(adapter).values()])
    assert ulps_apart(*found) <= FEW


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_causal_model_sees_no_padding_on_its_left(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_float64(monkeypatch)
    model = tiny_model(family, "causal_lm")
    right = tiny_batch(model.shape, 3, 6)
    batch = Batch(*(np.ascontiguousarray(array[:, ::-1]) for array in vars(right).values()))
    base = tiny_base(family).load("causal_lm", 0, "float64")
    ids, seen = torch.tensor(batch.input_ids), torch.tensor(batch.attention_mask)
    positions = torch.arange(6).expand(3, 6)
    theirs = base(input_ids=ids, attention_mask=seen.long(), position_ids=positions).logits[:, :-1]
    ours = model.whole_outputs(model.initial_adapter(), batch)
    assert ulps_apart(ours.logits, theirs[torch.tensor(batch.labels[:, 1:] != IGNORED)]) <= FEW


def test_a_batch_without_targets_costs_nothing() -> None:
    model = tiny_model("gpt2", "causal_lm")
    batch, adapter = tiny_batch(model.shape, 2, 5), moved_adapter(model)
    outputs = model.whole_outputs(adapter, replace(batch, labels=np.full_like(batch.labels, IGNORED)))
    mean_loss(outputs).backward()
    assert outputs.loss_sum.tolist() == [0.0, 0.0]
    assert outputs.num_correct.tolist() == [0, 0]
    assert all(not gradient.any() for gradient in gradients(adapter).values())


def test_memory_is_kept_unless_the_environment_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    is_glibc = "CS_GNU_LIBC_VERSION" in os.confstr_names
    assert allocator.keep_memory() == is_glibc
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    assert not allocator.keep_memory()


def test_where_there_is_no_such_switch_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_memory()
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert not allocator.keep_memory()


@pytest.mark.slow
def test_a_step_of_a_base_of_files_loads_no_model_class_and_no_compiler() -> None:
    """In an interpreter of its own, as others have loaded everything by now."""
    program = """
import sys
from cosim.learning.base.embedded import EmbeddedBase
from cosim.learning.learner import gradients_along, leaves_of, mean_loss
from cosim.learning.model import SplitModel
from cosim.learning.optimizer.adamw import AdamW
from cosim.learning.trainable.lora import Lora
from cosim.testing.tiny_bases import gradients, moved_adapter, tiny_batch
model = SplitModel.load(EmbeddedBase(), Lora(rank=2))
adapter, rule = moved_adapter(model), AdamW()
mean_loss(model.whole_outputs(adapter, tiny_batch(model.shape, 2, 8))).backward()
rule.step(adapter, gradients(adapter), rule.start(adapter), 0, 1)
leaves = leaves_of({name: adapter[name] for name in model.client_names(1)})
cut = model.client_forward(leaves, tiny_batch(model.shape, 2, 8), 1)
gradients_along(cut, cut.detach(), list(leaves.values()))
assert model.adapter_files(adapter).keys() == {"adapter_config.json", "adapter_model.safetensors"}
print({"transformers", "peft", "torch._dynamo", "sympy", "torch.distributed.tensor"} & set(sys.modules))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.strip() == "set()", done.stderr
