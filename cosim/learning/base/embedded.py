"""The small model that comes with the project."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cosim.learning.base import Base, Dtype
from cosim.learning.base.checkpoint import hash_files, load_folder, read_json, weight_files, weight_notes
from cosim.learning.embedded import FOLDER
from cosim.learning.shape import ModelShape, ModelTask

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class EmbeddedBase(Base):
    """The small language model that comes with cosim, pre-trained on text made by the project.

    It needs no network and no download, and its loss has a long way to fall
    when it is fine-tuned on the embedded data.
    """

    kind: Literal["embedded"] = "embedded"

    def read_config(self) -> dict[str, Any]:
        return read_json(FOLDER / "config.json")

    def tokenizer_folder(self) -> Path | None:
        return FOLDER

    def content_key(self) -> str:
        return hash_files(self.read_config(), weight_files(FOLDER))

    def weight_notes(self, shape: ModelShape) -> tuple[str, ...]:
        return weight_notes(FOLDER, self.read_config(), shape)

    def describe(self) -> str:
        return f"embedded {self.read_config().get('model_type')} model"

    @property
    def name_or_path(self) -> str:
        return "cosim-embedded"  # not the path of an installation: an adapter's bytes depend on no machine

    def load(self, task: ModelTask, num_labels: int, dtype: Dtype) -> "PreTrainedModel":
        return load_folder(FOLDER, task, num_labels, dtype)
