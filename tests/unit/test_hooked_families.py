"""Families whose blocks are called as transformers has them: split is whole, and sizes are theirs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from cosim.compute.device import Device
from cosim.errors import ScenarioError
from cosim.learning.architectures import FAMILIES
from cosim.learning.base import Dtype
from cosim.learning.base.folder import FolderBase
from cosim.learning.base.random import RandomBase
from cosim.learning.data.batch import IGNORED
from cosim.learning.families.hooked import HookedBody
from cosim.learning.flop import client_memory_bytes, split_flop, whole_flop
from cosim.learning.model import Adapter, SplitModel
from cosim.learning.outputs import Outputs
from cosim.learning.parameters import parameters_of
from cosim.learning.shape import ModelShape, ModelTask
from cosim.learning.torch_flop import TorchFlop
from cosim.learning.trainable.full import Full
from cosim.learning.trainable.lora import Lora
from cosim.learning.trainable.prefix import Prefix
from cosim.testing.tiny_bases import NUM_LABELS, as_charged, furthest, gradients, moved_adapter, tiny_batch
from tests.tiny_bases import FOUND, HOOKED, VARIANTS, tiny_base, tiny_model

EVERY: tuple[tuple[str, dict[str, Any]], ...] = (*((family, {}) for family in (*HOOKED, *FOUND)), *VARIANTS)
QUICK = (
    "deberta-v2",
    "falcon",
    "gemma3_text",
    "qwen2",
    "electra",
    "gpt_bigcode",
)  # each class of transformers takes time to load
ROUNDED = 1e-6  # inside, transformers rounds norms and softmax to float32

every_model = pytest.mark.parametrize(
    ("family", "changes"),
    [
        pytest.param(
            family,
            changes,
            id=f"{family}-{number}",
            marks=() if family in QUICK and not changes else pytest.mark.slow,
        )
        for number, (family, changes) in enumerate(EVERY)
    ],
)

PUBLISHED: tuple[tuple[str, int, dict[str, Any]], ...] = (
    (
        "qwen2",
        494_032_768,
        {
            "hidden_size": 896,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "intermediate_size": 4864,
            "tie_word_embeddings": True,
        },
    ),
    (
        "qwen3",
        596_049_920,
        {
            "hidden_size": 1024,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "intermediate_size": 3072,
            "tie_word_embeddings": True,
        },
    ),
    (
        "gpt_neox",
        70_426_624,
        {
            "hidden_size": 512,
            "num_hidden_layers": 6,
            "num_attention_heads": 8,
            "intermediate_size": 2048,
            "vocab_size": 50304,
        },
    ),
    ("opt", 125_239_296, {}),
    ("bloom", 559_214_592, {"hidden_size": 1024, "n_layer": 24, "n_head": 16}),
    (
        "phi",
        2_779_683_840,
        {"hidden_size": 2560, "num_hidden_layers": 32, "intermediate_size": 10240},
    ),
    ("phi3", 3_821_079_552, {}),
    (
        "gemma",
        2_506_172_416,
        {
            "hidden_size": 2048,
            "intermediate_size": 16384,
            "num_hidden_layers": 18,
            "num_attention_heads": 8,
            "num_key_value_heads": 1,
        },
    ),
    ("gemma2", 2_614_341_888, {}),
    ("mistral", 7_241_732_096, {}),
    ("falcon", 6_921_720_704, {}),
    ("smollm3", 3_075_098_624, {}),
    (
        "olmo2",
        1_484_916_736,
        {
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 16,
            "vocab_size": 100352,
        },
    ),
    ("starcoder2", 3_030_371_328, {}),
    ("stablelm", 2_795_443_200, {}),
    ("distilbert", 66_955_010, {}),
    ("vit", 85_800_194, {}),
    (
        "deberta-v2",
        184_423_682,
        {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "relative_attention": True,
            "position_buckets": 256,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
            "pos_att_type": "p2c|c2p",
        },
    ),
)
"""Models of the hub, the weights they are published with (encoders with two classes), and their configs."""


@pytest.mark.parametrize(("family", "num_weights", "config"), PUBLISHED, ids=[one[0] for one in PUBLISHED])
def test_published_models_have_their_published_size(
    family: str, num_weights: int, config: dict[str, Any]
) -> None:
    task = task_of(family)
    labels = 2 if task == "classification" else 0
    assert ModelShape.read({"model_type": family, **config}, task, labels).num_weights == num_weights


def tasks_of(family: str) -> tuple[ModelTask, ...]:
    return FAMILIES[family].tasks if family in FAMILIES else (FOUND[family][0],)


def task_of(family: str) -> ModelTask:
    return tasks_of(family)[0]


def mean_loss(outputs: Outputs) -> Tensor:
    return outputs.loss_sum.sum() / outputs.num_targets.sum()


def leaves(adapter: Adapter) -> Adapter:
    return {name: values.detach().clone().requires_grad_() for name, values in adapter.items()}


@every_model
def test_parameters_are_those_of_transformers(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    for task in tasks_of(family):
        labels = NUM_LABELS if task == "classification" else 0
        base = tiny_base(family, **changes)
        shape = base.shape(task, labels)
        found = {one.name: one.shape for one in parameters_of(shape)}
        model = base.load(task, labels, "float32")
        weights = dict(model.named_parameters())
        assert found == {name: tuple(one.shape) for name, one in weights.items()}
        inside = [name for name in weights if name.startswith(shape.block_name(2))]
        assert [name for name in found if name.startswith(shape.block_name(2))] == inside
        assert shape.num_weights == sum(one.numel() for one in model.parameters())
        model.save_pretrained(tmp_path)
        again = FolderBase(path=tmp_path).pieces(task, labels, "float32")
        from_base = [one.name for one in parameters_of(shape) if one.role != "classifier"]
        assert all(torch.equal(again.get_parameter(name), weights[name]) for name in from_base)


@pytest.mark.parametrize(("family", "changes"), EVERY)
def test_a_device_too_small_for_a_model_is_refused(family: str, changes: dict[str, Any]) -> None:
    task = task_of(family)
    shape = tiny_base(family, **changes).shape(task, NUM_LABELS if task == "classification" else 0)
    needed = client_memory_bytes(shape, Lora(rank=2), 1, 2, 6)
    assert needed > 4 * (shape.embedding_weights + shape.block_weights)
    device = Device("client-0", 1e9, 2.0, 1, memory_bytes=needed - 1, energy_coefficient=0.0)
    with pytest.raises(ScenarioError, match="needs"):
        device.refuse_what_does_not_fit(needed, "a model")


@every_model
def test_outputs_are_those_of_transformers_and_of_every_cut(family: str, changes: dict[str, Any]) -> None:
    lora = Lora(rank=2, target_modules=("all-linear",))
    model = tiny_model(family, task_of(family), lora, **changes)
    batch, adapter = tiny_batch(model.shape, 3, 6), moved_adapter(model)
    assert [one.name for one in lora.parameters(model.shape)] == list(model.names)
    whole = leaves(adapter)
    outputs = model.whole_outputs(whole, batch)
    mean_loss(outputs).backward()
    expected = logits_of_transformers(model, adapter, batch)
    assert float((outputs.logits.detach() - expected).abs().max()) <= ROUNDED * float(expected.abs().max())
    for cut_layer in (1, 2):
        split = leaves(adapter)
        activations = model.client_forward(split, batch, cut_layer)
        received = activations.detach().clone().requires_grad_()
        loss = mean_loss(model.server_outputs(split, received, batch, cut_layer))
        loss.backward()
        assert received.grad is not None
        activations.backward(received.grad)
        assert furthest(gradients(split), gradients(whole)) == 0.0
        assert torch.equal(loss, mean_loss(outputs))


def logits_of_transformers(model: SplitModel, adapter: Adapter, batch: Any) -> Tensor:
    """Return what a forward pass of the whole model says of positions with a target, its own way."""
    model.whole_outputs(adapter, batch)  # the adapter is in its slots now
    body: Any = model._body
    ids, seen = torch.tensor(batch.input_ids), torch.tensor(batch.attention_mask).long()
    with torch.no_grad():
        logits = body._run(model._inner, ids, seen).logits
    if batch.labels.ndim == 1:
        return logits
    return logits[:, :-1][torch.tensor(batch.labels[:, 1:] != IGNORED)]


@every_model
def test_flop_are_those_that_torch_counts(family: str, changes: dict[str, Any]) -> None:
    lora = Lora(rank=2)
    model = as_charged(tiny_model(family, task_of(family), lora, "float32", **changes))
    batch, adapter = tiny_batch(model.shape, 2, 6, padded=False), moved_adapter(model)
    model.whole_outputs(adapter, batch)  # what the blocks are called with is known from here on
    expected = split_flop(model.shape, lora, 1, 2, batch.input_ids.shape[1])
    with TorchFlop() as counted:
        activations = model.client_forward(adapter, batch, 1)
    assert counted.total == expected.client_forward
    received = activations.detach().clone().requires_grad_()
    with TorchFlop() as counted:
        loss = mean_loss(model.server_outputs(adapter, received, batch, 1))
    assert counted.total == expected.server_forward
    with TorchFlop() as counted:
        loss.backward()
    assert counted.total == expected.server_backward
    with TorchFlop() as counted:
        activations.backward(received.grad)
    assert counted.total == expected.client_backward


@pytest.mark.parametrize("family", ["qwen2", "deberta-v2", "gpt2"])
def test_flop_of_blocks_that_are_computed_again_are_those_that_torch_counts(family: str) -> None:
    lora = Lora(rank=2, blocks=(2, 3))
    model = as_charged(tiny_model(family, task_of(family), lora, "float32"))
    batch, adapter = tiny_batch(model.shape, 2, 6, padded=False), moved_adapter(model)
    model.whole_outputs(adapter, batch)
    body: Any = model._body
    run_block = body.run_block
    body.run_block = lambda *given: checkpoint(run_block, *given, use_reentrant=False)
    expected = whole_flop(model.shape, lora, 2, 6, recomputes=True)
    with set_checkpoint_early_stop(False), TorchFlop() as counted:
        mean_loss(model.whole_outputs(adapter, batch)).backward()
    assert counted.total == expected.forward + expected.backward
    plain = whole_flop(model.shape, lora, 2, 6)
    assert (plain.forward, plain.backward < expected.backward) == (expected.forward, True)
    bytes_ = [client_memory_bytes(model.shape, lora, 3, 2, 6, recomputes=one) for one in (False, True)]
    assert bytes_[1] < bytes_[0]


@every_model
def test_all_parameters_can_be_trained_where_nothing_is_cut(family: str, changes: dict[str, Any]) -> None:
    full = Full()
    model = as_charged(tiny_model(family, task_of(family), full, "float32", **changes))
    batch = tiny_batch(model.shape, 2, 6, padded=False)
    adapter = leaves(model.initial_adapter())
    expected = whole_flop(model.shape, full, 2, batch.input_ids.shape[1])
    model.whole_outputs(adapter, batch)  # what the blocks are called with is known from here on
    with TorchFlop() as counted:
        loss = mean_loss(model.whole_outputs(adapter, batch))
    forward = counted.total
    with TorchFlop() as counted:
        loss.backward()
    assert (counted.total, forward) == (expected.backward, expected.forward)
    assert all(np.isfinite(one.grad.numpy()).all() for one in adapter.values() if one.grad is not None)


def test_distances_that_a_found_model_learns_are_trained_and_kept_on_one_side() -> None:
    model = tiny_model("mpnet", "classification", Full())
    batch, table = tiny_batch(model.shape, 2, 6), "mpnet.encoder.relative_attention_bias.weight"
    adapter = leaves(model.initial_adapter())
    before = mean_loss(model.whole_outputs(adapter, batch))
    before.backward()
    gradient = adapter[table].grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 0.0
    rng = torch.Generator().manual_seed(0)
    moved = torch.rand(adapter[table].shape, generator=rng, dtype=torch.float64)
    after = mean_loss(model.whole_outputs({**adapter, table: moved}, batch))
    assert abs(float(after.detach() - before.detach())) > 1e-6
    with pytest.raises(ScenarioError, match="the one table of distances"):
        Full().check(model.shape, "float32", is_cut=True)


@pytest.mark.parametrize(
    ("family", "use_dora"), [("qwen2", False), ("deberta-v2", False), ("qwen2", True), ("electra", False)]
)
def test_beside_a_base_in_bfloat16_float32_is_trained(family: str, use_dora: bool) -> None:
    model = tiny_model(family, "classification", Lora(rank=2, use_dora=use_dora), dtype="bfloat16")
    batch, adapter = tiny_batch(model.shape, 2, 6), moved_adapter(model)
    assert {values.dtype for values in adapter.values()} == {torch.float32}
    mean_loss(model.whole_outputs(adapter, batch)).backward()
    assert all(torch.isfinite(one).all() for one in gradients(adapter).values())


@pytest.mark.filterwarnings("ignore:The PEFT config:UserWarning")
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_rslora_is_that_of_peft() -> None:
    shape = tiny_base("qwen2").shape()
    lora = Lora(rank=4, alpha=6.0, use_rslora=True)
    peft = LoraConfig(
        **{name: one for name, one in lora.peft_settings(shape, "").items() if name != "peft_type"}
    )
    layer = get_peft_model(tiny_base("qwen2").load("causal_lm", 0, "float32"), peft)
    scaling = next(one.scaling["default"] for one in layer.modules() if isinstance(one, LoraLayer))
    assert scaling == lora.scaling == 3.0
    assert "use_rslora" not in Lora(rank=4).deciding(4)


def test_what_blocks_of_others_cannot_do_is_refused() -> None:
    shape = tiny_base("qwen2").shape()
    with pytest.raises(ScenarioError, match="'prefix' changes attention, and that of a model of 'qwen2'"):
        Prefix().check(shape, "float32", is_cut=False)
    with pytest.raises(ScenarioError, match="a model of 'olmo2' has no norm"):
        Full(only=("norm",)).check(tiny_base("olmo2").shape(), "float32", is_cut=False)
    with pytest.raises(ScenarioError, match="the one table of distances"):
        Full().check(tiny_base("deberta-v2").shape("classification", 2), "float32", is_cut=True)


@pytest.mark.parametrize(
    ("config", "task", "reason"),
    [
        ({"model_type": "tortoise"}, "causal_lm", "a model_type 'tortoise' is known neither here"),
        ({"model_type": "t5"}, "causal_lm", "an encoder and a decoder"),
        ({"model_type": "mixtral"}, "causal_lm", "a mixture of experts"),
        ({"model_type": "mpnet", **FOUND["mpnet"][1]}, "causal_lm", "no mpnet model for causal_lm"),
        ({"model_type": "electra", **FOUND["electra"][1]}, "causal_lm", "not one linear layer lm_head"),
        (
            {"model_type": "electra", **FOUND["electra"][1], "embedding_size": 8},
            "classification",
            "a linear layer in front of the blocks",
        ),
        ({"model_type": "cohere", **FOUND["cohere"][1], "num_hidden_layers": 0}, "causal_lm", "0 blocks"),
        ({"model_type": "cohere", "hidden_size": "wide"}, "causal_lm", "'hidden_size': .*expected int"),
    ],
)
def test_a_model_whose_modules_do_not_say_how_it_computes_is_refused(
    config: dict[str, Any], task: ModelTask, reason: str
) -> None:
    with pytest.raises(ScenarioError, match=reason):
        RandomBase(config=config).shape(task, NUM_LABELS if task == "classification" else 0)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_a_number_format_that_transformers_cannot_compute_a_model_in_is_refused(dtype: Dtype) -> None:
    sizes = {"num_layers": 2, "d_model": 16, "attention_heads": 2, "ffn_dim": 24, "vocab_size": 40}
    base = RandomBase(config={"model_type": "xglm", **sizes})
    with pytest.raises(
        ScenarioError, match=rf"^model.dtype: .* xglm model in {dtype} \(.*; take another format"
    ):
        SplitModel.load(base, Lora(rank=2), dtype=dtype)


def test_blocks_that_do_not_compute_what_the_whole_does_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HookedBody, "embed", lambda self, ids: 2.0 * embed(self, ids))
    with pytest.raises(ScenarioError, match="do not compute what the whole does"):
        tiny_model("electra", "classification")


embed = HookedBody.embed
