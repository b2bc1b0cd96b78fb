"""Parts of other packages: each is loaded by itself, and one that is broken is named and left out."""

import inspect
import logging
import sys
import warnings
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from types import TracebackType
from typing import Any, get_args

GROUP = "cosim.parts"
"""The entry-point group in which a package names its parts."""

_log = logging.getLogger(__name__)


@cache
def load_all() -> None:
    """Load what other packages add, once in a process: going through what is installed takes long."""
    for entry in _entries():
        try:
            entry.load()
        except (Exception, SystemExit) as fault:  # code of another package: it may raise anything
            _leave_out(_named(entry, _file_of(fault, entry)), f"does not load: {_told(fault)}")


def usable(base: type, found: Iterable[Any]) -> dict[str, Any]:
    """Return the parts of a family by kind; those of other packages that cannot be used are left out.

    Raises
    ------
    ValueError
        If two parts of cosim itself claim one kind.
    """
    parts: dict[str, Any] = {}
    others: dict[str, list[Any]] = {}
    for part in found:
        if _is_own(part):
            kind = _kind(part)
            if parts.setdefault(kind, part) is not part:
                raise ValueError(
                    f"two parts of {base.__name__} claim the kind {kind!r}: {parts[kind]} and {part}"
                )
        elif part.__module__ in sys.modules and _works(part):  # a module that raised is not among them
            others.setdefault(_kind(part), []).append(part)
    for kind, claiming in others.items():
        if kind not in parts and len(claiming) == 1:
            parts[kind] = claiming[0]
            continue
        for part in claiming:
            other = next((one for one in claiming if one is not part), None)
            owner = "a part of cosim" if kind in parts or other is None else _named_class(other)
            _leave_out(_named_class(part), f"its kind {kind!r} is already that of {owner}")
    return dict(sorted(parts.items()))


def culprit(error: BaseException) -> str | None:
    """Return what to say of an error that the code of a part raised; None where cosim's own did."""
    tops = {entry.module.partition(".")[0]: entry for entry in _entries()}
    for name, file, line in reversed(list(_frames(error.__traceback__))):
        top = name.partition(".")[0]
        if top in tops:
            entry = next((one for one in _entries() if one.module == name), tops[top])
            return f"{_named(entry, f'{file}, line {line}')} raised {_told(error)}"
        if top == "cosim":
            return None
    return None


def _is_own(part: Any) -> bool:
    return bool(part.__module__.partition(".")[0] == "cosim")


def _kind(part: Any) -> str:
    (kind,) = get_args(part.model_fields["kind"].annotation)
    return str(kind)


def _works(part: Any) -> bool:
    """Return whether a part can stand in a scenario; one that cannot is named."""
    try:
        _kind(part)
    except (KeyError, ValueError):
        _leave_out(_named_class(part), 'has no kind; it needs a field such as kind: Literal["mine"] = "mine"')
        return False
    try:
        with warnings.catch_warnings(action="ignore"):
            part.model_json_schema()
    except Exception as fault:  # pydantic's own, or whatever the part's types raise
        _leave_out(_named_class(part), f"its settings cannot be read: {_told(fault)}")
        return False
    return True


@cache
def _leave_out(part: str, why: str) -> None:
    _log.warning("%s is left out: %s", part, why.rstrip("."))


@cache
def _entries() -> tuple[metadata.EntryPoint, ...]:
    return tuple(sorted(metadata.entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)))


def _named(entry: metadata.EntryPoint, file: str) -> str:
    package = "unknown" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
    return f"part {entry.name!r} of package {package} ({file})"


def _named_class(part: Any) -> str:
    """Return a part's name, package and file."""
    try:
        file = inspect.getfile(part)
    except (OSError, TypeError):
        file = part.__module__
    top = part.__module__.partition(".")[0]
    of_package = [entry for entry in _entries() if entry.module.partition(".")[0] == top]
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
