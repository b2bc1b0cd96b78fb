"""Gradients as they are."""

from typing import Literal

from cosim.learning.local_rule import LocalRule, Tensors


class NoRule(LocalRule):
    """Corrects nothing."""

    kind: Literal["none"] = "none"

    @property
    def is_none(self) -> bool:
        """Always."""
        return True

    def corrected(
        self, adapter: Tensors, gradients: Tensors, start: Tensors, common: Tensors, own: Tensors
    ) -> Tensors:
        """Return the gradients."""
        return gradients


NO_RULE = NoRule.default()
"""What corrects gradients where nothing else is said."""
