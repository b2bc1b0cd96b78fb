"""Local rule: a pull towards where the round began, of bounded strength."""

from typing import Literal

from pydantic import Field

from cosim.learning.local_rule import LocalRule, Tensors


class Tether(LocalRule):
    """Adds ``pull`` times the distance over one plus its size to each gradient."""

    kind: Literal["far_tether"] = "far_tether"
    pull: float = Field(default=0.1, gt=0.0)

    def corrected(
        self, adapter: Tensors, gradients: Tensors, start: Tensors, common: Tensors, own: Tensors
    ) -> Tensors:
        """Return the gradients with the pull added."""
        away = {name: adapter[name] - start[name] for name in gradients}
        return {
            name: one + self.pull * away[name] / (1 + away[name].abs()) for name, one in gradients.items()
        }
