"""What every regularizer keeps, run over each part's examples."""

import pytest
import torch
from torch import Tensor

from cosim.learning.regularizer import Regularizer
from cosim.parts import make
from cosim.testing.selection import examples_of

CASES = examples_of(Regularizer)
SHAPES = {
    "h.0.q.lora_A.weight": (3, 5),
    "h.0.q.lora_B.weight": (7, 3),
    "h.0.v.lora_A.weight": (3, 5),
    "h.0.v.lora_B.weight": (4, 3),
    "h.1.q.lora_A.weight": (3, 5),
    "h.1.q.lora_B.weight": (7, 3),
    "score.weight": (2, 5),
}


def adapter(seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("settings", CASES)
class TestEveryRegularizer:
    def test_its_gradient_leads_downhill(self, settings: dict[str, object]) -> None:
        part, here = make(Regularizer, settings), adapter()
        lower = {name: here[name] - 1e-4 * one for name, one in part.gradient(here).items()}
        assert part.loss(here | lower) < part.loss(here) or part.is_none

    def test_leaves_what_it_was_given(self, settings: dict[str, object]) -> None:
        part, here, gradients = make(Regularizer, settings), adapter(), adapter(1)
        for tensor in part.added(here, gradients).values():
            assert not tensor.requires_grad
        for before, after in ((adapter(), here), (adapter(1), gradients)):
            assert all(torch.equal(before[name], after[name]) for name in SHAPES)

    def test_adds_its_gradient_only_where_there_is_one(self, settings: dict[str, object]) -> None:
        part, here = make(Regularizer, settings), adapter()
        only_b = {name: tensor for name, tensor in adapter(1).items() if ".lora_B." in name}
        own = part.gradient(here)
        assert {name: tuple(one.shape) for name, one in own.items()}.items() <= SHAPES.items()
        found = part.added(here, only_b)
        assert found.keys() == only_b.keys()
        assert all(torch.equal(found[n], t + own[n] if n in own else t) for n, t in only_b.items())

    def test_takes_adapters_that_record_gradients(self, settings: dict[str, object]) -> None:
        part = make(Regularizer, settings)
        leaves = {name: tensor.requires_grad_() for name, tensor in adapter().items()}
        plain = part.gradient(adapter())
        assert all(torch.equal(one, plain[name]) for name, one in part.gradient(leaves).items())
        assert part.loss(leaves) == part.loss(adapter())

    def test_keeps_the_number_format(self, settings: dict[str, object]) -> None:
        here = adapter(dtype=torch.float32)
        for tensor in make(Regularizer, settings).added(here, adapter(1, torch.float32)).values():
            assert tensor.dtype == torch.float32
