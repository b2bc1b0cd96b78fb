"""Every parameter of the model."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cosim.errors import ScenarioError
from cosim.learning.parameters import Parameter, parameters_of
from cosim.learning.shape import Factor, Linear, ModelShape
from cosim.learning.tape import Tape
from cosim.learning.trainable import Trainable

if TYPE_CHECKING:
    from torch import Tensor

_TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


class Full(Trainable):
    """Every parameter is trained, sent and averaged: embeddings, norms, linear layers and head.

    A head that is tied to the token embedding is one tensor with it; it is trained and sent once.
    Where the model is cut, the two ends of that tensor would be on two sides, so a
    tied head is refused there. Ranks, factors and rank pairs mean nothing here.

    Attributes
    ----------
    untie_head
        Make a tied head a tensor of its own before training; it starts as a copy of the
        token embedding. Without effect on a model whose head is not tied.
    """

    kind: Literal["full"] = "full"
    untie_head: bool = False
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"untie_head": True})

    def fitted(self, shape: ModelShape) -> ModelShape:
        """Return the shape with a head of its own, where it is to be untied."""
        if not (self.untie_head and shape.has_tied_head):
            return shape
        head_weights = shape.head_weights + shape.vocab_size * shape.hidden_size
        return replace(shape, has_tied_head=False, head_weights=head_weights)

    def check(self, shape: ModelShape, dtype: str, *, is_cut: bool) -> None:
        """Refuse bfloat16, which rounds steps away, and a tied head in a model that is cut."""
        if dtype == "bfloat16":
            raise ScenarioError(
                "model.dtype: 'bfloat16' rounds an optimiser's steps away, and trainable.kind = 'full' steps "
                "the weights themselves; take 'float32', or train [lora] beside them."
            )
        if is_cut and shape.has_tied_head:
            raise ScenarioError(
                "trainable.kind: 'full' cannot train a head that is tied to the token embedding where the "
                "model is cut between the two; set trainable.untie_head = true, or take a scheme that cuts "
                "nothing, such as 'federated'."
            )

    def parameters(self, shape: ModelShape) -> tuple[Parameter, ...]:
        """Return all parameters by their names in transformers."""
        return parameters_of(shape)

    def first_block(self, shape: ModelShape) -> int:
        """Return 0: the embedding is trained."""
        return 0

    def trains(self, role: Literal["embedding", "head"]) -> bool:
        """Both."""
        return True

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
        """Charge the layer, and the gradient of its weights with it."""
        return tape.dense(rows, linear.d_in, linear.d_out, x, is_trained=True)

    def kept_numbers(self, shape: ModelShape) -> int:
        """Return the inputs of the layers whose inputs are the output of no other layer and no norm."""
        return shape.attention_output.d_in + shape.mlp_output.d_in

    def attach(self, model: Any, shape: ModelShape, base_name: str) -> tuple[Any, Any]:
        """Let every parameter take a gradient, and give a tied head its own tensor where asked for."""
        import torch

        if shape.task == "causal_lm" and not shape.has_tied_head:
            head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
            if head.weight is embedding.weight:
                head.weight = torch.nn.Parameter(head.weight.detach().clone())
                model.config.tie_word_embeddings = False
        return super().attach(model, shape, base_name)

    def files(
        self,
        model: Any,
        tensors: "Mapping[str, Tensor]",
        merged: "Mapping[str, Tensor]",
        labels: Sequence[str],
        tokenizer: Path | None,
    ) -> dict[str, bytes]:
        """Return a checkpoint as transformers loads it: config, weights, and the base's tokenizer."""
        from cosim.learning.adapter_files import packed

        files = {"config.json": _config(model, labels), "model.safetensors": packed(tensors)}
        for path in (tokenizer / name for name in _TOKENIZER_FILES) if tokenizer is not None else ():
            if path.is_file():
                files[path.name] = path.read_bytes()
        return files


def _config(model: Any, labels: Sequence[str]) -> bytes:
    """Return the config of a model, with the names of its classes."""
    from copy import deepcopy

    config = deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.dtype = model.dtype
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
    text: str = config.to_json_string()
    return text.encode()
