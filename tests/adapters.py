"""Adapters written to a folder, for what reads them."""

from pathlib import Path
from typing import Any


def save_adapter(model: Any, folder: Path, adapter: Any) -> None:
    """Write the files of an adapter; ``PeftModel.from_pretrained(base_model, folder)`` loads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in model.adapter_files(adapter).items():
        (folder / name).write_bytes(content)
