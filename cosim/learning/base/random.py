"""A model with drawn weights."""

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from cosim.errors import ScenarioError
from cosim.learning.base import Base, Dtype
from cosim.learning.base.checkpoint import canonical, files_read, read_json
from cosim.learning.config_values import not_of_json
from cosim.learning.shape import ModelTask
from cosim.learning.shapes import shape_of
from cosim.learning.transformers_models import one_line, quiet, transformers_config
from cosim.rng import stream

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class RandomBase(Base):
    """A model of any shape whose weights are drawn, not trained.

    Times, bits and FLOP are those of the real model; what it learns means
    little, and the run says so.

    Attributes
    ----------
    config
        Values of a Hugging Face config, ``model_type`` among them.
    config_path
        A ``config.json`` instead.
    tokenizer_path
        A tokenizer that fits, for data that is text: a ``tokenizer.json``, or a
        folder that holds it or ``vocab.json`` and ``merges.txt``.
    seed
        The weights follow from it and from nothing else.
    """

    kind: Literal["random"] = "random"
    config: dict[str, Any] | None = None
    config_path: Path | None = None
    tokenizer_path: Path | None = None
    seed: int = 0
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"config": {"model_type": "gpt2", "n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 64}},
    )

    @model_validator(mode="after")
    def _has_one_config(self) -> Self:
        if (self.config is None) == (self.config_path is None):
            raise ValueError("give either config, a table of values, or config_path, a config.json")
        for fault in not_of_json(self.config, "config"):
            raise ValueError(f"{fault}; a config holds numbers, texts, true, false, lists and tables")
        return self

    def read_config(self) -> dict[str, Any]:
        if self.config_path is not None:
            return read_json(self.config_path.expanduser())
        return dict(self.config or {})

    def tokenizer_folder(self) -> Path | None:
        if self.tokenizer_path is None:
            return None
        path = self.tokenizer_path.expanduser()
        return path.parent if path.name == "tokenizer.json" else path

    def files_in(self, folder: Path) -> Iterable[Path]:
        return files_read(folder, with_weights=False)

    def content_key(self) -> str:
        return blake2b(canonical(self.read_config()) + b"%d" % self.seed, digest_size=16).hexdigest()

    def describe(self) -> str:
        return f"{self.read_config().get('model_type')} model with random weights, seed {self.seed}"

    @property
    def name_or_path(self) -> str:
        return f"random-{self.content_key()}"

    @property
    def warning(self) -> str | None:
        return "the base model has RANDOM weights: losses and accuracies say nothing about a pre-trained one"

    def load(self, task: ModelTask, num_labels: int, dtype: Dtype) -> "PreTrainedModel":
        import torch
        from transformers import (
            AutoModelForCausalLM,
            AutoModelForImageClassification,
            AutoModelForSequenceClassification,
        )

        config = self.read_config()
        shape = shape_of(config, task, num_labels)
        auto = AutoModelForCausalLM if task == "causal_lm" else AutoModelForSequenceClassification
        auto = AutoModelForImageClassification if shape.patches is not None else auto
        labels = {"num_labels": num_labels} if task == "classification" else {}
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stream(self.seed, "random base").torch_seed())
            # Drawn in float32 whatever the dtype, so that float64 runs the same model.
            settings = transformers_config(config, **labels)
            try:
                model = auto.from_config(settings, dtype=torch.float32, attn_implementation="eager")
            except Exception as fault:  # building a model raises errors of many unrelated classes
                raise ScenarioError(
                    f"model config: no model can be built from it: {one_line(fault)}"
                ) from None
        # Not model.to(dtype): that would round the rotary frequencies, which are no parameters.
        for weights in model.parameters():
            weights.data = weights.data.to(getattr(torch, dtype))
        return model.eval()
