"""What every optimizer keeps, run over each part's examples."""

import pytest
import torch
from torch import Tensor

from cosim.learning.optimizer import Optimizer
from cosim.parts import make
from cosim.testing.selection import examples_of

CASES = examples_of(Optimizer)
NUM_STEPS = 6


def start() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(3, 5, generator=generator) for name in ("lora_A", "lora_B")}


def walk(optimizer: Optimizer, steps: range, parameters: dict[str, Tensor], state: dict[str, Tensor]):
    """Walk down half the squared norm, whose gradient is the point itself."""
    for step in steps:
        parameters, state = optimizer.step(parameters, dict(parameters), state, step, NUM_STEPS)
    return parameters, state


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("settings", CASES)
class TestEveryOptimizer:
    def test_goes_downhill(self, settings: dict[str, object]) -> None:
        optimizer, parameters = make(Optimizer, settings), start()
        end, _ = walk(optimizer, range(NUM_STEPS), parameters, optimizer.start(parameters))
        assert sum(t.norm() for t in end.values()) < sum(t.norm() for t in parameters.values())

    def test_keeps_names_shapes_and_types(self, settings: dict[str, object]) -> None:
        optimizer, parameters = make(Optimizer, settings), start()
        state = optimizer.start(parameters)
        end, kept = walk(optimizer, range(2), parameters, state)
        for old, new in ((parameters, end), (state, kept)):
            assert old.keys() == new.keys()
            assert all(old[k].shape == new[k].shape and old[k].dtype == new[k].dtype for k in old)

    def test_leaves_what_it_was_given_and_shares_no_memory(self, settings: dict[str, object]) -> None:
        optimizer, parameters = make(Optimizer, settings), start()
        state, gradients = optimizer.start(parameters), start()
        before = [tensor.clone() for tensor in (*parameters.values(), *gradients.values(), *state.values())]
        new, kept = optimizer.step(parameters, gradients, state, 0, NUM_STEPS)
        for tensor in (*new.values(), *kept.values()):
            assert not tensor.requires_grad
            tensor.fill_(7.0)
        after = (*parameters.values(), *gradients.values(), *state.values())
        assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))

    def test_takes_parameters_that_record_gradients(self, settings: dict[str, object]) -> None:
        optimizer = make(Optimizer, settings)
        plain = start()
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in plain.items()}
        one, _ = optimizer.step(plain, plain, optimizer.start(plain), 0, NUM_STEPS)
        two, _ = optimizer.step(leaves, plain, optimizer.start(leaves), 0, NUM_STEPS)
        assert same(one, two)
        assert not any(tensor.requires_grad for tensor in two.values())

    def test_going_on_from_a_kept_state_is_going_on(self, settings: dict[str, object]) -> None:
        optimizer, parameters = make(Optimizer, settings), start()
        straight, state = walk(optimizer, range(NUM_STEPS), parameters, optimizer.start(parameters))
        half = walk(optimizer, range(3), parameters, optimizer.start(parameters))
        broken, kept = walk(optimizer, range(3, NUM_STEPS), *half)
        assert same(straight, broken)
        assert same(state, kept)

    def test_says_how_many_numbers_it_keeps(self, settings: dict[str, object]) -> None:
        optimizer, parameters = make(Optimizer, settings), start()
        kept = sum(tensor.numel() for name, tensor in optimizer.start(parameters).items() if name != "step")
        assert kept == optimizer.numbers_per_parameter * sum(t.numel() for t in parameters.values())

    def test_draws_nothing(self, settings: dict[str, object]) -> None:
        optimizer, parameters = make(Optimizer, settings), start()
        before = torch.get_rng_state()
        walk(optimizer, range(2), parameters, optimizer.start(parameters))
        assert torch.equal(before, torch.get_rng_state())
