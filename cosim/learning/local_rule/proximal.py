"""Clients drawn back to where their round began."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.local_rule import LocalRule, Tensors


class Proximal(LocalRule):
    """Adds ``mu / 2`` times the squared distance from where the round began to the loss: FedProx.

    The gradient gets ``mu (w - w_0)`` added; with ``mu = 0`` nothing is changed.

    Source
    ------
    T. Li et al., "Federated optimization in heterogeneous networks", MLSys 2020, eq. 2. Its clients may
    solve their problem inexactly; here each takes the local steps that it is given.
    """

    kind: Literal["proximal"] = "proximal"
    num_held: ClassVar[int] = 1  # where the round began
    mu: float = Field(default=0.01, ge=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"mu": 0.0})

    def corrected(
        self, adapter: Tensors, gradients: Tensors, start: Tensors, common: Tensors, own: Tensors
    ) -> Tensors:
        """Return the gradients with the term's own added."""
        return {name: one + self.mu * (adapter[name] - start[name]) for name, one in gradients.items()}
