"""Digests of the files of a folder, so that a file that has changed is never taken for what was recorded.

A manifest holds under ``files`` size and hash of every file that counts, and
ends with a ``digest`` of its own bytes. While tables are being replaced it also
holds under ``files_before`` those of the files they replace, None for none, so
that a folder can be read, or its process be killed, at any instant.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from cosim.errors import RecordError
from cosim.files import replacing

if TYPE_CHECKING:
    import pyarrow

_DIGEST_BYTES = 16
_AT_ONCE = 1 << 20
_SEAL = re.compile(rb',\n  "digest": "([0-9a-f]{32})"\n}\n')
_SEAL_LENGTH = len(',\n  "digest": ""\n}\n') + 2 * _DIGEST_BYTES


class FileDigest(TypedDict):
    """Size and hash of a file."""

    bytes: int
    blake2b: str


def digest_of(content: bytes | memoryview) -> FileDigest:
    """Return the digest of a file of this content."""
    return {"bytes": len(content), "blake2b": _hash(content)}


def digest_of_file(path: Path) -> FileDigest:
    """Return the digest of a file.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    digest, length = blake2b(digest_size=_DIGEST_BYTES), 0
    with path.open("rb") as file:
        while piece := file.read(_AT_ONCE):
            digest.update(piece)
            length += len(piece)
    return {"bytes": length, "blake2b": digest.hexdigest()}


def sealed(manifest: Mapping[str, Any]) -> bytes:
    """Return a manifest as a file has it, with the digest of all that is before it as its last entry.

    Examples
    --------
    >>> print(sealed({"format": 1}).decode(), end="")
    {
      "format": 1,
      "digest": "cc06b861ff0f3f11f1a538c9e5e09fce"
    }
    """
    entries = {name: value for name, value in manifest.items() if name != "digest"}
    content = json.dumps(entries, indent=2).encode().removesuffix(b"\n}")
    return content + b',\n  "digest": "%s"\n}\n' % _hash(content).encode()


def is_sealed(content: bytes) -> bool:
    """Return whether the bytes of a manifest are those that were written."""
    seal = _SEAL.fullmatch(content, len(content) - _SEAL_LENGTH) if len(content) > _SEAL_LENGTH else None
    return seal is not None and seal[1].decode() == _hash(content[:-_SEAL_LENGTH])


def is_unverified(manifest: Mapping[str, Any]) -> bool:
    """Return whether a manifest is of a version of cosim that wrote no digests."""
    return "digest" not in manifest and "files" not in manifest


def damaged_file(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """Return the first file whose bytes are not those that were written, by its name in the folder.

    Raises
    ------
    RecordError
        If a file cannot be read.
    """
    before = manifest.get("files_before", {})
    for name, written in manifest.get("files", {}).items():
        allowed = [written, *([before[name]] if name in before else [])]
        if _found(folder / name, allowed) not in allowed:
            return str(name)
    return None


def files_there(folder: Path, manifest: Mapping[str, Any]) -> dict[str, FileDigest]:
    """Return ``files`` as they are after a replacement that may not have come to its end.

    What is neither the file before nor the one after stays listed as the one after.
    """
    before = manifest.get("files_before", {})
    files: dict[str, FileDigest] = dict(manifest.get("files", {}))
    for name, earlier in before.items():
        if name in files and _found(folder / name, [files[name], earlier]) == earlier != files[name]:
            if earlier is None:
                del files[name]
            else:
                files[name] = earlier
    return files


@contextmanager
def replacing_files(
    folder: Path, contents: Mapping[str, bytes | memoryview], manifest: dict[str, Any], *, durable: bool
) -> Iterator[None]:
    """Write files beside their places; those take their places after the block, which writes the manifest.

    In the block ``manifest`` allows each of the files before and after, after it only
    those that are there.
    """
    files = manifest.get("files", {})
    try:
        with ExitStack() as replaced:
            for name, content in contents.items():
                replaced.enter_context(replacing(folder / name, durable=durable)).write(content)
            manifest["files_before"] = {name: files.get(name) for name in contents}
            manifest["files"] = {**files, **{name: digest_of(one) for name, one in contents.items()}}
            yield
    except BaseException:
        manifest["files"] = files_there(folder, manifest)
        raise
    finally:
        manifest.pop("files_before", None)


def _found(path: Path, allowed: "Sequence[FileDigest | None]") -> FileDigest | None:
    """Return the digest of a file, None if there is none; without its hash where its size is wrong."""
    try:
        length = path.stat().st_size
        if all(one is None or one["bytes"] != length for one in allowed):
            return {"bytes": length, "blake2b": ""}
        return digest_of_file(path)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise RecordError(f"{path}: cannot be read: {fault.strerror or fault}.") from None


def table_bytes(table: "pyarrow.Table") -> memoryview:
    """Return a table as a Parquet file whose pages have checksums, for readers that know no manifest."""
    import pyarrow
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink, write_page_checksum=True)
    return memoryview(sink.getvalue())


def read_table(path: Path, columns: "list[str] | None" = None) -> "pyarrow.Table":
    """Return a table of a folder, its pages checked.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    RecordError
        If it cannot be read.
    """
    from pyarrow import parquet

    with _readable(path):
        return parquet.read_table(path, columns=columns, page_checksum_verification=True)


def read_schema(path: Path) -> "pyarrow.Schema":
    """Return the columns of a table; raises as :func:`read_table` does."""
    from pyarrow import parquet

    with _readable(path):
        return parquet.read_schema(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    from pyarrow import ArrowException

    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, ArrowException) as fault:
        raise RecordError(f"{path}: cannot be read: {' '.join(str(fault).split()).rstrip('.')}.") from None


def _hash(content: bytes | memoryview) -> str:
    return blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()
