"""A model of which units are left out equals the whole one with their weights zero, and is smaller."""

import pytest
import torch

from cosim.learning import narrowing
from cosim.learning.families.modules import build
from cosim.learning.flop import whole_flop
from cosim.learning.learner import leaves_of
from cosim.learning.model import SplitModel
from cosim.learning.shape import ModelShape
from cosim.learning.slopes import slopes_of
from cosim.learning.torch_flop import TorchFlop
from cosim.learning.trainable.full import Full
from cosim.learning.trainable.lora import Lora
from cosim.learning.units import axes_of, can_narrow, kept_units, narrowed, prunable
from cosim.testing.tiny_bases import NUM_LABELS, USES, as_charged, furthest, moved_adapter, tiny_batch
from tests.tiny_bases import tiny_base

SOME = (True, True), (False, True), (True, False)
TRAINABLES = {"lora": Lora(rank=2, target_modules=["all-linear"]), "full": Full(untie_head=True)}


@pytest.fixture(scope="module", params=[(*use, kind) for use in USES for kind in TRAINABLES], ids=str)
def pruned(request):
    """Return a model, what is trained of it away from the start, and the units that remain."""
    family, task, kind = request.param
    labels = NUM_LABELS if task == "classification" else 0
    model = SplitModel.load(tiny_base(family), TRAINABLES[kind], task, labels, "float64")
    adapter = {name: one.detach() for name, one in moved_adapter(model).items()}
    return model, adapter, narrowing.choose(model, adapter, kept_units(model.shape, 0.5, SOME))


def gradients(model, adapter, batch):
    leaves = leaves_of(adapter)
    loss = model.whole_outputs(leaves, batch).loss_sum.sum()
    return loss.item(), dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def test_it_equals_the_whole_model_with_those_weights_zero(pruned):
    assert_equals_zeroed(*pruned)


def assert_equals_zeroed(model, adapter, units):
    base, batch = model.base_weights(), tiny_batch(model.shape, 3, 9)

    def zeroed(tensors):
        marks = narrowing.marks(tensors, axes_of(model.shape, tensors), units)
        return {name: one.detach() * marks[name] for name, one in tensors.items()}

    axes = axes_of(model.shape, adapter)
    mine = narrowing.narrow(adapter, axes, units)
    loss, found = gradients(narrowing.narrow_model(model, units), mine, batch)
    whole = model.of_pieces(build(model.config, model.shape, zeroed(base)), model.shape)
    expected, dense = gradients(whole, zeroed(adapter), batch)
    assert loss == pytest.approx(expected, rel=1e-13)
    assert loss != pytest.approx(gradients(model, adapter, batch)[0], rel=1e-3)
    assert furthest(found, narrowing.narrow(dense, axes, units)) < 1e-11


def test_what_is_narrowed_has_the_shapes_that_are_announced_and_goes_back_to_its_places(pruned):
    model, adapter, units = pruned
    axes, narrow = axes_of(model.shape, adapter), narrowing.narrow_model(model, units)
    mine = narrowing.narrow(adapter, axes, units)
    announced = {one.name: one.shape for one in model.trainable.parameters(narrow.shape)}
    assert {name: tuple(one.shape) for name, one in mine.items()} == announced
    weights = {id(one): one.numel() for one in narrow.base_weights().values()}
    assert sum(weights.values()) == narrow.shape.num_weights < model.shape.num_weights
    back = narrowing.widen(adapter, {name: one + 1.0 for name, one in mine.items()}, axes, units)
    marks = narrowing.marks(adapter, axes, units)
    assert furthest(back, {name: one + marks[name] for name, one in adapter.items()}) == 0.0
    assert (
        furthest(narrowing.narrow(back, axes, units), {name: one + 1.0 for name, one in mine.items()}) == 0.0
    )


def test_those_of_the_largest_weights_remain():
    model = SplitModel.load(tiny_base("llama"), Lora(rank=2, target_modules=["down_proj"]), dtype="float64")
    adapter = model.initial_adapter()
    kept = kept_units(model.shape, 0.5, [(True, True)] * 3)
    assert kept == ((1, 12),) * 3
    before = narrowing.choose(model, adapter, kept)
    assert all(list(one) == sorted(set(one)) for one in map(torch.Tensor.tolist, before.values()))
    # a private factor lets a column weigh more than all others
    name = "base_model.model.model.layers.1.mlp.down_proj.lora_"
    loud = adapter | {f"{name}A.weight": torch.zeros(2, 24, dtype=torch.float64)}
    dropped = next(column for column in range(24) if column not in before["2.columns"].tolist())
    loud[f"{name}A.weight"][:, dropped] = 100.0
    loud[f"{name}B.weight"] = torch.ones(16, 2, dtype=torch.float64)
    assert dropped in narrowing.choose(model, loud, kept)["2.columns"].tolist()


@pytest.mark.parametrize("blocks", [None, [2, 3]])
def test_those_of_the_largest_weights_times_gradients_remain(blocks):
    """By the gradients of transformers' own model with the adapter merged, weight by weight."""
    lora = Lora(rank=2, target_modules=["c_attn", "mlp.c_proj"], blocks=blocks)
    base = tiny_base("gpt2")
    model = SplitModel.load(base, lora, dtype="float64")
    adapter = {name: one.detach() for name, one in moved_adapter(model).items()}
    batch, kept = tiny_batch(model.shape, 3, 9), kept_units(model.shape, 0.5, [(True, True)] * 3)
    whole = base.load("causal_lm", 0, "float64").eval()
    for name, weights in whole.named_parameters():
        layer = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{layer}.lora_A.weight" in adapter:
            product = adapter[f"{layer}.lora_B.weight"] @ adapter[f"{layer}.lora_A.weight"]
            weights.data += lora.scaling * product.T
    ids, seen = torch.tensor(batch.input_ids), torch.tensor(batch.attention_mask)
    labels = torch.tensor(batch.labels)
    whole(input_ids=ids, attention_mask=seen.long(), labels=labels).loss.backward()
    chosen = narrowing.choose(model, adapter, kept, slopes_of(model, adapter, batch))
    width, head = model.shape.hidden_size, model.shape.head_dim
    for number, block in enumerate(whole.transformer.h, start=1):
        sizes = {
            name: (one.detach() * one.grad).abs() for name, one in block.named_parameters() if one.dim() == 2
        }
        heads = []
        for first in range(0, width, head):
            own = slice(first, first + head)
            parts = sizes["attn.c_attn.weight"].split(width, dim=1)
            heads.append(sum(part[:, own].sum() for part in parts) + sizes["attn.c_proj.weight"][own].sum())
        columns = [
            sizes["mlp.c_fc.weight"][:, one].sum() + sizes["mlp.c_proj.weight"][one].sum()
            for one in range(sizes["mlp.c_fc.weight"].shape[1])
        ]
        for kind, found in (("heads", heads), ("columns", columns)):
            order = sorted(range(len(found)), key=lambda one: -float(found[one]))
            count = len(chosen[f"{number}.{kind}"])
            assert sorted(order[:count]) == chosen[f"{number}.{kind}"].tolist()
    assert not any(one.requires_grad for one in model.base_weights().values())
    by_size = narrowing.choose(model, adapter, kept)
    assert any(by_size[name].tolist() != one.tolist() for name, one in chosen.items())
    if blocks is None:
        assert_equals_zeroed(model, adapter, chosen)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("kind", TRAINABLES)
def test_flop_are_those_that_torch_counts(family, kind):
    model = SplitModel.load(tiny_base(family), TRAINABLES[kind])
    adapter = moved_adapter(model)
    units = narrowing.choose(model, adapter, kept_units(model.shape, 0.5, SOME))
    mine = leaves_of(narrowing.narrow(adapter, axes_of(model.shape, adapter), units))
    narrow = as_charged(narrowing.narrow_model(model, units))
    told, whole = (whole_flop(one.shape, one.trainable, 2, 5) for one in (narrow, model))
    with TorchFlop() as forward:
        loss = narrow.whole_outputs(mine, tiny_batch(model.shape, 2, 5)).loss_sum.sum()
    with TorchFlop() as backward:
        loss.backward()
    assert (told.forward, told.backward) == (forward.total, backward.total)
    assert told.forward < whole.forward
    assert told.backward < whole.backward


def test_all_units_left_out_leave_what_is_never_left_out():
    shape = ModelShape.read({"model_type": "gpt2", "n_layer": 2})
    none = narrowed(shape, ((0, 0),) * 2)
    assert none.num_weights == shape.embedding_weights + shape.head_weights + 2 * (4 * 768 + 2 * 768)


def test_units_of_private_layers_are_not_left_out():
    shape = ModelShape.read({"model_type": "gpt2", "n_layer": 2})
    names = [one.name for one in Full().parameters(shape)]
    mine = {name for name in names if ".h.1.attn." in name or ".mlp.c_fc." in name}
    assert prunable(shape, names, mine, ("heads", "columns")) == ((True, True), (False, True))
    assert prunable(shape, names, mine, ("heads",)) == ((True, False), (False, False))
    assert prunable(shape, [], [], ("columns",)) == ((False, True), (False, True))


def test_what_hides_its_units_cannot_be_narrowed():
    shape = ModelShape.read({"model_type": "gpt2", "n_layer": 2})
    kept = kept_units(shape, 0.5, [(True, True)] * 2)
    assert can_narrow(shape, Lora(target_modules=["all-linear"]).parameters, kept)

    def hidden(of):
        return [
            type(one)(f"other.{one.name}", one.shape, one.block, one.role) for one in Full().parameters(of)
        ]

    assert not can_narrow(shape, hidden, kept)
