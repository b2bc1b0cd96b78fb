"""Stochastic gradient descent, with momentum if wanted."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cosim.learning.optimizer import Optimizer, State, Tensors

if TYPE_CHECKING:
    from torch import Tensor


class Sgd(Optimizer):
    """Gradient descent, bit for bit that of ``torch.optim.SGD`` on the CPU.

    Source
    ------
    I. Sutskever et al., "On the importance of initialization and momentum in
    deep learning", ICML 2013. The rate multiplies the momentum buffer, not
    what flows into it, as in torch.
    """

    kind: Literal["sgd"] = "sgd"
    is_elementwise: ClassVar[bool] = True
    momentum: float = Field(0.0, ge=0.0, lt=1.0, description="Share of the last direction that is kept.")
    nesterov: bool = Field(False, description="Look ahead along the momentum.")
    weight_decay: float = Field(0.0, ge=0.0, description="Factor of the parameters added to their gradients.")
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"learning_rate": 0.1},
        {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.01},
        {"momentum": 0.5, "nesterov": True, "schedule": "linear", "max_grad_norm": 1.0},
    )

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    @property
    def numbers_per_parameter(self) -> int:
        """One with momentum, none without."""
        return 1 if self.momentum else 0

    def start(self, parameters: Tensors) -> State:
        """Return empty momentum, or nothing without momentum."""
        if not self.momentum:
            return {}
        import torch

        # torch fills the buffer with the first gradient. Minus zero is what a sum can start from and
        # leave every gradient as it is, down to the sign of a zero.
        return {
            f"momentum/{name}": torch.full_like(parameter.detach(), -0.0)
            for name, parameter in parameters.items()
        }

    def update(
        self, parameters: "dict[str, Tensor]", gradients: "list[Tensor]", state: State, rate: float
    ) -> None:
        """Take one step in place."""
        from torch.optim.sgd import sgd

        sgd(
            list(parameters.values()),
            [one.clone() for one in gradients]
            if self.nesterov
            else gradients,  # torch adds to these in place
            [state[f"momentum/{name}"] if self.momentum else None for name in parameters],
            foreach=True,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
        )
