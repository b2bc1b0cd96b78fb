"""Optimizer: only the sign of a gradient counts."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cosim.learning.optimizer import Optimizer, State, Tensors

if TYPE_CHECKING:
    from torch import Tensor


class SignDescent(Optimizer):
    """Every number goes down by the learning rate, along the sign of its gradient.

    Source
    ------
    J. Bernstein et al., "signSGD: compressed optimisation for non-convex problems", ICML 2018.
    """

    kind: Literal["far_sign_descent"] = "far_sign_descent"
    is_elementwise: ClassVar[bool] = True

    @property
    def numbers_per_parameter(self) -> int:
        """None: it remembers nothing."""
        return 0

    def start(self, parameters: Tensors) -> State:
        """Return nothing."""
        return {}

    def update(
        self, parameters: "dict[str, Tensor]", gradients: "list[Tensor]", state: State, rate: float
    ) -> None:
        """Take one step in place."""
        for parameter, gradient in zip(parameters.values(), gradients, strict=True):
            parameter.sub_(gradient.sign(), alpha=rate)
