"""A model whose config, tokenizer and weights lie in one folder."""

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosim.learning.base import Base, Dtype
from cosim.learning.base.checkpoint import (
    hash_files,
    load_folder,
    load_pieces,
    read_json,
    weight_files,
    weight_notes,
)
from cosim.learning.shape import ModelShape, ModelTask

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class InFolder(Base):
    """A base that is read from a folder; a part says which."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where the files are."""

    def read_config(self) -> dict[str, Any]:
        return read_json(self.folder / "config.json")

    def tokenizer_folder(self) -> Path | None:
        return self.folder

    def content_key(self) -> str:
        return hash_files(self.read_config(), weight_files(self.folder))

    def weight_notes(self, shape: ModelShape) -> tuple[str, ...]:
        return weight_notes(self.folder, self.read_config(), shape)

    def load(self, task: ModelTask, num_labels: int, dtype: Dtype) -> "PreTrainedModel":
        return load_folder(self.folder, task, num_labels, dtype)

    def pieces(self, task: ModelTask, num_labels: int, dtype: Dtype) -> "nn.Module":
        return load_pieces(self.folder, task, num_labels, dtype)
