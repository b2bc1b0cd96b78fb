"""What every gradients keeps, run over each part's examples."""

import pytest
import torch
from torch import Tensor

from cosim.learning.gradients import Gradients
from cosim.parts import make
from cosim.testing.selection import examples_of

CASES = examples_of(Gradients)


def drawn(seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(size, generator=generator, dtype=dtype) for name, size in (("a", 3), ("b", 5))}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", CASES)
class TestEveryGradients:
    def test_it_keeps_names_and_formats_and_writes_into_nothing(self, settings, dtype) -> None:
        part, given, untouched = make(Gradients, settings), drawn(0, dtype), drawn(0, dtype)
        found = part.of_example(given)
        assert {name: (one.shape, one.dtype) for name, one in found.items()} == {
            name: (one.shape, one.dtype) for name, one in untouched.items()
        }
        assert all(torch.equal(given[name], one) for name, one in untouched.items())

    def test_one_that_calls_itself_the_mean_changes_nothing(self, settings, dtype) -> None:
        part, given = make(Gradients, settings), drawn(0, dtype)
        same = all(torch.equal(one, given[name]) for name, one in part.of_example(given).items())
        assert same or not part.is_mean
