from math import sqrt

import pytest
import torch

from cosim.learning.server_optimizer import ServerOptimizer
from cosim.parts import make
from cosim.testing import contract
from cosim.testing.contracts.server_optimizer import drawn

globals().update(contract(ServerOptimizer))


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
