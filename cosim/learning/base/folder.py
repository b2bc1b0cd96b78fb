"""A model in a local folder."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from cosim.learning.base.checkpoint import files_read
from cosim.learning.base.in_folder import InFolder


class FolderBase(InFolder):
    """A Hugging Face model in a local folder: ``config.json``, safetensors, and mostly ``tokenizer.json``.

    Sharded weights are fine; pickled weights are refused and code in the folder
    is never run. A relative path counts from the current directory.
    """

    kind: Literal["folder"] = "folder"
    path: Path
    examples = ({"path": "models/my-model"},)

    def files_in(self, folder: Path) -> Iterable[Path]:
        return files_read(folder, with_weights=True)

    def describe(self) -> str:
        return f"{self.read_config().get('model_type')} model in {self.path}"

    @property
    def name_or_path(self) -> str:
        return str(self.path)

    @property
    def folder(self) -> Path:
        return self.path.expanduser()
