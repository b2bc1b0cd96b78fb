"""Tracker: a line of JSON for each instant."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TextIO

from cosim.tracking import Tracker, Tracking


class Ledger(Tracker):
    """A file of JSON lines."""

    kind: Literal["far_ledger"] = "far_ledger"
    examples: ClassVar = ({"folder": "."},)
    folder: str = "runs"

    def open(self, name: str, settings: Mapping[str, Any]) -> Tracking:
        """Return a new file."""
        return _File((Path(self.folder) / f"{name}.jsonl").open("w", encoding="utf-8"))


class _File:
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, time_ns: int, values: Mapping[str, float]) -> None:
        """Write a line."""
        self._file.write(json.dumps({"time_ns": time_ns, **values}) + "\n")

    def close(self, status: str) -> None:
        """Close the file."""
        self._file.close()
