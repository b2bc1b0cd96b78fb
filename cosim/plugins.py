"""What to say of parts of other packages: of one that is left out, and of one that raised."""

import inspect
import logging
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from types import TracebackType
from typing import Any, get_args

from cosim.parts import LeftOut, entry_points

_log = logging.getLogger(__name__)


def warn_of(part: LeftOut) -> None:
    """Log a part that is left out, with its package, its file and why."""
    if isinstance(part.part, metadata.EntryPoint):
        assert part.fault is not None
        named = _named(part.part, _file_of(part.fault, part.part))
    else:
        named = named_class(part.part)
    _warn(named, _why(part))


@cache
def _warn(part: str, why: str) -> None:
    """Log it once."""
    _log.warning("%s is left out: %s", part, why.rstrip("."))


def _why(part: LeftOut) -> str:
    if part.reason == "kind":
        return 'has no kind; it needs a field such as kind: Literal["mine"] = "mine"'
    if part.reason == "claimed":
        (kind,) = get_args(part.part.model_fields["kind"].annotation)
        owner = "a part of cosim" if part.other is None else named_class(part.other)
        return f"its kind {kind!r} is already that of {owner}"
    fault = "" if part.fault is None else _told(part.fault)
    return f"does not load: {fault}" if part.reason == "loading" else f"its settings cannot be read: {fault}"


def culprit(error: BaseException) -> str | None:
    """Return what to say of an error that the code of a part raised; None where cosim's own did."""
    tops = {entry.module.partition(".")[0]: entry for entry in entry_points()}
    for name, file, line in reversed(list(_frames(error.__traceback__))):
        top = name.partition(".")[0]
        if top in tops:
            entry = next((one for one in entry_points() if one.module == name), tops[top])
            return f"{_named(entry, f'{file}, line {line}')} raised {_told(error)}"
        if top == "cosim":
            return None
    return None


def _named(entry: metadata.EntryPoint, file: str) -> str:
    package = "unknown" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
    return f"part {entry.name!r} of package {package} ({file})"


def named_class(part: Any) -> str:
    """Return a part's name, package and file."""
    try:
        file = inspect.getfile(part)
    except (OSError, TypeError):
        file = part.__module__
    top = part.__module__.partition(".")[0]
    of_package = [entry for entry in entry_points() if entry.module.partition(".")[0] == top]
    named = [one for one in of_package if one.value == f"{part.__module__}:{part.__qualname__}"]
    if named or of_package:
        return _named((named or of_package)[0], file)
    return f"part {part.__qualname__!r} of {part.__module__} ({file})"


def _file_of(fault: BaseException, entry: metadata.EntryPoint) -> str:
    """Return the file and line of a package that an error while it was loaded comes from."""
    top = entry.module.partition(".")[0]
    own = [(file, line) for name, file, line in _frames(fault.__traceback__) if name.partition(".")[0] == top]
    if own:
        return "{}, line {}".format(*own[-1])
    if isinstance(fault, SyntaxError) and fault.filename:
        return f"{fault.filename}, line {fault.lineno}"
    return f"entry point {entry.value}"


def _frames(traceback: TracebackType | None) -> Iterable[tuple[str, str, int]]:
    """Return module, file and line of each call an error passed, the outermost first."""
    while traceback is not None:
        frame = traceback.tb_frame
        yield str(frame.f_globals.get("__name__", "")), frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next


def _told(fault: BaseException) -> str:
    return f"{type(fault).__name__}: {' '.join(str(fault).split())}".rstrip(": ")
