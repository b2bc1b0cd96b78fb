"""Regularizer: small factors."""

from typing import Literal

from pydantic import Field

from cosim.learning.regularizer import Regularizer, Tensors


class Shrink(Regularizer):
    """Half the squared norm of all B factors, times ``weight``."""

    kind: Literal["far_shrink"] = "far_shrink"
    weight: float = Field(default=0.1, gt=0.0)

    def loss(self, adapter: Tensors) -> float:
        """Return the term."""
        return (
            0.5 * self.weight * sum(float(one.detach().square().sum()) for one in _pulled(adapter).values())
        )

    def gradient(self, adapter: Tensors) -> Tensors:
        """Return the B factors times the weight."""
        return {name: self.weight * one.detach() for name, one in _pulled(adapter).items()}


def _pulled(adapter: Tensors) -> Tensors:
    return {name: tensor for name, tensor in adapter.items() if ".lora_B." in name}
