"""Acceptance test 11: pairs may be numbered in any way all agree on, and must never be renumbered by one."""

import pytest
import torch
from torch import Tensor

from cosim.learning.codec import Codec, Sending
from cosim.learning.codec.none import Plain
from cosim.learning.codec.pairs import pairs_of
from cosim.learning.codec.soft import Soft
from cosim.learning.model import SplitModel
from cosim.learning.optimizer.adamw import AdamW
from cosim.learning.regularizer.orthogonality import Orthogonality
from cosim.learning.trainable.lora import Lora
from cosim.rng import stream
from cosim.testing.tiny_bases import tiny_batch
from tests.tiny_bases import tiny_model

NUM_CLIENTS, NUM_ROUNDS, LOCAL_STEPS = 3, 4, 3

Adapter = dict[str, Tensor]


@pytest.fixture(scope="module")
def model() -> SplitModel:
    return tiny_model("gpt2", "causal_lm", Lora(rank=6))


def permuted(adapter: Adapter, *, back: bool = False) -> Adapter:
    """Return the same model with its pairs in another order, or those of the other order put back."""
    found = dict(adapter)
    for number, module in enumerate(pairs_of(adapter).modules):
        order = torch.from_numpy(stream(5, "order", number).generator().permutation(module.rank))
        order = order.argsort() if back else order
        found[module.a_name] = adapter[module.a_name][order]
        found[module.b_name] = adapter[module.b_name][:, order]
    return found


def train(model: SplitModel, codec: Codec, start: Adapter, renumbers: tuple[int, ...] = ()) -> Adapter:
    """Return the global adapter after some rounds; clients that renumber do not say so."""
    optimizer, regularizer = AdamW(learning_rate=0.02), Orthogonality()
    states = [optimizer.start(start) for _ in range(NUM_CLIENTS)]
    memories: list[Adapter | None] = [None] * NUM_CLIENTS
    here = start
    for round_ in range(NUM_ROUNDS):
        received = []
        for client in range(NUM_CLIENTS):
            mine = here
            for step in range(LOCAL_STEPS):
                leaves = {name: tensor.detach().requires_grad_() for name, tensor in mine.items()}
                batch = tiny_batch(model.shape, 2, 12, seed=100 * client + 10 * round_ + step)
                loss = model.whole_outputs(leaves, batch).loss_sum.sum() / 20
                found = torch.autograd.grad(loss, list(leaves.values()))
                gradients = regularizer.added(mine, dict(zip(leaves, found, strict=True)))
                mine, states[client] = optimizer.step(mine, gradients, states[client], step, 100)
            wanted = permuted(mine) if client in renumbers else mine
            sent = codec.transmit(Sending(wanted, here, memories[client], sparsification_ratio=0.5))
            memories[client] = sent.memory
            received.append(sent.tensors)
        here = {name: sum(one[name] for one in received) / NUM_CLIENTS for name in here}
    return here


def loss_of(model: SplitModel, adapter: Adapter) -> float:
    total = 0.0
    with torch.no_grad():
        for client in range(NUM_CLIENTS):
            for number in range(10):
                batch = tiny_batch(model.shape, 2, 12, seed=100 * client + number)
                total += float(model.whole_outputs(adapter, batch).loss_sum.sum())
    return total


@pytest.mark.parametrize("codec", [Plain(), Soft(), Soft(importance="norm", error_feedback=False)], ids=repr)
def test_another_order_of_pairs_that_all_share_changes_nothing(model, codec):
    start = model.initial_adapter()
    straight, other = train(model, codec, start), train(model, codec, permuted(start))
    back = permuted(other, back=True)
    for name, tensor in straight.items():
        assert torch.allclose(back[name], tensor, rtol=1e-6, atol=1e-9)
    assert any(not torch.allclose(tensor, start[name]) for name, tensor in straight.items())


@pytest.mark.parametrize("codec", [Plain(), Soft()], ids=repr)
def test_one_client_with_an_order_of_its_own_breaks_training(model, codec):
    start = model.initial_adapter()
    gained, broken = (
        loss_of(model, start) - loss_of(model, train(model, codec, start, renumbers))
        for renumbers in ((), (0,))
    )
    assert gained > 0.0
    assert broken < 0.9 * gained
