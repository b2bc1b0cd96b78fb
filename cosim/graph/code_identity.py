"""Which code computes: hashes of source that comments, docstrings and layout leave as they are.

A key must not answer for code that has changed since. So it holds a hash of the
syntax trees of the module that computes and of all modules that this one
imports, as long as they are of the same distribution or of cosim. Of other
distributions it holds the version. Nothing is imported to find that out.
"""

import ast
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

ENTRY_POINTS = "cosim.parts"
"""Where other distributions name their parts."""

_OWN = "cosim"
_DECIDE_NO_VALUE = frozenset({"pydantic", "pydantic_core", "typing_extensions"})
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_CODE = frozenset({".py", ".so", ".pyd"})
_Stamp = tuple[int, ...]


def code_key(*modules: str) -> str:
    """Return a hash, hex, of these modules and of all they import, and of the versions of what they use.

    Followed are imports within functions too, and packages above a module.
    Imports for type checkers alone are not. A module is of a distribution where its files
    say so, and in an edited checkout where it lies beside the module asked for.
    Code that cannot be read, and code that was edited while this process has it
    loaded, has another key at every call: nobody knows then what really computes.

    Parameters
    ----------
    modules
        Full names. They need not be loaded.
    """
    tops = tuple(sorted({_OWN, *(one.partition(".")[0] for one in modules)}))
    words = {f"{top} is of": repr(distributions_of(top)) for top in tops}
    follows = _follows(tops)
    open_ = [(name, True) for name in modules]
    while open_:
        name, must_be_there = open_.pop()
        if name in words:
            continue
        if not follows(name):
            words[name.partition(".")[0]] = _version_of(name.partition(".")[0])
            continue
        found = _read(name)
        if found is None:
            if must_be_there:
                words[name] = uuid4().hex
            continue
        words[name] = found.digest
        open_ += [(one, False) for one in (*found.imports, *_packages_above(name))]
    return blake2b(repr(sorted(words.items())).encode(), digest_size=16).hexdigest()


def code_of(part: BaseModel) -> str:
    """Return a hash, hex, of the code of a part, of all it inherits from, and of all parts in it."""
    modules = {module for model in _models(part) for module in _modules_of(type(model))}
    return code_key(*sorted(modules))


@cache
def distributions_of(top: str) -> tuple[tuple[str, str], ...]:
    """Return name and version of each distribution that has a top-level module; none where nobody says so."""
    if top == _OWN:
        return ((_OWN, metadata.version(_OWN)),)
    owners = {
        (entry.dist.name, entry.dist.version)
        for entry in metadata.entry_points(group=ENTRY_POINTS)
        if entry.dist is not None and entry.module.partition(".")[0] == top
    }
    if not owners:
        names = _installed().get(top, ())
        owners = {(name, metadata.version(name)) for name in names}
    return tuple(sorted(owners))


@dataclass(frozen=True)
class _Source:
    """What is known of a module from its file."""

    digest: str
    imports: tuple[str, ...] = ()


@cache
def _follows(tops: tuple[str, ...]) -> Callable[[str], bool]:
    """Return what says whether a module belongs to the same distributions as these top-level modules."""
    names: set[str] = set(tops)
    folders: set[Path] = set()
    for top in tops:
        files = [file for owner, _ in distributions_of(top) for file in metadata.files(owner) or ()]
        names.update(file.parts[0].partition(".")[0] for file in files if file.suffix in _CODE)
        folder = _folder_of(top)
        if folder is not None and not _holds_libraries(folder) and not _is_listed(top, files):
            folders.add(folder)

    @cache
    def is_followed(top: str) -> bool:
        return top in names or (top not in sys.stdlib_module_names and _folder_of(top) in folders)

    return lambda name: is_followed(name.partition(".")[0])


def _folder_of(top: str) -> Path | None:
    """Return the folder that holds a top-level module."""
    path = None if top in sys.stdlib_module_names else _path(top)
    if path is None:
        return None
    return Path(path).parent.parent if Path(path).name == "__init__.py" else Path(path).parent


def _holds_libraries(folder: Path) -> bool:
    """Return whether a folder is one that distributions are installed to, all side by side."""
    return folder.name in _INSTALLED or (folder / "numpy").is_dir()


def _is_listed(top: str, files: list[metadata.PackagePath]) -> bool:
    """Return whether a module is among the files a distribution was installed with; an edited one is not."""
    path = _path(top)
    return path is not None and any(file.suffix in _CODE and str(file.locate()) == path for file in files)


@cache
def _version_of(top: str) -> str:
    """Return the version of another distribution's module; empty for Python's own."""
    if top in sys.stdlib_module_names or top in _DECIDE_NO_VALUE:
        return ""
    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        return "" if _spec(top) is None else repr(distributions_of(top))


@cache
def _installed() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())  # reads what all distributions say


def _packages_above(name: str) -> list[str]:
    steps = name.split(".")
    return [".".join(steps[:end]) for end in range(1, len(steps))]


@cache
def _spec(name: str) -> ModuleSpec | None:
    """Return where a module lies; packages above it are not run for that."""
    package, _, _ = name.rpartition(".")
    if not package:
        try:
            return find_spec(name)
        except (ImportError, ValueError):  # ValueError: it was made by hand, as __main__ is
            return None
    above = _spec(package)
    if above is None or above.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(name, list(above.submodule_search_locations))


_seen: dict[str, tuple[_Stamp, _Source]] = {}
"""What each module was when this process first had to do with it."""


def _read(name: str) -> _Source | None:
    """Return what a module's file says; None where there is none."""
    path = _path(name)
    if path is None:
        return None if _spec(name) is None else _Source("namespace")
    stamp = _stamp(path)
    before = _seen.get(path)
    if before is not None and stamp and before[0] == stamp:
        return before[1]
    try:
        content = Path(path).read_bytes()
    except OSError:
        return None
    found = _source(name, path, content)
    if before is not None and before[1].digest != found.digest and _is_loaded(name, path):
        return _Source(uuid4().hex, found.imports)
    _seen[path] = stamp, found
    return found


def _path(name: str) -> str | None:
    """Return a module's file; None where it has none."""
    if name == "__main__":
        return getattr(sys.modules[name], "__file__", None)
    spec = _spec(name)
    return spec.origin if spec is not None and spec.has_location else None


def _stamp(path: str) -> _Stamp:
    try:
        state = os.stat(path)
    except OSError:
        return ()
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _is_loaded(name: str, path: str) -> bool:
    return getattr(sys.modules.get(name), "__file__", None) == path


def _source(name: str, path: str, content: bytes) -> _Source:
    """Return hash and imports of a file; of one that is no Python, the hash of its bytes."""
    try:
        tree = ast.parse(content) if path.endswith(".py") else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # nested deeper than Python takes
        tree = None
    if tree is None:
        return _Source(blake2b(content, digest_size=16).hexdigest())
    words: list[str] = []
    package = name if Path(path).name == "__init__.py" else name.rpartition(".")[0]
    imports = {
        one for node in _running(tree, words) for one in _imported(node, package) if one[:1] not in ("", ".")
    }
    digest = blake2b("\n".join(words).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return _Source(digest, tuple(sorted(imports)))


def _running(tree: ast.AST, words: list[str]) -> Iterator[ast.AST]:
    """Return the nodes of a tree without what never runs, and spell them out in words."""
    open_: list[ast.AST | str] = [tree]
    while open_:
        node = open_.pop()
        if isinstance(node, str):
            words.append(node)
            continue
        if _is_text(node):
            continue
        if isinstance(node, ast.If) and _is_for_type_checkers(node.test):
            open_ += reversed(node.orelse)
            continue
        yield node
        words.append(type(node).__name__)
        open_.append(")")
        for field in reversed(node._fields):
            if field in ("ctx", "type_comment"):
                continue
            value = getattr(node, field, None)
            inner = value if isinstance(value, list) else [] if value is None else [value]
            open_ += [one if isinstance(one, ast.AST) else _spelt(one) for one in reversed(inner)]
            if inner:
                open_.append(field)


def _spelt(value: Any) -> str:
    """Return a name or constant as a text; repr refuses whole numbers of many digits."""
    return hex(value) if type(value) is int else repr(value)


def _is_text(node: ast.AST) -> bool:
    """Return whether a statement is a text by itself, as docstrings are."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_for_type_checkers(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """Return the modules a statement names; what is taken from a package may be a module too."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        steps = package.split(".")
        above = steps[: len(steps) + 1 - node.level] if node.level else []
        module = ".".join(filter(None, (*above, node.module)))
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names if alias.name != "*")
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            yield node.args[0].value


def _models(value: Any) -> Iterator[BaseModel]:
    """Return a table of settings and all tables in it."""
    if isinstance(value, BaseModel):
        yield value
        for name in type(value).model_fields:
            yield from _models(getattr(value, name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _models(item)


@cache
def _modules_of(model: type[BaseModel]) -> tuple[str, ...]:
    modules = {one.__module__ for one in model.__mro__}
    tops = sys.stdlib_module_names | _DECIDE_NO_VALUE
    return tuple(sorted(one for one in modules if one == "__main__" or one.partition(".")[0] not in tops))
