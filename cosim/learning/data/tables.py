"""Tables of objects: JSON, JSON Lines, Parquet, and folders that ``datasets`` wrote with ``save_to_disk``."""

import gzip
import json
import zlib
from collections.abc import Iterator
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

from cosim.errors import ScenarioError

Entry = tuple[int, dict[str, Any]]
"""An object with the line it is in, or its number in a file without lines; both count from 1."""

SAVED = "state.json"
"""What a folder of ``save_to_disk`` has."""


def file_bytes(path: Path) -> bytes:
    """Return a file as it lies on the disk, or a hash of a folder's files; refuse what cannot be read."""
    try:
        if path.is_dir():
            digest = blake2b(digest_size=32)
            for file in (*sorted(path.glob("*.arrow")), path / SAVED, path / "dataset_info.json"):
                digest.update(file.name.encode() + blake2b(file.read_bytes()).digest())
            return digest.digest()
        return path.read_bytes()
    except FileNotFoundError:
        if path.is_dir():
            raise ScenarioError(_no_saved_table(path)) from None
        raise ScenarioError(
            f"{path}: no such file; a relative path starts at the scenario's folder"
        ) from None
    except OSError as fault:
        raise ScenarioError(f"{path}: cannot be read ({fault.strerror}); give a readable file") from None


def _no_saved_table(path: Path) -> str:
    inner = sorted(one.parent.name for one in path.glob(f"*/{SAVED}"))
    if inner:
        return f"{path}: holds several data sets ({', '.join(inner)}); name one, such as {path / inner[0]}"
    return f"{path}: is a folder, and none that datasets wrote with save_to_disk; name a file"


def unpacked(path: Path, raw: bytes) -> bytes:
    """Return the content of a file, gzipped or not."""
    if path.suffix.lower() != ".gz":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error):
        raise ScenarioError(f"{path}: ends in .gz but is no whole gzip file; pack it again") from None


def lines_of_json(path: Path, text: str) -> Iterator[Entry]:
    """Return the object of each line."""
    # Not splitlines(): a JSON text may hold U+2028 and its like, which do not end a line of the file.
    for line, entry in enumerate(text.split("\n"), start=1):
        if not entry.strip():
            continue
        try:
            value = json.loads(entry)
        except ValueError as fault:
            why = getattr(fault, "msg", str(fault))
            raise ScenarioError(
                f"{path}: line {line} is no JSON ({why}); each line is one JSON object"
            ) from None
        except RecursionError:
            raise ScenarioError(
                f"{path}: line {line} is nested too deeply; each line is one flat object"
            ) from None
        if not isinstance(value, dict):
            raise ScenarioError(
                f'{path}: line {line} is no JSON object; write {{"text": "..."}} and the like'
            )
        yield line, value


def list_of_json(path: Path, text: str) -> Iterator[Entry]:
    """Return the objects of a list, or of the one list that an object holds."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise ScenarioError(f"{path}: is no JSON ({fault}); write a list of objects") from None
    if isinstance(value, dict):
        lists = [one for one in value.values() if isinstance(one, list)]
        value = lists[0] if len(lists) == 1 else None
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ScenarioError(f'{path}: holds no list of objects; write [{{"text": "..."}}, ...]')
    yield from enumerate(value, start=1)


def rows_of_parquet(path: Path, raw: bytes) -> Iterator[Entry]:
    """Return the rows of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(BytesIO(raw)).to_pylist()
    except (pyarrow.ArrowException, OSError) as fault:
        why = " ".join(str(fault).split())[:200].rstrip(".")
        raise ScenarioError(f"{path}: cannot be read as Parquet ({why}); write it again") from None
    yield from enumerate(rows, start=1)


def rows_of_saved(path: Path) -> Iterator[Entry]:
    """Return the rows of a folder that ``datasets`` wrote, with classes by their names."""
    import pyarrow
    import pyarrow.ipc

    try:
        state = json.loads((path / SAVED).read_text(encoding="utf-8"))
        features = json.loads((path / "dataset_info.json").read_text(encoding="utf-8")).get("features") or {}
        files = [path / one["filename"] for one in state["_data_files"]]
        tables = [pyarrow.ipc.open_stream(file.read_bytes()).read_all() for file in files]
    except FileNotFoundError:
        raise ScenarioError(_no_saved_table(path)) from None
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as fault:
        raise ScenarioError(f"{path}: cannot be read ({fault}); write it again with save_to_disk") from None
    rows = [row for table in tables for row in table.to_pylist()]
    yield from enumerate(_named(rows, features), start=1)


def rows_with_classes(path: Path, raw: bytes) -> Iterator[Entry]:
    """Return the rows of a Parquet file, with classes by their names where ``datasets`` wrote it."""
    import pyarrow.parquet

    rows = [row for _, row in rows_of_parquet(path, raw)]
    kept = (pyarrow.parquet.read_schema(BytesIO(raw)).metadata or {}).get(b"huggingface", b"{}")
    features = json.loads(kept).get("info", {}).get("features", {})
    yield from enumerate(_named(rows, features), start=1)


def _named(rows: list[dict[str, Any]], features: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return rows whose classes, numbers in the file, have their names."""
    names = {
        column: one["names"]
        for column, one in features.items()
        if isinstance(one, dict) and one.get("_type") == "ClassLabel"
    }
    for row in rows:
        for column, known in names.items():
            if isinstance(row.get(column), int):
                row[column] = known[row[column]] if 0 <= row[column] < len(known) else None
        yield row
