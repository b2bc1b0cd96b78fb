"""What every weighting keeps, run over each part's examples."""

import pytest

from cosim.learning.weighting import Sender, Weighting
from cosim.parts import make
from cosim.testing.selection import examples_of

CASES = examples_of(Weighting)


@pytest.mark.parametrize("settings", CASES)
class TestEveryWeighting:
    def test_weights_add_up_to_one_and_do_not_go_by_the_order(self, settings) -> None:
        part, senders = make(Weighting, settings), [Sender(3), Sender(40), Sender(7)]
        weights = part.weights(senders)
        assert sum(weights) == pytest.approx(1.0)
        assert min(weights) >= 0.0
        assert part.weights(senders[::-1]) == pytest.approx(weights[::-1])
        assert part.weights(senders[:1]) == [1.0]

    def test_who_loses_more_counts_no_less_where_losses_count(self, settings) -> None:
        part = make(Weighting, settings)
        senders = [Sender(5, 3.0, 1.0), Sender(5, 1.0, 1.0), Sender(5, 2.0, 1.0)]
        weights = part.weights(senders)
        assert sum(weights) == pytest.approx(1.0)
        assert part.weights(senders[::-1]) == pytest.approx(weights[::-1])
        assert weights[0] >= weights[2] >= weights[1]
        assert part.needs_losses == (weights[0] > weights[1])

    def test_senders_that_are_alike_count_alike(self, settings) -> None:
        part = make(Weighting, settings)
        assert part.weights([Sender(5)] * 4) == pytest.approx([0.25] * 4)
        by_data = part.weights([Sender(1), Sender(3)])
        assert not part.is_by_data or by_data == [0.25, 0.75]
