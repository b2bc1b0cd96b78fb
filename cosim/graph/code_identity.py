"""Hashes of the code that computes a value. Comments, docstrings and layout do not change them.

A stored value must not be used after its code has changed. Its key therefore
contains a hash of the syntax trees of the module that computes it and of every
module that this one imports from the same distribution or from cosim. For other
distributions the key contains the version. No module is imported to compute a hash.
"""

import ast
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from hashlib import blake2b
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from pydantic import BaseModel

ENTRY_POINTS = "cosim.parts"
"""The entry-point group in which other distributions name their parts."""

_OWN = "cosim"
_DISTRIBUTION = "cosim-fl"  # `cosim.distribution` has it for all others; no key holds that module
_DECIDE_NO_VALUE = frozenset({"pydantic", "pydantic_core", "typing_extensions"})
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_CODE = frozenset({".py", ".so", ".pyd"})
_Stamp = tuple[int, ...]
_stand_in: ContextVar[str | None] = ContextVar("stand_in", default=None)


@contextmanager
def without_code() -> Iterator[None]:
    """Let all code have one hash within, which no store knows: for keys whose values nobody computes.

    Reading the code takes longer than a rehearsal of a run.
    """
    before = _stand_in.set(uuid4().hex)
    try:
        yield
    finally:
        _stand_in.reset(before)


def code_key(*modules: str) -> str:
    """Return a hash, hex, of modules, of everything they import, and of the versions of other distributions.

    Imports inside functions and parent packages count. Imports for type checkers
    do not. A module belongs to a distribution if the distribution lists its file;
    in an editable checkout, if it is in the same folder as the requested module.
    Code that cannot be read, and code that was edited after this process loaded
    it, gets a different hash at every call, because it is unknown which code runs.

    Parameters
    ----------
    modules
        Full names. They need not be loaded.
    """
    stand_in = _stand_in.get()
    if stand_in is not None:
        return stand_in
    tops = tuple(sorted({_OWN, *(one.partition(".")[0] for one in modules)}))
    follows = _follows(tops)
    found = _found.get(modules)
    if found is None or not found.is_valid(follows):
        found = _found[modules] = _find(modules, tops, follows)
    return found.key


def code_of(part: BaseModel) -> str:
    """Return a hash, hex, of the code of a part, of its base classes, and of the parts it contains."""
    modules = {module for model in _models(part) for module in _modules_of(type(model))}
    return code_key(*sorted(modules))


def version_of(distribution: str) -> str:
    """Return the version of a distribution as keys have it."""
    return _stand_in.get() or _installed_version(distribution)


@cache
def _installed_version(distribution: str) -> str:
    try:
        return metadata.version(distribution)  # parses a long file
    except metadata.PackageNotFoundError:  # then nothing is computed with it
        return ""


@cache
def distributions_of(top: str) -> tuple[tuple[str, str], ...]:
    """Return name and version of each distribution that provides a top-level module, as far as known."""
    if top == _OWN:
        return ((_DISTRIBUTION, ""),)  # which version it is, its code says
    owners = {
        (entry.dist.name, entry.dist.version)
        for entry in metadata.entry_points(group=ENTRY_POINTS)
        if entry.dist is not None and entry.module.partition(".")[0] == top
    }
    if not owners:
        names = _installed().get(top, ())
        owners = {(name, metadata.version(name)) for name in names}
    return tuple(sorted(owners))


class _Source(NamedTuple):
    """Hash and imports of a module, read from its file."""

    digest: str
    imports: tuple[str, ...] = ()


_Seen = tuple[_Stamp, _Source]


class _Found(NamedTuple):
    """What some modules import, found once and valid until one of the files changes.

    Attributes
    ----------
    follows
        The test of which modules belong to it.
    key
        Hash, hex, of their code and of the versions of other distributions.
    files
        What was seen of each file; None where a module has a different hash at every call.
    """

    follows: Callable[[str], bool]
    key: str
    files: dict[str, _Seen] | None

    def is_valid(self, follows: Callable[[str], bool]) -> bool:
        if self.follows is not follows or self.files is None:
            return False
        return all(_seen.get(path) is seen and _stamp(path) == seen[0] for path, seen in self.files.items())


_found: dict[tuple[str, ...], _Found] = {}


def _find(modules: tuple[str, ...], tops: tuple[str, ...], follows: Callable[[str], bool]) -> _Found:
    """Return what these modules import, directly or not; ``tops`` are the top-level modules it is of."""
    digests: dict[str, str] = {}
    others: set[str] = set()
    files: dict[str, _Seen] = {}
    is_known = True
    open_ = [(name, True) for name in modules]
    while open_:
        name, must_be_there = open_.pop()
        if name in digests:
            continue
        if not follows(name):
            others.add(name.partition(".")[0])
            continue
        source = _read(name)
        if source is None:
            if must_be_there:
                digests[name], is_known = uuid4().hex, False
            continue
        path = _path(name)
        if path is not None:
            files[path] = _seen[path]
            is_known = is_known and files[path][1] is source and files[path][0] != ()
        digests[name] = source.digest
        open_ += [(one, False) for one in (*source.imports, *_packages_above(name))]
    words = {
        f"{top} is of": repr(distributions_of(top)) for top in tops if top != _OWN
    }  # its code says it all
    words |= {top: _version_of(top) for top in others} | digests
    key = blake2b(repr(sorted(words.items())).encode(), digest_size=16).hexdigest()
    return _Found(follows, key, files if is_known else None)


@cache
def _follows(tops: tuple[str, ...]) -> Callable[[str], bool]:
    """Return a test of whether a module belongs to the distributions of these top-level modules."""
    names: set[str] = set(tops)
    folders: set[Path] = set()
    for top in tops:
        files = [file for owner, _ in distributions_of(top) for file in _files_of(owner)]
        names.update(file.parts[0].partition(".")[0] for file in files if file.suffix in _CODE)
        folder = _folder_of(top)
        if folder is not None and not _holds_libraries(folder) and not _is_listed(top, files):
            folders.add(folder)

    @cache
    def is_followed(top: str) -> bool:
        return top in names or (top not in sys.stdlib_module_names and _folder_of(top) in folders)

    return lambda name: is_followed(name.partition(".")[0])


def _files_of(distribution: str) -> list[metadata.PackagePath]:
    """Return the files of a distribution; none of one that is not installed, as a checkout may be."""
    try:
        return metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return []


def _folder_of(top: str) -> Path | None:
    """Return the folder that contains a top-level module."""
    path = None if top in sys.stdlib_module_names else _path(top)
    if path is None:
        return None
    return Path(path).parent.parent if Path(path).name == "__init__.py" else Path(path).parent


def _holds_libraries(folder: Path) -> bool:
    """Return whether distributions are installed into this folder, as into site-packages."""
    return folder.name in _INSTALLED or (folder / "numpy").is_dir()


def _is_listed(top: str, files: list[metadata.PackagePath]) -> bool:
    """Return whether a module is an installed file of a distribution; in an editable checkout it is not."""
    path = _path(top)
    return path is not None and any(file.suffix in _CODE and str(file.locate()) == path for file in files)


@cache
def _version_of(top: str) -> str:
    """Return the version of another distribution's module; empty for the standard library."""
    if top in sys.stdlib_module_names or top in _DECIDE_NO_VALUE:
        return ""
    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        return "" if _spec(top) is None else repr(distributions_of(top))


@cache
def _installed() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())  # reads the metadata of every distribution


def _packages_above(name: str) -> list[str]:
    steps = name.split(".")
    return [".".join(steps[:end]) for end in range(1, len(steps))]


@cache
def _spec(name: str) -> ModuleSpec | None:
    """Return the spec of a module without running its parent packages."""
    package, _, _ = name.rpartition(".")
    if not package:
        try:
            return find_spec(name)
        except (ImportError, ValueError):  # ValueError: a module without a spec, such as __main__
            return None
    above = _spec(package)
    if above is None or above.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(name, list(above.submodule_search_locations))


_seen: dict[str, _Seen] = {}
"""Stamp and source of each file when this process first read it."""


def _read(name: str) -> _Source | None:
    """Return hash and imports of a module; None if there is no such module."""
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
    """Return the file of a module; None if it has none."""
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
    """Return hash and imports of a file; if it is not valid Python, the hash of its bytes."""
    try:
        tree = ast.parse(content) if path.endswith(".py") else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # nested too deeply for the parser
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
    """Yield the nodes of a tree that can run, and append their text to ``words``."""
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
    """Return a name or constant as text; ``repr`` fails for integers of several thousand digits."""
    return hex(value) if type(value) is int else repr(value)


def _is_text(node: ast.AST) -> bool:
    """Return whether a statement is a bare string, such as a docstring."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_for_type_checkers(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """Return the modules a statement imports; a name imported from a package may also be a module."""
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
    """Return a table of settings and every table it contains."""
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
