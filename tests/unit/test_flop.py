from collections.abc import Collection
from functools import cache
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cosim.learning import flop
from cosim.learning.architectures import FAMILIES
from cosim.learning.flop import SplitFlop, WholeFlop
from cosim.learning.learner import leaves_of
from cosim.learning.model import SplitModel
from cosim.learning.shape import BOTH_FACTORS, Factor, ModelShape, ModelTask
from cosim.learning.torch_flop import TorchFlop
from cosim.learning.trainable.lora import Lora
from cosim.testing.tiny_bases import NUM_LABELS, USES, as_charged, moved_adapter, tiny_batch
from tests.tiny_bases import tiny_model


def lora_of(targets: tuple[str, ...], rank: int, blocks: tuple[int, ...] | None = None) -> Lora:
    return Lora(rank=rank, target_modules=targets, blocks=blocks)


def split_flop(
    shape: ModelShape,
    targets: tuple[str, ...],
    rank: int,
    cut_layer: int,
    batch_size: int,
    length: int,
    blocks: tuple[int, ...] | None = None,
    trained: Collection[Factor] = BOTH_FACTORS,
) -> SplitFlop:
    lora = lora_of(targets, rank, blocks)
    return flop.split_flop(shape, lora, cut_layer, batch_size, length, trained)


def whole_flop(
    shape: ModelShape,
    targets: tuple[str, ...],
    rank: int,
    batch_size: int,
    length: int,
    blocks: tuple[int, ...] | None = None,
    trained: Collection[Factor] = BOTH_FACTORS,
) -> WholeFlop:
    return flop.whole_flop(shape, lora_of(targets, rank, blocks), batch_size, length, trained)


def adapter_numbers(
    shape: ModelShape,
    targets: tuple[str, ...],
    rank: int,
    first_block: int,
    last_block: int,
    blocks: tuple[int, ...] | None = None,
    factors: Collection[Factor] = BOTH_FACTORS,
) -> int:
    numbers = range(first_block, last_block + 1)
    parameters = lora_of(targets, rank, blocks).parameters(shape)
    return sum(one.numbers for one in parameters if one.block in numbers and one.factor in factors)


GPT2_SMALL = ModelShape.read({"model_type": "gpt2"})
GPT2_MEDIUM = ModelShape.read({"model_type": "gpt2", "n_embd": 1024, "n_layer": 24, "n_head": 16})

# Which layers are adapted decides which gradients block 1 needs: none, some or all of attention's.
TARGETS: dict[str, tuple[tuple[str, ...] | None, ...]] = {
    "gpt2": (None, ("all-linear",), ("c_proj",), ("c_fc",), ("mlp.c_proj",)),
    "llama": (
        None,
        ("all-linear",),
        ("q_proj",),
        ("v_proj",),
        ("o_proj",),
        ("k_proj", "up_proj"),
        ("down_proj",),
    ),
    "bert": (None, ("all-linear",), ("value",), ("query",), ("intermediate.dense",), ("dense",)),
    "roberta": (None, ("all-linear",), ("key",), ("dense",)),
}
CASES = [(family, task, targets) for family, task in USES for targets in TARGETS[family]]


@cache
def model_of(family: str, task: ModelTask, lora: Lora) -> SplitModel:
    """Return a model; to count what it does changes nothing in it."""
    return as_charged(tiny_model(family, task, lora, dtype="float32"))


class Counting:
    """Counts what torch does, an action after the other."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def __call__(self, action: Any) -> Any:
        with TorchFlop() as counter:
            result = action()
        self.counts.append(counter.total)
        return result


def measured(model: SplitModel, cut_layer: int, batch_size: int, length: int) -> SplitFlop:
    """Return what torch counts while a step is really taken."""
    batch, adapter, counted = tiny_batch(model.shape, batch_size, length), moved_adapter(model), Counting()
    activations = counted(lambda: model.client_forward(adapter, batch, cut_layer))
    received = activations.detach().requires_grad_(activations.requires_grad)
    outputs = counted(lambda: model.server_outputs(adapter, received, batch, cut_layer))
    counted(lambda: outputs.loss_sum.sum().backward())
    counted(lambda: activations.backward(received.grad) if activations.requires_grad else None)
    client_forward, server_forward, server_backward, client_backward = counted.counts
    return SplitFlop(client_forward, client_backward, server_forward, server_backward)


def measured_whole(model: SplitModel, batch_size: int, length: int) -> WholeFlop:
    """Return what torch counts while a step of the whole model is taken."""
    batch, adapter, counted = tiny_batch(model.shape, batch_size, length), moved_adapter(model), Counting()
    outputs = counted(lambda: model.whole_outputs(adapter, batch))
    counted(lambda: outputs.loss_sum.sum().backward())
    return WholeFlop(*counted.counts)


@pytest.mark.parametrize(("family", "task"), USES)
def test_the_quick_counter_counts_what_torch_s_own_does(family: str, task: ModelTask) -> None:
    model = model_of(family, task, Lora(rank=3, target_modules=("all-linear",)))
    batch, adapter = tiny_batch(model.shape, 2, 6), moved_adapter(model)
    with TorchFlop() as quick, FlopCounterMode(display=False) as own:
        model.whole_outputs(adapter, batch).loss_sum.sum().backward()
    assert quick.total == own.get_total_flops() > 0


@pytest.mark.parametrize(("family", "task", "targets"), CASES)
def test_flop_is_what_torch_counts_at_every_cut(
    family: str, task: ModelTask, targets: tuple[str, ...] | None
) -> None:
    for rank, cases in ((1, [(2, 2, 6)]), (3, [(1, 1, 5), (1, 3, 1), (2, 2, 6)])):
        lora = Lora(rank=rank, target_modules=targets)
        model = model_of(family, task, lora)
        names = lora.targets(model.shape)
        for cut_layer, batch_size, length in cases:
            split = split_flop(model.shape, names, rank, cut_layer, batch_size, length)
            whole = whole_flop(model.shape, names, rank, batch_size, length)
            assert split == measured(model, cut_layer, batch_size, length)
            assert whole == measured_whole(model, batch_size, length)


@pytest.mark.parametrize("trained", ["A", "B"])
@pytest.mark.parametrize(("family", "task", "targets"), CASES)
def test_flop_is_what_torch_counts_where_one_factor_is_frozen(
    family: str, task: ModelTask, targets: tuple[str, ...] | None, trained: Factor
) -> None:
    lora = Lora(rank=3, target_modules=targets)
    model = model_of(family, task, lora)
    names, batch = lora.targets(model.shape), tiny_batch(model.shape, 2, 5)
    leaves = leaves_of(moved_adapter(model), frozen="B" if trained == "A" else "A")
    with TorchFlop() as counter:
        activations = model.client_forward(leaves, batch, 2)
        activations.backward(torch.ones_like(activations))
    split = split_flop(model.shape, names, 3, 2, 2, 5, None, {trained})
    assert counter.total == split.client_forward + split.client_backward
    with TorchFlop() as counter:
        model.whole_outputs(leaves, batch).loss_sum.sum().backward()
    whole = whole_flop(model.shape, names, 3, 2, 5, None, {trained})
    assert counter.total == whole.forward + whole.backward
    both = split_flop(model.shape, names, 3, 2, 2, 5)
    assert (split.server_forward, split.server_backward) == (both.server_forward, both.server_backward)
    assert split.client_backward < both.client_backward


def test_a_frozen_factor_needs_no_moments() -> None:
    def needs(trained: frozenset[Factor]) -> int:
        return flop.client_memory_bytes(GPT2_SMALL, Lora(rank=4), 6, 4, 128, factors=trained)

    numbers = {one: adapter_numbers(GPT2_SMALL, ("c_attn",), 4, 1, 6, None, {one}) for one in BOTH_FACTORS}
    assert sum(numbers.values()) == adapter_numbers(GPT2_SMALL, ("c_attn",), 4, 1, 6)
    for one, other in (("A", "B"), ("B", "A")):
        assert needs(BOTH_FACTORS) - needs(frozenset({one})) == 4 * 3 * numbers[other]


BLOCKS: tuple[tuple[int, ...], ...] = ((1,), (2,), (3,), (1, 3), (2, 3), (1, 2, 3))


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize(("family", "task"), USES)
def test_flop_is_what_torch_counts_wherever_the_adapters_are(
    family: str, task: ModelTask, blocks: tuple[int, ...]
) -> None:
    for targets in TARGETS[family][:2]:
        lora = Lora(rank=2, target_modules=targets, blocks=blocks)
        model = model_of(family, task, lora)
        names = lora.targets(model.shape)
        whole = whole_flop(model.shape, names, 2, 2, 5, blocks)
        assert whole == measured_whole(model, 2, 5)
        for cut_layer in (1, 2):
            split = split_flop(model.shape, names, 2, cut_layer, 2, 5, blocks)
            assert split == measured(model, cut_layer, 2, 5)
            assert split.client_forward + split.server_forward == whole.forward
            assert split.client_backward + split.server_backward == whole.backward
            assert (split.client_backward > 0) == (min(blocks) <= cut_layer)


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize(("family", "task"), USES)
def test_adapter_numbers_are_those_of_the_tensors_wherever_the_adapters_are(
    family: str, task: ModelTask, blocks: tuple[int, ...]
) -> None:
    lora = Lora(rank=2, blocks=blocks)
    model = model_of(family, task, lora)
    shape, adapter, names = model.shape, model.initial_adapter(), lora.targets(model.shape)
    for cut_layer in (1, 2):
        client = sum(adapter[name].numel() for name in model.client_names(cut_layer))
        server = sum(adapter[name].numel() for name in model.server_names(cut_layer))
        assert client == adapter_numbers(shape, names, 2, 1, cut_layer, blocks)
        later = adapter_numbers(shape, names, 2, cut_layer + 1, shape.num_layers, blocks)
        assert server == later + shape.trained_head_weights


def test_without_an_adapter_a_client_needs_no_memory_for_a_way_back() -> None:
    def needs(blocks: tuple[int, ...] | None) -> tuple[int, int]:
        told = (GPT2_SMALL, Lora(rank=4, blocks=blocks), 6, 4, 128, 4, 2)
        return flop.client_memory_bytes(*told), flop.server_memory_bytes(*told)

    client, server = needs(None)
    assert needs(tuple(range(1, 13))) == (client, server)
    assert needs((7, 8))[0] == 4 * (GPT2_SMALL.embedding_weights + 6 * GPT2_SMALL.block_weights)
    assert needs((4, 7))[0] < needs((3, 7))[0] < client
    assert needs((9,))[1] < needs((8,))[1] < server


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"num_key_value_heads": 1}),
        ("llama", {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True}),
        ("llama", {"head_dim": 6, "tie_word_embeddings": True}),
        ("gpt2", {"n_inner": 20, "n_layer": 4}),
        ("gpt2", {"tie_word_embeddings": False, "n_head": 1}),
    ],
)
def test_flop_is_what_torch_counts_for_every_variant(family: str, changes: dict[str, Any]) -> None:
    model = as_charged(tiny_model(family, "causal_lm", Lora(rank=2), dtype="float32", **changes))
    names = Lora(rank=2).targets(model.shape)
    assert whole_flop(model.shape, names, 2, 2, 4) == measured_whole(model, 2, 4)
    for cut_layer in range(1, model.shape.num_layers):
        assert split_flop(model.shape, names, 2, cut_layer, 2, 4) == measured(model, cut_layer, 2, 4)


@pytest.mark.parametrize(("family", "task"), USES)
def test_the_two_sides_of_any_cut_add_up_to_the_whole(family: str, task: ModelTask) -> None:
    config = {"model_type": family, "num_hidden_layers": 6, "num_attention_heads": 12, "hidden_size": 96}
    shape = ModelShape.read(config, task, NUM_LABELS if task == "classification" else 0)
    for targets in TARGETS[family]:
        names = targets or FAMILIES[family].default_targets
        whole = whole_flop(shape, names, 4, 3, 10)
        for cut_layer in range(1, 6):
            split = split_flop(shape, names, 4, cut_layer, 3, 10)
            assert split.client_forward + split.server_forward == whole.forward
            assert split.client_backward + split.server_backward == whole.backward


@pytest.mark.parametrize("shape", [GPT2_SMALL, GPT2_MEDIUM])
@pytest.mark.parametrize(
    ("rank", "cut_layer", "batch_size", "n"), [(1, 1, 1, 128), (4, 6, 16, 512), (8, 11, 3, 77)]
)
def test_gpt2_flop_is_the_closed_form_of_the_method_card(
    shape: ModelShape, rank: int, cut_layer: int, batch_size: int, n: int
) -> None:
    d, vocab, sig = shape.hidden_size, shape.vocab_size, 4
    forward = 24 * n * d**2 + 4 * n**2 * d + 2 * n * sig * d * rank
    backward = 24 * n * d**2 + 8 * n**2 * d + 4 * n * sig * d * rank
    spared = 6 * n * d**2 + 2 * n * d * rank
    head = 2 * n * d * vocab
    later = shape.num_layers - cut_layer
    assert split_flop(shape, ("c_attn",), rank, cut_layer, batch_size, n) == SplitFlop(
        batch_size * cut_layer * forward,
        batch_size * (cut_layer * backward - spared),
        batch_size * (later * forward + head),
        batch_size * (later * backward + head),
    )


@pytest.mark.parametrize(
    ("shape", "block_forward", "block_backward", "head", "activation_bits", "adapter", "block_forward_128"),
    [
        (GPT2_SMALL, 8.053e9, 8.858e9, 39.52e9, 12.58e6, 12_288, 1.862e9),
        (GPT2_MEDIUM, 13.96e9, 15.03e9, 52.70e9, 16.78e6, 16_384, 3.288e9),
    ],
)
def test_amounts_are_those_of_the_method_card_s_table(
    shape: ModelShape,
    block_forward: float,
    block_backward: float,
    head: float,
    activation_bits: float,
    adapter: int,
    block_forward_128: float,
) -> None:
    # LoRA's own FLOP are taken off by looking at two ranks: they grow in proportion.
    def bare(n: int, cut_layer: int) -> SplitFlop:
        one, two = (split_flop(shape, ("c_attn",), rank, cut_layer, 1, n) for rank in (1, 2))
        return SplitFlop(*(2 * a - b for a, b in zip(one, two, strict=True)))

    last = shape.num_layers - 1
    two_blocks, one_block = bare(512, 2), bare(512, 1)
    assert one_block.client_forward == pytest.approx(block_forward, rel=1e-3)
    assert two_blocks.client_backward - one_block.client_backward == pytest.approx(block_backward, rel=1e-3)
    assert bare(512, last).server_forward - one_block.client_forward == pytest.approx(head, rel=1e-3)
    assert bare(128, 1).client_forward == pytest.approx(block_forward_128, rel=1e-3)
    assert 32 * 512 * shape.hidden_size == pytest.approx(activation_bits, rel=1e-3)
    assert adapter_numbers(shape, ("c_attn",), 4, 1, 1) == adapter
    assert adapter_numbers(shape, ("c_attn",), 4, 1, shape.num_layers) == shape.num_layers * adapter


@pytest.mark.parametrize(("family", "task"), USES)
def test_adapter_numbers_are_those_of_the_tensors(family: str, task: ModelTask) -> None:
    for rank in (1, 5):
        lora = Lora(rank=rank, target_modules=("all-linear",))
        model = model_of(family, task, lora)
        adapter, names = model.initial_adapter(), lora.targets(model.shape)
        for cut_layer in range(1, model.shape.num_layers):
            client = sum(adapter[name].numel() for name in model.client_names(cut_layer))
            server = sum(adapter[name].numel() for name in model.server_names(cut_layer))
            assert client == adapter_numbers(model.shape, names, rank, 1, cut_layer)
            later = adapter_numbers(model.shape, names, rank, cut_layer + 1, model.shape.num_layers)
            assert server == later + model.shape.trained_head_weights


@pytest.mark.parametrize(
    ("family", "task", "use_dora"), [*((*one, False) for one in USES), ("bert", "classification", True)]
)
def test_memory_estimates_lie_within_a_factor_of_two_of_what_is_held(
    family: str, task: ModelTask, use_dora: bool
) -> None:
    wide = {"hidden_size": 64, "intermediate_size": 160, "max_position_embeddings": 80, "vocab_size": 200}
    if family == "gpt2":
        wide = {"n_embd": 64, "n_positions": 80, "vocab_size": 200}
    lora = Lora(rank=4, use_dora=use_dora)
    model = as_charged(tiny_model(family, task, lora, dtype="float32", **wide))
    shape, names, cut_layer = model.shape, lora.targets(model.shape), 2
    batch, adapter = tiny_batch(model.shape, 4, 64), moved_adapter(model)
    weights = {w.untyped_storage().data_ptr() for w in (*model._model.parameters(), *adapter.values())}

    def kept_bytes(action: Any) -> int:
        held: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            result = action()
        assert result is not None
        return sum(storage.nbytes() for start, storage in held.items() if start not in weights)

    def resident(frozen: int, trained: int) -> int:
        return 4 * (frozen + 4 * trained)

    activations = model.client_forward(adapter, batch, cut_layer).detach().requires_grad_()
    client = kept_bytes(lambda: model.client_forward(adapter, batch, cut_layer))
    client += resident(
        shape.embedding_weights + cut_layer * shape.block_weights, adapter_numbers(shape, names, 4, 1, 2)
    )
    server = kept_bytes(lambda: model.server_outputs(adapter, activations, batch, cut_layer))
    frozen = shape.block_weights + shape.head_weights + shape.has_tied_head * 200 * 64
    server += resident(frozen, adapter_numbers(shape, names, 4, 3, 3) + shape.trained_head_weights)
    assert 0.5 < flop.client_memory_bytes(shape, lora, cut_layer, 4, 64) / client < 2.0
    assert 0.5 < flop.server_memory_bytes(shape, lora, cut_layer, 4, 64) / server < 2.0


def test_a_cut_that_leaves_a_side_empty_is_refused() -> None:
    for cut_layer in (0, 12):
        with pytest.raises(ValueError, match="leaves one side without a block"):
            split_flop(GPT2_SMALL, ("c_attn",), 4, cut_layer, 1, 8)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        whole_flop(GPT2_SMALL, ("c_attn",), 4, 0, 8)
