from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapters import save_adapter
from torch import Tensor
from torch.nn import functional

from cosim.learning.data.batch import Batch
from cosim.learning.families.kernels import attend_stepwise
from cosim.learning.model import Adapter, SplitModel
from cosim.learning.outputs import Outputs
from cosim.learning.shape import ModelTask
from cosim.learning.trainable.lora import Lora
from cosim.testing.tiny_bases import NUM_LABELS, USES, furthest, gradients, moved_adapter, tiny_batch
from cosim.testing.ulps import ulps_apart
from tests.tiny_bases import keep_float64, scored_logits, tiny_base, tiny_model

# peft asks transformers a question under a name that newer releases have renamed
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

CUTS = (1, 2)
ALL = ("all-linear",)
LORAS = (Lora(rank=2), Lora(rank=2, target_modules=ALL), Lora(rank=2, target_modules=ALL, use_dora=True))
FEW = 128  # ulps: kernels sum in other orders than transformers, in three blocks there and back; measured: 32


@pytest.fixture(autouse=True)
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers compute in the format it is given."""
    keep_float64(monkeypatch)


def leaves(adapter: Adapter) -> Adapter:
    """Return the same values as fresh leaves without a gradient."""
    return {name: values.detach().clone().requires_grad_() for name, values in adapter.items()}


def mean_loss(outputs: Outputs) -> Tensor:
    return outputs.loss_sum.sum() / outputs.num_targets.sum()


def split_step(
    model: SplitModel, adapter: Adapter, batch: Batch, cut_layer: int, dropout_seed: int | None = None
) -> Outputs:
    """Take one split training step as two machines would: only numbers cross the cut."""
    activations = model.client_forward(adapter, batch, cut_layer, dropout_seed)
    received = activations.detach().clone().requires_grad_()
    outputs = model.server_outputs(adapter, received, batch, cut_layer, dropout_seed)
    mean_loss(outputs).backward()
    assert received.grad is not None
    if activations.requires_grad:  # it does where the client has an adapter
        activations.backward(received.grad)
    return outputs


def reference(
    model: SplitModel, adapter: Adapter, batch: Batch, folder: Path, family: str, task: ModelTask, dtype: Any
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return loss, logits at targets and gradients of PEFT's own model, which knows nothing of a cut."""
    from peft import PeftModel

    save_adapter(model, folder, adapter)
    labels = NUM_LABELS if task == "classification" else 0
    whole = PeftModel.from_pretrained(
        tiny_base(family).load(task, labels, dtype), folder, is_trainable=True, autocast_adapter_dtype=False
    ).eval()
    result = whole(
        input_ids=torch.tensor(batch.input_ids),
        attention_mask=torch.tensor(batch.attention_mask).long(),
        labels=torch.tensor(batch.labels),
    )
    loss = result.loss
    if task == "causal_lm" and dtype == "float64":  # transformers narrows logits to float32 here
        targets = torch.tensor(batch.labels)[:, 1:].flatten()
        loss = functional.cross_entropy(result.logits[:, :-1].flatten(0, 1), targets)
    loss.backward()
    found = {}
    for name, weights in whole.named_parameters():
        if weights.grad is not None:
            name = name.replace("_magnitude_vector.default.weight", "_magnitude_vector")
            found[name.replace(".modules_to_save.default", "").replace(".default", "")] = weights.grad
    return loss.detach(), scored_logits(batch, result.logits.detach()), found


def assert_near(
    outputs: Outputs, found: dict[str, Tensor], expected: tuple[Tensor, Tensor, dict[str, Tensor]]
) -> None:
    """Compare outputs and gradients with those of the whole model; only rounding may keep them apart."""
    loss, logits, gradients_ = expected
    assert ulps_apart(outputs.logits, logits) <= FEW
    assert ulps_apart(mean_loss(outputs), loss, size=float(logits.abs().max())) <= FEW
    assert ulps_apart(found, gradients_) <= FEW


@pytest.mark.parametrize("lora", LORAS)
@pytest.mark.parametrize(("family", "task"), USES)
def test_split_gradients_are_those_of_the_whole_peft_model_at_every_cut(
    tmp_path: Path, family: str, task: ModelTask, lora: Lora
) -> None:
    model = tiny_model(family, task, lora)
    batch = tiny_batch(model.shape, 3, 6)
    adapter = moved_adapter(model)
    expected = reference(model, adapter, batch, tmp_path, family, task, "float64")
    assert max(float(gradient.abs().max()) for gradient in expected[-1].values()) > 1e-3
    whole = leaves(adapter)
    outputs = model.whole_outputs(whole, batch)
    mean_loss(outputs).backward()
    assert_near(outputs, gradients(whole), expected)
    for cut_layer in CUTS:
        split = leaves(adapter)
        outputs = split_step(model, split, batch, cut_layer)
        assert furthest(gradients(split), gradients(whole)) == 0.0
        assert_near(outputs, gradients(split), expected)


@pytest.mark.parametrize("blocks", [(2,), (3,), (1, 3)])
@pytest.mark.parametrize(("family", "task"), USES)
def test_split_gradients_are_those_of_the_whole_wherever_the_adapters_are(
    tmp_path: Path, family: str, task: ModelTask, blocks: tuple[int, ...]
) -> None:
    model = tiny_model(family, task, Lora(rank=2, blocks=blocks))
    batch, adapter = tiny_batch(model.shape, 3, 6), moved_adapter(model)
    assert model.num_frozen == min(blocks) - 1
    expected = reference(model, adapter, batch, tmp_path, family, task, "float64")
    assert expected[-1].keys() == adapter.keys()
    for cut_layer in CUTS:
        split = leaves(adapter)
        outputs = split_step(model, split, batch, cut_layer)
        assert_near(outputs, gradients(split), expected)
        assert bool(model.client_names(cut_layer)) == (min(blocks) <= cut_layer)
    prefix = model.frozen_prefix(batch, 3)
    again = model.whole_outputs(adapter, batch, prefix=prefix)
    assert torch.equal(again.logits, outputs.logits)


@pytest.mark.parametrize(("family", "task"), USES)
def test_losses_in_float32_are_those_transformers_reports(
    tmp_path: Path, family: str, task: ModelTask
) -> None:
    model = tiny_model(family, task, dtype="float32")
    batch, adapter = tiny_batch(model.shape, 3, 6), moved_adapter(model)
    expected = reference(model, adapter, batch, tmp_path, family, task, "float32")
    outputs = split_step(model, adapter, batch, 1)
    assert_near(outputs, gradients(adapter), expected)


@pytest.mark.parametrize(("family", "task"), USES)
def test_padding_changes_no_loss(family: str, task: ModelTask) -> None:
    model = tiny_model(family, task)
    batch, adapter = tiny_batch(model.shape, 3, 6), moved_adapter(model)
    together = model.whole_outputs(adapter, batch).loss_sum.detach()
    for example, kept in enumerate(batch.attention_mask):
        alone = Batch(
            batch.input_ids[example : example + 1, kept],
            batch.attention_mask[example : example + 1, kept],
            batch.labels[example : example + 1]
            if task == "classification"
            else batch.labels[example : example + 1, kept],
        )
        lonely = model.whole_outputs(adapter, alone).loss_sum.detach()
        assert ulps_apart(lonely[0], together[example]) <= FEW


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_causal_model_cannot_see_the_future(family: str) -> None:
    model = tiny_model(family, "causal_lm")
    adapter, batch = moved_adapter(model), tiny_batch(model.shape, 2, 6, padded=False)
    changed = batch.input_ids.copy()
    changed[:, 4:] = 3 + (changed[:, 4:] - 2) % 37
    other = Batch(changed, batch.attention_mask, changed)
    before, after = (model.client_forward(adapter, b, 2).detach() for b in (batch, other))
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])


def test_two_clients_graphs_live_side_by_side() -> None:
    model = tiny_model("llama", "causal_lm")
    batches = [tiny_batch(model.shape, 2, 5, seed=seed) for seed in (1, 2)]
    adapters = [moved_adapter(model, seed) for seed in (1, 2)]
    alone = [leaves(adapter) for adapter in adapters]
    for adapter, batch in zip(alone, batches, strict=True):
        split_step(model, adapter, batch, 1)

    sent = [model.client_forward(a, b, 1) for a, b in zip(adapters, batches, strict=True)]
    received = [activations.detach().requires_grad_() for activations in sent]
    outputs = [model.server_outputs(a, r, b, 1) for a, r, b in zip(adapters, received, batches, strict=True)]
    for output in outputs:
        mean_loss(output).backward()
    for activations, leaf in zip(sent, received, strict=True):
        activations.backward(leaf.grad)
    for together, apart in zip(adapters, alone, strict=True):
        assert furthest(gradients(together), gradients(apart)) == 0.0


def test_one_server_batch_of_all_clients_gives_each_client_its_own_gradient() -> None:
    model = tiny_model("gpt2", "causal_lm")
    adapter = moved_adapter(model)
    batches = [tiny_batch(model.shape, 2, 5, seed=seed) for seed in (1, 2)]
    joined = Batch(*(np.concatenate([getattr(b, name) for b in batches]) for name in vars(batches[0])))
    activations = [model.client_forward(adapter, batch, 2).detach() for batch in batches]
    leaf = torch.cat(activations).requires_grad_()
    model.server_outputs(adapter, leaf, joined, 2).loss_sum.sum().backward()
    assert leaf.grad is not None
    for rows, batch, alone in zip(leaf.grad.split(2), batches, activations, strict=True):
        alone.requires_grad_()
        model.server_outputs(adapter, alone, batch, 2).loss_sum.sum().backward()
        assert alone.grad is not None
        torch.testing.assert_close(rows, alone.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("family", "task"), USES)
def test_under_dropout_the_cut_still_changes_nothing(family: str, task: ModelTask) -> None:
    model = tiny_model(family, task, Lora(rank=2, dropout=0.5))
    batch, start = tiny_batch(model.shape, 3, 6), moved_adapter(model)
    whole, other, still = leaves(start), leaves(start), leaves(start)
    mean_loss(model.whole_outputs(whole, batch, dropout_seed=7)).backward()
    mean_loss(model.whole_outputs(other, batch, dropout_seed=8)).backward()
    mean_loss(model.whole_outputs(still, batch)).backward()
    assert furthest(gradients(whole), gradients(other)) > 1e-6
    assert furthest(gradients(whole), gradients(still)) > 1e-6
    for cut_layer in CUTS:
        split = leaves(start)
        split_step(model, split, batch, cut_layer, dropout_seed=7)
        assert furthest(gradients(split), gradients(whole)) == 0.0


@pytest.mark.parametrize(("family", "task"), USES)
def test_nothing_global_is_touched(tmp_path: Path, family: str, task: ModelTask) -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    model = tiny_model(family, task, Lora(rank=2, dropout=0.2))
    batch, adapter = tiny_batch(model.shape, 2, 4), moved_adapter(model)
    split_step(model, adapter, batch, 1, dropout_seed=3)
    assert int(model.whole_outputs(adapter, batch, dropout_seed=3).num_correct.sum()) >= 0
    save_adapter(model, tmp_path, adapter)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert torch.get_default_dtype() == torch.float32


def test_the_initial_adapter_hangs_on_the_seed_alone() -> None:
    base, lora = tiny_base("gpt2"), Lora(rank=2)
    first = SplitModel.load(base, lora, seed=1)
    torch.rand(3)
    again = SplitModel.load(base, lora, dtype="float64", seed=1).initial_adapter()
    other = SplitModel.load(base, lora, seed=2).initial_adapter()
    for name, values in first.initial_adapter().items():
        assert torch.equal(values.double(), again[name])
        is_zero = ".lora_B." in name
        assert bool((values == 0).all()) == is_zero
        assert torch.equal(values, other[name]) == is_zero
        assert is_zero or float(values.abs().max()) <= 1 / 16**0.5


def test_a_fresh_head_is_drawn_too() -> None:
    adapter = tiny_model("roberta", "classification").initial_adapter()
    head = {name: values for name, values in adapter.items() if ".classifier." in name}
    assert sorted(name.removeprefix("base_model.model.classifier.") for name in head) == [
        "dense.bias",
        "dense.weight",
        "out_proj.bias",
        "out_proj.weight",
    ]
    for name, values in head.items():
        assert bool((values == 0).all()) == name.endswith("bias")


@pytest.mark.parametrize("lora", LORAS[1:])
@pytest.mark.parametrize(("family", "task"), USES)
def test_names_are_those_peft_saves(family: str, task: ModelTask, lora: Lora) -> None:
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    model = tiny_model(family, task, lora)
    base = tiny_base(family).load(task, NUM_LABELS if task == "classification" else 0, "float64")
    base.name_or_path = "base"
    peft_model = get_peft_model(base, LoraConfig(**lora.peft_settings(model.shape, "base")))
    saved = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
    assert {name: one.shape for name, one in model.initial_adapter().items()} == {
        name: one.shape for name, one in saved.items()
    }
    for cut_layer in CUTS:
        assert (*model.client_names(cut_layer), *model.server_names(cut_layer)) == model.names


def test_a_saved_adapter_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    lora = Lora(rank=2, target_modules=("all-linear",))
    for name in ("one", "two"):
        model = tiny_model("llama", "causal_lm", lora)
        save_adapter(model, tmp_path / name, moved_adapter(model))
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_counts_are_those_of_the_targets() -> None:
    model = tiny_model("gpt2", "causal_lm")
    batch = tiny_batch(model.shape, 3, 6)
    outputs = model.whole_outputs(moved_adapter(model), batch)
    assert outputs.num_targets.tolist() == batch.num_targets.tolist() == [5, 4, 3]
    assert outputs.examples.tolist() == [0] * 5 + [1] * 4 + [2] * 3
    hits = (outputs.logits.argmax(-1) == outputs.targets).split([5, 4, 3])
    assert outputs.num_correct.tolist() == [int(one.sum()) for one in hits]


def test_a_classifier_counts_its_labels() -> None:
    model = tiny_model("bert", "classification")
    batch = tiny_batch(model.shape, 4, 6)
    outputs = model.whole_outputs(moved_adapter(model), batch)
    assert outputs.num_targets.tolist() == [1, 1, 1, 1]
    assert outputs.num_correct.tolist() == (outputs.logits.argmax(-1).numpy() == batch.labels).tolist()


def test_bfloat16_trains_in_float32() -> None:
    for family, task in USES:
        model = tiny_model(family, task, dtype="bfloat16")
        batch, adapter = tiny_batch(model.shape, 2, 5), moved_adapter(model)
        outputs = split_step(model, adapter, batch, 1)
        assert model.client_forward(adapter, batch, 1).dtype == torch.bfloat16
        assert outputs.loss_sum.dtype == torch.float32
        assert {gradient.dtype for gradient in gradients(adapter).values()} == {torch.float32}


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_blocks_can_be_run_for_several_clients_at_once(family: str) -> None:
    model = tiny_model(family, "causal_lm")
    adapters = [moved_adapter(model, seed) for seed in (1, 2)]
    batches = [tiny_batch(model.shape, 2, 5, seed=seed) for seed in (1, 2)]
    names = model.client_names(2)
    stacked = {name: torch.stack([adapter[name].detach() for adapter in adapters]) for name in names}
    assert all(model.attention_mask(batch) is None for batch in batches)  # padding is on the right
    expected = [model.client_forward(*one, 2).detach() for one in zip(adapters, batches, strict=True)]
    model.attend_by(attend_stepwise)
    together = torch.func.vmap(lambda a, h: model.run_blocks(a, h, None, 1, 2))(
        stacked, torch.stack([model.embed(batch) for batch in batches])
    )
    assert ulps_apart(list(together), expected) <= FEW


def test_read_only_batches_will_do() -> None:
    model = tiny_model("gpt2", "causal_lm")
    batch = tiny_batch(model.shape, 2, 5)
    for array in vars(batch).values():
        array.setflags(write=False)
    assert model.whole_outputs(moved_adapter(model), batch).loss_sum.shape == (2,)


def test_a_sequence_longer_than_the_model_s_positions_is_refused() -> None:
    model = tiny_model("roberta", "classification")
    assert model.shape.max_positions == 32
    model.whole_outputs(moved_adapter(model), tiny_batch(model.shape, 1, 32))
    with pytest.raises(ValueError, match="33 tokens is too long; limit 32"):
        model.whole_outputs(moved_adapter(model), tiny_batch(model.shape, 1, 33))


def test_a_cut_behind_the_last_block_is_refused() -> None:
    model = tiny_model("gpt2", "causal_lm")
    with pytest.raises(ValueError, match="can be cut at 1 to 2"):
        model.client_forward(moved_adapter(model), tiny_batch(model.shape, 1, 4), 3)


@pytest.mark.gpu
@pytest.mark.parametrize(("family", "task"), USES)
def test_a_gpu_gives_the_same_gradients(family: str, task: ModelTask) -> None:
    labels = NUM_LABELS if task == "classification" else 0
    found = []
    for device in ("cpu", "cuda"):
        lora = Lora(rank=2, dropout=0.0)
        model = SplitModel.load(tiny_base(family), lora, task, labels, "float64", device)
        adapter = {
            name: values.detach().to(device).requires_grad_() for name, values in moved_adapter(model).items()
        }
        split_step(model, adapter, tiny_batch(model.shape, 3, 6), 1)
        found.append({name: gradient.cpu() for name, gradient in gradients(adapter).items()})
    assert furthest(*found) <= 1e-6


@pytest.mark.gpu
def test_dropout_on_a_gpu_touches_no_generator() -> None:
    model = SplitModel.load(tiny_base("gpt2"), Lora(rank=2, dropout=0.5), device="cuda")
    before = torch.cuda.get_rng_state()
    batch, start = tiny_batch(model.shape, 3, 6), moved_adapter(model)
    whole = leaves(start)
    mean_loss(model.whole_outputs(whole, batch, dropout_seed=7)).backward()
    for cut_layer in CUTS:
        split = leaves(start)
        split_step(model, split, batch, cut_layer, dropout_seed=7)
        assert furthest(gradients(split), gradients(whole)) == 0.0
    assert torch.equal(torch.cuda.get_rng_state(), before)
