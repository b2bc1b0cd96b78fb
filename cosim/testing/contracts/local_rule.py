"""What every local rule keeps, run over each part's examples."""

import pytest
import torch

from cosim.learning.local_rule import LocalRule
from cosim.parts import make
from cosim.testing.selection import examples_of
from cosim.testing.tensors import drawn, same

CASES = examples_of(LocalRule)


@pytest.mark.parametrize("settings", CASES)
class TestEveryLocalRule:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_it_corrects_what_has_a_gradient_and_writes_into_nothing(self, settings, dtype) -> None:
        rule, given = make(LocalRule, settings), [drawn(seed, dtype) for seed in range(5)]
        given[1].pop("b")
        untouched = [{name: one.clone() for name, one in some.items()} for some in given]
        found = rule.corrected(*given)
        assert {name: (one.shape, one.dtype) for name, one in found.items()} == {"a": ((3,), dtype)}
        assert all(map(same, given, untouched))

    def test_before_anything_was_learned_nothing_is_corrected(self, settings) -> None:
        rule, here, gradients = make(LocalRule, settings), drawn(0), drawn(1)
        assert same(rule.corrected(here, gradients, here, {}, {}), gradients)

    def test_variates_that_agree_correct_nothing(self, settings) -> None:
        rule, here, gradients, variate = make(LocalRule, settings), drawn(0), drawn(1), drawn(2)
        found = rule.corrected(here, gradients, here, variate, variate)
        assert all(torch.allclose(found[name], one, rtol=0, atol=1e-14) for name, one in gradients.items())

    def test_what_is_sent_of_a_variate_is_the_common_one_and_the_change(self, settings) -> None:
        rule = make(LocalRule, settings)
        if not rule.has_variates:
            return
        start, after, common, own = (drawn(seed) for seed in range(4))
        new, sent = rule.ended(start, after, 0.3, common, own)
        for name in start:
            assert torch.allclose(sent[name], common[name] + new[name] - own[name], rtol=0, atol=1e-12)
        at_zero = rule.ended(start, after, 0.3, {}, {})
        zeros = {name: torch.zeros_like(one) for name, one in start.items()}
        assert all(map(same, at_zero, rule.ended(start, after, 0.3, zeros, zeros)))
