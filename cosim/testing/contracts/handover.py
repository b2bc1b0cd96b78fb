"""What every hand-over keeps: the shape of the adapter it begins, and the model, with the residual."""

import pytest
import torch

from cosim.learning.handover import Handover
from cosim.learning.shape import Linear
from cosim.testing.selection import parts_of

A, B, HEAD = "q.lora_A.weight", "q.lora_B.weight", "score.weight"
SCALING = 8.0
HANDOVERS = parts_of(Handover)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rank", [2, 9])
@pytest.mark.parametrize("handover", HANDOVERS)
def test_a_handover_begins_an_adapter_like_a_fresh_one(handover, rank, dtype):
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    fresh = {A: drawn(rank, 7), B: torch.zeros(5, rank, dtype=dtype), HEAD: drawn(3, 2)}
    changes = {A: drawn(5, 7)}
    given = [*fresh.values(), *changes.values()]
    before = [tensor.clone() for tensor in given]
    begun = handover.begin(changes, fresh, SCALING)
    assert all(torch.equal(*pair) for pair in zip(given, before, strict=True))
    assert {name: (one.shape, one.dtype) for name, one in begun.adapter.items()} == {
        name: (one.shape, one.dtype) for name, one in fresh.items()
    }
    assert torch.equal(begun.adapter[HEAD], fresh[HEAD])
    assert bool(begun.residual) == handover.keeps_residual
    assert 0.0 <= begun.kept_energy <= 1.0 + 1e-6
    if handover.keeps_residual:
        model = SCALING * begun.adapter[B] @ begun.adapter[A] + begun.residual[A]
        assert torch.allclose(model, changes[A], atol=1e-12 if dtype == torch.float64 else 1e-5)
    nothing = handover.begin({A: torch.zeros(5, 7, dtype=dtype)}, fresh, SCALING)
    assert not (nothing.adapter[B] @ nothing.adapter[A]).any()
    assert handover.flop([Linear("q", d_in=7, d_out=5, has_bias=False)]) >= 0
