from math import sqrt

import pytest
import torch
from torch import Tensor

from cosim.learning.server_optimizer import ServerOptimizer
from cosim.parts import family, make

CASES = [
    pytest.param({"kind": kind, **settings}, id=f"{kind}-{number}")
    for kind, part in family(ServerOptimizer).items()
    for number, settings in enumerate(part.examples)
]


def drawn(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(size, generator=generator, dtype=dtype) for name, size in (("a", 3), ("b", 5))}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("settings", CASES)
class TestEveryServerOptimizer:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_it_keeps_names_and_formats_and_writes_into_nothing(self, settings, dtype) -> None:
        part, before, state = make(ServerOptimizer, settings), drawn(0, dtype), {}
        for seed in range(1, 4):
            given = before, drawn(seed, dtype), state
            untouched = [{name: one.clone() for name, one in some.items()} for some in given]
            after, state = part.step(*given)
            assert {name: (one.shape, one.dtype) for name, one in after.items()} == {
                "a": ((3,), dtype),
                "b": ((5,), dtype),
            }
            assert all(map(same, given, untouched))
            before = after

    def test_an_average_that_has_not_moved_moves_nothing_at_first(self, settings) -> None:
        part, before = make(ServerOptimizer, settings), drawn(0)
        assert same(part.step(before, before, {})[0], before)

    def test_what_takes_no_part_in_a_round_waits(self, settings) -> None:
        """Factors may be sent in turn: the state of one stays while the other is averaged."""
        part, before = make(ServerOptimizer, settings), drawn(0)
        _, state = part.step(before, drawn(1), {})
        only_a = {"a": drawn(2)["a"]}
        after, later = part.step(before, only_a, state)
        assert after.keys() == {"a"}
        assert later.keys() == state.keys()
        assert all(torch.equal(later[name], one) for name, one in state.items() if name.endswith("b"))


@pytest.mark.parametrize("kind", ["fedadam", "fedyogi"])
def test_adaptive_steps_are_those_of_the_paper_number_by_number(kind):
    part = make(
        ServerOptimizer, {"kind": kind, "learning_rate": 0.3, "beta_1": 0.8, "beta_2": 0.9, "tau": 0.05}
    )
    x, m, v = 0.4, 0.0, 0.05**2
    tensors, state = {"w": torch.tensor([x], dtype=torch.float64)}, {}
    for average in (0.9, 0.1, 0.12, -2.0):
        delta = average - x
        m = 0.8 * m + 0.2 * delta
        sign = (v > delta**2) - (v < delta**2)
        v = 0.9 * v + 0.1 * delta**2 if kind == "fedadam" else v - 0.1 * delta**2 * sign
        x += 0.3 * m / (sqrt(v) + 0.05)
        tensors, state = part.step(tensors, {"w": torch.tensor([average], dtype=torch.float64)}, state)
        assert float(tensors["w"]) == pytest.approx(x, rel=1e-13)


def test_momentum_is_that_of_sgd_on_what_averages_are_away():
    part = make(ServerOptimizer, {"kind": "fedavgm", "learning_rate": 0.5, "momentum": 0.7})
    weights = torch.nn.Parameter(drawn(0)["a"].clone())
    sgd, tensors, state = torch.optim.SGD([weights], lr=0.5, momentum=0.7), {"a": drawn(0)["a"]}, {}
    for seed in range(1, 5):
        average = drawn(seed)["a"]
        weights.grad = weights.detach() - average
        sgd.step()
        tensors, state = part.step(tensors, {"a": average}, state)
        assert torch.allclose(tensors["a"], weights.detach(), rtol=0, atol=1e-14)
