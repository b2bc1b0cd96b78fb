"""Local optimisers: from parameters and gradients to the next parameters.

A step is a pure function: it writes into nothing it is given, because a state
is a value that is kept under its key and may be asked for again. Names hold
no torch until a step is taken.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from math import cos, nan, pi
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from cosim.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

Tensors = Mapping[str, "Tensor"]
State = dict[str, "Tensor"]
"""What an optimiser remembers, flat, as safetensors hold it: ``exp_avg/<parameter>`` and the like."""


def _cloned(tensors: Tensors) -> "dict[str, Tensor]":
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


class Optimizer(Part):
    """How a client, or a server, follows a gradient.

    The learning rate may warm up linearly from 0 and then stay, or fall to 0
    linearly or along half a cosine until the last step: the schedules of
    ``transformers`` by the same names.

    Attributes
    ----------
    is_elementwise
        Whether ``update`` treats every number by itself, so that it may be given
        the tensors of several clients stacked. Clipping is not part of it.
    """

    is_elementwise: ClassVar[bool] = False
    learning_rate: float = Field(1e-3, gt=0.0, description="Highest learning rate.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="How the rate goes on after warming up."
    )
    warmup_steps: int = Field(0, ge=0, description="Steps over which the rate rises from 0.")
    max_grad_norm: float | None = Field(
        None, gt=0.0, description="Gradients of all parameters together are scaled down to this 2-norm."
    )
    rank_decay: float = Field(
        0.0, ge=0.0, description="Rank pair j of a LoRA adapter steps by j to the minus this, j from 1."
    )

    @property
    @abstractmethod
    def numbers_per_parameter(self) -> int:
        """Numbers the state keeps for each trained number, a step counter not counted."""

    @property
    def knows_the_end(self) -> bool:
        """Whether the number of steps of the whole run decides any rate."""
        return self.schedule != "constant"

    def rate(self, step_index: int, num_steps: int) -> float:
        """Return the learning rate of a step; steps count from 0.

        Source
        ------
        transformers, ``get_linear_schedule_with_warmup`` and its sisters; a
        step after the last one has rate 0, where theirs by cosine rises again.

        Examples
        --------
        >>> from cosim.learning.optimizer.sgd import Sgd
        >>> sgd = Sgd(learning_rate=1.0, schedule="linear", warmup_steps=2)
        >>> [sgd.rate(step, num_steps=6) for step in range(7)]
        [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
        """
        if step_index < self.warmup_steps:
            return self.learning_rate * (step_index / self.warmup_steps)
        if self.schedule == "constant":
            return self.learning_rate
        falling = max(1, num_steps - self.warmup_steps)
        if self.schedule == "linear":
            return self.learning_rate * max(0.0, (num_steps - step_index) / falling)
        progress = min(1.0, (step_index - self.warmup_steps) / falling)
        return self.learning_rate * max(0.0, 0.5 * (1.0 + cos(pi * progress)))

    @abstractmethod
    def start(self, parameters: Tensors) -> State:
        """Return the state before the first step."""

    def step(
        self,
        parameters: Tensors,
        gradients: Tensors,
        state: Tensors,
        step_index: int,
        num_steps: int,
        copied: "Callable[[Tensors], dict[str, Tensor]]" = _cloned,
    ) -> tuple[dict[str, "Tensor"], State]:
        """Return new parameters and the new state; nothing given is written to.

        Parameters
        ----------
        parameters, gradients
            By the same names, each gradient of its parameter's shape and type.
        state
            What ``start`` or the last step returned.
        step_index, num_steps
            Steps taken before this one, and steps of the whole run; they
            decide the rate and nothing else.
        copied
            Returns the same numbers in memory of their own, where what is returned is to be.

        Raises
        ------
        ValueError
            If gradients and parameters do not have the same names.
        """
        if parameters.keys() != gradients.keys():
            odd = sorted(parameters.keys() ^ gradients.keys())
            raise ValueError(f"parameters and gradients differ in names: {', '.join(odd)}")
        import torch

        with torch.no_grad():
            new, kept = copied(parameters), copied(state)
            if new:
                downhill = [gradients[name].detach() for name in new]
                try:
                    self.update(new, self._clipped(downhill), kept, self.rate(step_index, num_steps))
                except RuntimeError as fault:
                    if "without overflow" not in str(fault):
                        raise
                    for tensor in new.values():  # torch refuses a step beyond the number format
                        tensor.fill_(nan)
                if self.rank_decay:
                    self._slow_down(new, parameters)
        return new, kept

    @abstractmethod
    def update(
        self, parameters: dict[str, "Tensor"], gradients: "list[Tensor]", state: State, rate: float
    ) -> None:
        """Take one step in place; ``step`` calls it on copies, gradients in the order of the parameters."""

    def _slow_down(self, new: "dict[str, Tensor]", old: Tensors) -> None:
        """Shorten the steps of rank pairs in place, the more the later they are numbered."""
        import torch

        for name, tensor in new.items():
            if "lora_A" in name or "lora_B" in name:
                pairs = tensor if "lora_A" in name else tensor.mT  # (..., rank, inputs or outputs)
                number = torch.arange(1, pairs.shape[-2] + 1, dtype=tensor.dtype, device=tensor.device)
                before = old[name].detach()
                start = before if "lora_A" in name else before.mT
                pairs.copy_(torch.lerp(start, pairs, number.pow(-self.rank_decay)[:, None]))

    def _clipped(self, gradients: "list[Tensor]") -> "list[Tensor]":
        """Return the gradients scaled as ``torch.nn.utils.clip_grad_norm_`` does it."""
        if self.max_grad_norm is None:
            return gradients
        import torch

        norm = torch.nn.utils.get_total_norm(gradients)
        scale = torch.clamp(self.max_grad_norm / (norm + 1e-6), max=1.0)
        return [gradient * scale for gradient in gradients]
