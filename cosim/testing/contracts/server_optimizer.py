"""What every server optimizer keeps, run over each part's examples."""

import pytest
import torch

from cosim.learning.server_optimizer import ServerOptimizer
from cosim.parts import make
from cosim.testing.selection import examples_of
from cosim.testing.tensors import drawn, same

CASES = examples_of(ServerOptimizer)


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
