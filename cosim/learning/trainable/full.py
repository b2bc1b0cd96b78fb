"""Every parameter of the model."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.parameters import Parameter, parameters_of, role_of
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
    """The model's own parameters are trained, sent and averaged: embeddings, norms, linear layers and head.

    A head that is tied to the token embedding is one tensor with it; it is trained and sent once.
    Where the model is cut, the two ends of that tensor would be on two sides, so a
    tied head is refused there. Ranks, factors and rank pairs mean nothing here.

    Attributes
    ----------
    only
        Roles that are trained, in the blocks alone: ``attention`` and ``mlp``, linear layers, and ``norm``. A
        classifier, which no base has, always is. Without it every parameter is trained.
    untie_head
        Make a tied head a tensor of its own before training; it starts as a copy of the
        token embedding. Without effect on a model whose head is not tied.
    """

    kind: Literal["full"] = "full"
    only: tuple[Literal["attention", "mlp", "norm"], ...] | None = Field(default=None, min_length=1)
    untie_head: bool = False
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"untie_head": True},
        {"only": ["attention"]},
        {"only": ["norm"]},
        {"only": ["mlp", "norm"]},
    )

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
        if (
            self.only is not None
            and "norm" in self.only
            and (shape.names.norms_outputs or not shape.names.norms)
        ):
            raise ScenarioError(
                f"trainable.only: a model of {shape.family!r} has no norm in front of its layers, and "
                "'norm' is for models that do; take 'attention' or 'mlp', or train everything."
            )
        if is_cut and shape.blocks_see_front and self.only is None:
            raise ScenarioError(
                f"trainable.kind: 'full' cannot train a model of {shape.family!r} that is cut: both sides "
                "would train the one table of distances; train [lora], or set trainable.only."
            )
        if is_cut and shape.has_tied_head and self.only is None:
            raise ScenarioError(
                "trainable.kind: 'full' cannot train a head that is tied to the token embedding where the "
                "model is cut between the two; set trainable.untie_head = true, or take a scheme that cuts "
                "nothing, such as 'federated'."
            )

    def parameters(self, shape: ModelShape) -> tuple[Parameter, ...]:
        """Return the parameters of the chosen roles by their names in transformers."""
        if self.only is None:
            return parameters_of(shape)
        inside = range(1, shape.num_layers + 1)
        return tuple(
            one
            for one in parameters_of(shape)
            if one.role == "classifier" or (one.role in self.only and one.block in inside)
        )

    def trains(self, role: Literal["embedding", "head"]) -> bool:
        """Both, where not only some roles in the blocks are trained."""
        return self.only is None

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
        """Charge the layer, and the gradient of its weights where they are trained.

        A gradient flows into what a trained norm hands on.
        """
        is_trained = self.only is None or role_of(shape, linear) in self.only
        x = x or (self.only is not None and "norm" in self.only and linear in shape.behind_norms)
        return tape.dense(rows, linear.d_in, linear.d_out, x, is_trained)

    def kept_numbers(self, shape: ModelShape) -> int:
        """Return the inputs of the layers whose inputs are the output of no other layer and no norm."""
        return shape.attention_output.d_in + shape.mlp_output.d_in

    def attach(self, model: Any, shape: ModelShape, base_name: str) -> tuple[Any, Any]:
        """Let every parameter take a gradient, and give a tied head its own tensor where asked for."""
        import torch

        if shape.task == "causal_lm" and not shape.has_tied_head and model.config.tie_word_embeddings:
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
        """Return a checkpoint as transformers loads it."""
        frozen = {name: one for name, one in model.named_parameters() if name not in tensors}
        return checkpoint(model, {**frozen, **tensors}, labels, tokenizer)


def checkpoint(
    model: Any, weights: "Mapping[str, Tensor]", labels: Sequence[str], tokenizer: Path | None
) -> dict[str, bytes]:
    """Return a checkpoint as transformers loads it: config, weights, and the base's tokenizer."""
    from cosim.learning.adapter_files import packed

    files = {"config.json": _config(model, labels), "model.safetensors": packed(weights)}
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
