"""Trainable: the last blocks."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.parameters import Parameter, parameters_of
from cosim.learning.shape import Factor, Linear, ModelShape
from cosim.learning.tape import Tape
from cosim.learning.trainable import Trainable

if TYPE_CHECKING:
    from torch import Tensor


class Tail(Trainable):
    """The linear layers of the last blocks, and a classifier; all below stays frozen."""

    kind: Literal["far_tail"] = "far_tail"
    num_blocks: int = Field(default=1, ge=1)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"num_blocks": 2})

    def _first(self, shape: ModelShape) -> int:
        return max(1, shape.num_layers - self.num_blocks + 1)

    def parameters(self, shape: ModelShape) -> tuple[Parameter, ...]:
        """Return the linear layers of these blocks, and the classifier."""
        blocks = range(self._first(shape), shape.num_layers + 1)
        found = parameters_of(shape)
        inside = [one for one in found if one.role in ("attention", "mlp") and one.block in blocks]
        return (*inside, *(one for one in found if one.role == "classifier"))

    def trains(self, role: Literal["embedding", "head"]) -> bool:
        """Neither."""
        return False

    def play_linear(
        self,
        tape: Tape,
        shape: ModelShape,
        block: int,
        linear: Linear,
        rows: int,
        x: bool,
        factors: Collection[Factor],
    ) -> bool:
        """Charge the layer, with the gradient of its weights in the last blocks."""
        return tape.dense(rows, linear.d_in, linear.d_out, x, is_trained=block >= self._first(shape))

    def kept_numbers(self, shape: ModelShape) -> int:
        """Return the inputs of the layers whose inputs are the output of no other layer and no norm."""
        return shape.attention_output.d_in + shape.mlp_output.d_in

    def files(
        self,
        model: Any,
        tensors: "Mapping[str, Tensor]",
        merged: "Mapping[str, Tensor]",
        labels: Sequence[str],
        tokenizer: Path | None,
    ) -> dict[str, bytes]:
        """Return the trained tensors by their names in transformers."""
        from cosim.learning.adapter_files import packed

        return {"tail.safetensors": packed(tensors)}
