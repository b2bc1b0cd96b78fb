"""Base: drawn weights of another size."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from cosim.learning.base import Base, Dtype
from cosim.learning.base.random import RandomBase
from cosim.learning.shape import ModelTask

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Scaled(Base):
    """A small GPT-2 with drawn weights, all of them ``factor`` times as large as usual."""

    kind: Literal["far_scaled"] = "far_scaled"
    num_layers: int = Field(default=3, ge=2)
    width: int = Field(default=16, ge=2, multiple_of=2)
    vocabulary_size: int = Field(default=300, ge=2)
    factor: float = Field(default=2.0, gt=0.0)
    tokenizer_path: Path | None = None

    @property
    def _drawn(self) -> RandomBase:
        """The model as it is drawn."""
        config = {
            "model_type": "gpt2",
            "n_layer": self.num_layers,
            "n_embd": self.width,
            "n_head": 2,
            "n_positions": 64,
            "vocab_size": self.vocabulary_size,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 1,
        }
        return RandomBase(config=config, tokenizer_path=self.tokenizer_path)

    def read_config(self) -> dict[str, Any]:
        """Return the config of the drawn model."""
        return self._drawn.read_config()

    def tokenizer_folder(self) -> Path | None:
        """Return the folder of the tokenizer."""
        return self._drawn.tokenizer_folder()

    def content_key(self) -> str:
        """Return that of the drawn model with the factor."""
        return self._drawn.content_key() + self.factor.hex().encode().hex()

    def describe(self) -> str:
        """Return the factor."""
        return f"gpt2 model with drawn weights times {self.factor:g}"

    @property
    def name_or_path(self) -> str:
        """A name that says what it is."""
        return f"far-scaled-{self.content_key()}"

    def load(self, task: ModelTask, num_labels: int, dtype: Dtype) -> "PreTrainedModel":
        """Return the drawn model with its weights scaled."""
        model = self._drawn.load(task, num_labels, dtype)
        for weights in model.parameters():
            weights.data = weights.data * self.factor
        return model
