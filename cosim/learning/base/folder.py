"""A model in a local folder."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cosim.learning.base import Base, Dtype
from cosim.learning.base.checkpoint import (
    files_read,
    hash_files,
    load_folder,
    read_json,
    weight_files,
    weight_notes,
)
from cosim.learning.shape import ModelShape, ModelTask

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class FolderBase(Base):
    """A Hugging Face model in a local folder: ``config.json``, safetensors, and mostly ``tokenizer.json``.

    Sharded weights are fine; pickled weights are refused and code in the folder
    is never run. A relative path counts from the current directory.
    """

    kind: Literal["folder"] = "folder"
    path: Path
    examples = ({"path": "models/my-model"},)

    def read_config(self) -> dict[str, Any]:
        return read_json(self._folder / "config.json")

    def tokenizer_folder(self) -> Path | None:
        return self._folder

    def files_in(self, folder: Path) -> Iterable[Path]:
        return files_read(folder, with_weights=True)

    def content_key(self) -> str:
        return hash_files(self.read_config(), weight_files(self._folder))

    def weight_notes(self, shape: ModelShape) -> tuple[str, ...]:
        return weight_notes(self._folder, self.read_config(), shape)

    def describe(self) -> str:
        return f"{self.read_config().get('model_type')} model in {self.path}"

    @property
    def name_or_path(self) -> str:
        return str(self.path)

    def load(self, task: ModelTask, num_labels: int, dtype: Dtype) -> "PreTrainedModel":
        return load_folder(self._folder, task, num_labels, dtype)

    @property
    def _folder(self) -> Path:
        return self.path.expanduser()
