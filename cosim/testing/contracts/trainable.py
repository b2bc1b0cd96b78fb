"""Every trainable trains exactly what it lists, at the FLOP it counts, on whichever side of a cut."""

from functools import cache
from typing import Any

import pytest
import torch

from cosim.learning import flop
from cosim.learning.flop import SplitFlop, WholeFlop
from cosim.learning.learner import mean_loss
from cosim.learning.model import SplitModel
from cosim.learning.shape import ModelTask
from cosim.learning.torch_flop import TorchFlop
from cosim.learning.trainable import Trainable
from cosim.testing.selection import parts_of
from cosim.testing.tiny_bases import (
    NUM_LABELS,
    USES,
    as_charged,
    furthest,
    gradients,
    moved_adapter,
    tiny_base,
    tiny_batch,
)

# peft asks transformers a question under a name that newer releases have renamed
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

TRAINABLES = parts_of(Trainable)
CUTS = (1, 2)
every = pytest.mark.parametrize("trainable", TRAINABLES)
on_every_model = pytest.mark.parametrize(("model_type", "task"), USES)


def model_of(model_type: str, task: ModelTask, trainable: Trainable, dtype: Any = "float64") -> SplitModel:
    """Return a tiny model that is cut, unless the trainable cannot carry that; all heads are of their own."""
    labels = NUM_LABELS if task == "classification" else 0
    changes = {"tie_word_embeddings": False} if task == "causal_lm" else {}
    return SplitModel.load(tiny_base(model_type, **changes), trainable, task, labels, dtype)


shared_model_of = cache(model_of)
"""The same for tests that change nothing in it."""


@on_every_model
@every
def test_it_trains_what_it_lists_in_the_order_of_the_list(
    trainable: Trainable, model_type: str, task: ModelTask
) -> None:
    model = shared_model_of(model_type, task, trainable)
    shape, tensors, listed = model.shape, model.initial_adapter(), trainable.parameters(model.shape)
    assert [(name, tuple(one.shape)) for name, one in tensors.items()] == [
        (one.name, one.shape) for one in listed
    ]
    assert model.names == tuple(one.name for one in trainable.held(shape, shape.num_layers))
    for cut_layer in CUTS:
        held = tuple(one.name for one in trainable.held(shape, cut_layer))
        assert model.client_names(cut_layer) == held
        assert model.server_names(cut_layer) == tuple(name for name in model.names if name not in held)
    assert trainable.has_factors == any(one.factor is not None for one in listed)
    numbers = sum(one.numbers for one in listed)
    assert numbers <= shape.num_weights or trainable.is_added


@on_every_model
@every
def test_it_counts_the_flop_that_torch_does(trainable: Trainable, model_type: str, task: ModelTask) -> None:
    model = as_charged(model_of(model_type, task, trainable, "float32"))
    batch, tensors, counts = tiny_batch(model.shape, 2, 5), moved_adapter(model), []

    def counted(action: Any) -> Any:
        with TorchFlop() as counter:
            result = action()
        counts.append(counter.total)
        return result

    whole = flop.whole_flop(model.shape, trainable, 2, 5)
    outputs = counted(lambda: model.whole_outputs(tensors, batch))
    counted(lambda: outputs.loss_sum.sum().backward())
    assert WholeFlop(*counts) == whole
    for cut_layer in CUTS:
        counts.clear()
        activations = counted(lambda cut=cut_layer: model.client_forward(tensors, batch, cut))
        received = activations.detach().requires_grad_(activations.requires_grad)
        outputs = counted(lambda cut=cut_layer, got=received: model.server_outputs(tensors, got, batch, cut))
        counted(lambda out=outputs: out.loss_sum.sum().backward())
        counted(lambda out=activations, got=received: out.backward(got.grad) if out.requires_grad else None)
        client_forward, server_forward, server_backward, client_backward = counts
        split = SplitFlop(client_forward, client_backward, server_forward, server_backward)
        assert flop.split_flop(model.shape, trainable, cut_layer, 2, 5) == split
        assert client_forward + server_forward == whole.forward
        assert client_backward + server_backward == whole.backward


@on_every_model
@every
def test_split_gradients_are_those_of_the_whole(
    trainable: Trainable, model_type: str, task: ModelTask
) -> None:
    model = shared_model_of(model_type, task, trainable)
    batch, start = tiny_batch(model.shape, 3, 6), moved_adapter(model)
    mean_loss(model.whole_outputs(start, batch)).backward()
    for cut_layer in CUTS:
        split = {name: one.detach().clone().requires_grad_() for name, one in start.items()}
        activations = model.client_forward(split, batch, cut_layer)
        received = activations.detach().clone().requires_grad_()
        mean_loss(model.server_outputs(split, received, batch, cut_layer)).backward()
        if activations.requires_grad:  # something is trained below the cut
            activations.backward(received.grad)
        assert furthest(gradients(split), gradients(start)) == 0.0


@every
def test_equal_tensors_are_equal_files_and_no_global_chance_is_read(trainable: Trainable) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = model_of("gpt2", "classification", trainable)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    other = model_of("gpt2", "classification", trainable)
    first, second = one.initial_adapter(), other.initial_adapter()
    assert furthest(first, second) == 0.0
    assert one.adapter_files(first, labels=("a", "b", "c")) == other.adapter_files(
        second, labels=("a", "b", "c")
    )
