"""The store: values once computed, kept under their keys, for every later run that meets the same key.

Values lie in bundles, one for what a round learned. A bundle is a safetensors file
whose name is the hash of its bytes, so a bundle is whole and unchanged or it is
not used; it is written beside its place, flushed, and renamed. Bundles are sorted
by namespace, a hash of model, data and seed, because a run never looks further
than its own. Several processes may share a store: two that compute one value
write the same bundle.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

from cosim.errors import StoreError
from cosim.files import write_whole
from cosim.graph.bundle import Key, bundled, contents_of, digest, head_of, tensors_of
from cosim.graph.locks import locked
from cosim.graph.recall import default_store as default_store

FORMAT = 1
_STALE_S = 3600.0
_USED_AGAIN_S = 3600.0
_UNFINISHED = ".tmp"


class LostValueError(Exception):
    """A value that was in the store when it was looked for is gone; the run must be played again."""


@dataclass(frozen=True)
class Bundle:
    """One file of the store; ``used_s`` is when a run last found use for it, to the hour, s since 1970."""

    path: Path
    size_bytes: int
    used_s: float

    def is_whole(self) -> bool:
        """Return whether its bytes are those it was named after."""
        try:
            return digest(self.path.read_bytes()) == self.path.stem
        except OSError:
            return False


class Store:
    """A folder of bundles.

    Parameters
    ----------
    root
        The folder.
    remembers
        Whether a namespace is read and checked once only, for a process that plays
        many runs of one: of its bundles then only new ones are read.

    Raises
    ------
    StoreError
        If the folder is a store of another version, or something else.
    """

    def __init__(self, root: Path, *, remembers: bool = False) -> None:
        self.root = root
        self.warning: str | None = None
        self._remembers = remembers
        self._namespaces: dict[str, Namespace] = {}
        try:
            found = self._format()
            if found is None and self._holds_anything():
                found = self._format()  # another process may have made it a store meanwhile
                if found is None:
                    raise StoreError(f"{root}: is not a store, and not empty; name another with --store.")
        except OSError as fault:
            raise StoreError(
                f"{root}: cannot be used as a store: {fault.strerror}; name another with --store."
            ) from None
        if found is None:
            self._make()
        elif found != str(FORMAT):
            raise StoreError(
                f"{root}: is a store of format {found}, this version of cosim has {FORMAT}; "
                "name another with --store."
            )

    def _format(self) -> str | None:
        """Return the format the folder says it has, None if it says none."""
        try:
            found = (self.root / "format").read_text(encoding="ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return found if found.isdecimal() else None

    def _holds_anything(self) -> bool:
        """Return whether there is more than what a process left that was killed while it made the store."""
        try:
            return any(not name.endswith(_UNFINISHED) for name in os.listdir(self.root))
        except FileNotFoundError:
            return False

    def _make(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            write_whole(self.root / "format", f"{FORMAT}\n".encode())
        except OSError as fault:
            self.warn(fault)

    def warn(self, fault: OSError) -> None:
        """Remember that nothing can be written; the run goes on without."""
        self.warning = (
            f"{self.root}: cannot be written ({fault.strerror}); the run goes on without keeping values."
        )

    def namespace(self, name: str) -> "Namespace":
        """Return the bundles of one namespace, as they are now."""
        namespace = self._namespaces.get(name)
        if namespace is not None:
            namespace.refresh()
            return namespace
        namespace = Namespace(self, self.root / name[:2] / name)
        if self._remembers:
            self._namespaces[name] = namespace
        return namespace

    def bundles(self) -> Iterator[Bundle]:
        """Return every bundle."""
        for path in sorted(self.root.glob("??/*/*.safetensors")):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            yield Bundle(path, status.st_size, status.st_mtime)

    def verify(self) -> tuple[int, list[Path]]:
        """Check every bundle; returns how many are whole, and the damaged ones, which are removed.

        Raises
        ------
        StoreError
            If a damaged one cannot be removed.
        """
        whole, damaged = 0, []
        for bundle in self.bundles():
            if bundle.is_whole():
                whole += 1
            elif bundle.path.exists():  # or it was pruned meanwhile
                damaged.append(bundle.path)
                self._remove(bundle.path)
        return whole, damaged

    def prune(self, *, max_bytes: int | None = None, max_age_s: float | None = None) -> tuple[int, int]:
        """Remove bundles not used for longest until the limits hold; returns how many, and their bytes.

        What killed processes left unfinished goes too.

        Raises
        ------
        StoreError
            If one cannot be removed.
        """
        bundles = sorted(self.bundles(), key=lambda bundle: bundle.used_s)
        total = sum(bundle.size_bytes for bundle in bundles)
        removed, removed_bytes = 0, 0
        for bundle in bundles:
            is_old = max_age_s is not None and time() - bundle.used_s > max_age_s
            is_over = max_bytes is not None and total - removed_bytes > max_bytes
            if is_old or is_over:
                self._remove(bundle.path)
                removed, removed_bytes = removed + 1, removed_bytes + bundle.size_bytes
        for path in (*self.root.glob(f".*{_UNFINISHED}"), *self.root.glob(f"??/*/.*{_UNFINISHED}")):
            with suppress(FileNotFoundError):
                if time() - path.stat().st_mtime > _STALE_S:
                    self._remove(path)
        return removed, removed_bytes

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as fault:
            raise StoreError(
                f"{path}: cannot be removed: {fault.strerror}; the store stays as it is."
            ) from None


class Namespace:
    """The values of one namespace: numbers in memory, tensors read when they are asked for."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._seen: set[str] = set()
        self._numbers: dict[Key, float] = {}
        self._bundles: dict[Key, Path] = {}
        self._latest: tuple[Path, bytes] | None = None
        self.refresh()

    def __contains__(self, key: Key) -> bool:
        return key in self._numbers or key in self._bundles

    def locked(self, keys: Sequence[Key]) -> AbstractContextManager[None]:
        """Compute values while nobody else does; another process may have done so while this one waited."""
        return nullcontext() if self._store.warning is not None else locked(self._folder, keys)

    def refresh(self) -> None:
        """Take in bundles that are new, written by this process or by another."""
        self._latest = None
        try:
            names = sorted(os.listdir(self._folder))
        except OSError:
            return
        for name in names:
            if name not in self._seen and name.endswith(".safetensors"):
                self._seen.add(name)
                self._take_in(self._folder / name)

    def get(self, key: Key, device: str | None = None) -> Any:
        """Return a value: a number, or by name tensors on ``device``.

        Without a device, raw bytes come back as bytes and tensors as arrays, for which torch is not needed.

        Raises
        ------
        LostValueError
            If its bundle is gone, or found damaged.
        """
        if key in self._numbers:
            return self._numbers[key]
        path = self._bundles[key]
        if self._latest is None or self._latest[0] != path:  # values of one round are asked for in a row
            try:
                self._latest = path, self._checked(path)
            except LostValueError:
                self._forget(path)
                raise
        return tensors_of(self._latest[1], key, device)

    def put(self, values: Mapping[Key, Any]) -> None:
        """Keep values; one that cannot be written is left out with a warning."""
        if not values or self._store.warning is not None:
            return
        content = bundled(values)
        path = self._folder / f"{digest(content)}.safetensors"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        except OSError as fault:
            self._store.warn(fault)
            return
        self._latest = None
        self._seen.add(path.name)
        self._note(path, content)

    def _forget(self, path: Path) -> None:
        """Look again for a bundle that is lost, or for what was in it."""
        self._seen.discard(path.name)
        self._bundles = {key: one for key, one in self._bundles.items() if one != path}

    def _take_in(self, path: Path) -> None:
        """Note what is in a bundle, its table of contents checked; a damaged one is removed.

        Tensors are checked when the first of them is asked for: most bundles of a much used store never are.
        """
        try:
            content = head_of(path) or self._checked(path)
        except (LostValueError, OSError):
            return
        with suppress(OSError):  # the time of a store that is only read stays
            if time() - path.stat().st_mtime > _USED_AGAIN_S:
                os.utime(path)
        self._note(path, content)

    def _note(self, path: Path, content: bytes) -> None:
        """Remember what is in a bundle: numbers as they are, tensors by where they lie."""
        numbers, tensors = contents_of(content)
        self._numbers.update(numbers)
        self._bundles.update(dict.fromkeys(tensors, path))

    def _checked(self, path: Path) -> bytes:
        """Return the bytes of a bundle; a damaged one is removed.

        Raises
        ------
        LostValueError
            If it is damaged or cannot be read.
        """
        try:
            content = path.read_bytes()
        except OSError:
            raise LostValueError(str(path)) from None
        if digest(content) != path.stem:
            with suppress(OSError):  # where it cannot be removed, it is passed over every time
                path.unlink(missing_ok=True)
            raise LostValueError(str(path))
        return content
