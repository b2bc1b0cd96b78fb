"""Files that are written: whole or not at all, beside their place first, and never over what nobody meant.

Every file cosim writes goes through :func:`replacing`: a new file under a name
of its own in the same folder, which takes the place of the other in one step
and is removed if anything fails before.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO
from uuid import uuid4

from cosim.errors import RecordError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY = re.compile(r"\.cosim-[0-9a-f]{32}\.tmp")


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of ``path`` once it is whole.

    A link at ``path`` is replaced, not followed.

    Parameters
    ----------
    path
        The file.
    durable
        Whether it must be on the disk before it takes its place; without it a
        machine that loses power may keep neither the old file nor the new one.

    Raises
    ------
    OSError
        If it cannot be written; ``path`` is then as it was.
    """
    temporary = temporary_beside(path)
    descriptor = os.open(temporary, _NEW, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file whole or not at all; see :func:`replacing`."""
    with replacing(path, durable=durable) as file:
        file.write(content)


def temporary_beside(path: Path) -> Path:
    """Return a name nobody has in the folder of ``path``; it is short however long that of ``path`` is."""
    return path.parent / f".cosim-{uuid4().hex}.tmp"


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed left unfinished in a folder that this process holds."""
    for path in folder.rglob(".cosim-*.tmp"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def check_outputs(paths: Iterable[Path | None], *, force: bool) -> None:
    """Refuse files that could not be written, before any work is done for them.

    Parameters
    ----------
    paths
        The files a command is to write; None for one that was not asked for.
    force
        Whether a file that is there may be replaced.

    Raises
    ------
    RecordError
        If one is there already and ``force`` is not set, is no plain file, is
        given twice, or no file can be made in its folder.
    """
    wanted = [path for path in paths if path is not None]
    seen: dict[Path, Path] = {}
    for path in wanted:
        check_output(path, force=force)
        place = path.parent.resolve() / path.name
        if place in seen:
            raise RecordError(f"{path}: is given twice as a file to write; name two files.")
        seen[place] = path
    for path in wanted:
        with output_faults(path):
            temporary = temporary_beside(path)
            os.close(os.open(temporary, _NEW, 0o666))
            os.unlink(temporary)


def check_output(path: Path, *, force: bool) -> None:
    """Refuse to replace what is there, unless told to.

    Raises
    ------
    RecordError
        If there is a file and ``force`` is not set, or something else than a file.
    """
    with output_faults(path):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return
    if S_ISDIR(mode) or path.is_dir():
        raise RecordError(f"{path}: is a folder; name a file.")
    if not S_ISREG(mode):
        raise RecordError(f"{path}: is a link or a device; name a plain file.")
    if not force:
        raise RecordError(f"{path}: exists already; name another file, or replace it with --force.")


def write_output(path: Path, content: bytes, *, force: bool) -> None:
    """Write a file the user named.

    Raises
    ------
    RecordError
        As :func:`check_output` does, or if it cannot be written.
    """
    check_output(path, force=force)
    with output_faults(path):
        write_whole(path, content)


@contextmanager
def output_faults(path: Path, way_out: str = "name another file.") -> Iterator[None]:
    """Turn what the system says of a file that cannot be written into one line, with a way out.

    Raises
    ------
    RecordError
        In place of an OSError.
    """
    try:
        yield
    except OSError as fault:
        raise RecordError(f"{path}: cannot be written: {fault.strerror or fault}; {way_out}") from None
