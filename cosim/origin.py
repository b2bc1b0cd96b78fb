"""What made a record: versions, the commit of cosim, and the parts that come from elsewhere."""

import os
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cosim.distribution import NAME, version_of
from cosim.graph.code_identity import code_of, distributions_of
from cosim.parts import Part, Table

EDITED = "+edited"
"""Behind a commit from which the code of the package differs, files not under version control included."""

_VERSIONS = ("cosim", "torch", "transformers", "peft", "numpy", "simpy", "pyarrow")
_LONGEST_S = 20.0


def origin(settings: Iterable[Table]) -> dict[str, Any]:
    """Return versions, commit and foreign parts as a manifest has them.

    Parameters
    ----------
    settings
        What is run; of several, such as those before and after an event, the parts of all are listed.
    """
    return {
        "versions": dict(_versions()),
        "commit": commit(),
        "parts": foreign_parts(settings),
    }


@cache
def _versions() -> dict[str, str]:
    """Return the version of each library that decides results; its metadata are read once in a process."""
    return {name: version_of(name) for name in _VERSIONS}


def foreign_parts(settings: Iterable[Table]) -> list[dict[str, Any]]:
    """Return the parts among settings that are not cosim's own, each once, with the package each is of.

    ``package`` and ``version`` are None for a class that no distribution says to have.
    """
    parts = {type(part): part for one in settings for part in _parts_in(one)}
    found = (_entry(part) for part in parts.values() if not _is_own(type(part)))
    return sorted(found, key=lambda entry: (entry["class"], entry["kind"]))


@cache
def commit(package: Path = Path(__file__).parent) -> str | None:
    """Return the commit a package of cosim was checked out at, marked where it was edited; or None.

    Asked is only a repository of cosim itself, never one that happens to lie
    around an installed package. Looked up once in a process.
    """
    root = package.parent
    if not (root / ".git").exists() or not _is_cosim(root / "pyproject.toml"):
        return None
    lines = _git(root, "status", "--porcelain=v2", "--branch", "--untracked-files=all", "--", package.name)
    head = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "")
    if not head or head.startswith("("):  # nothing was committed yet
        return None
    return head + (EDITED if any(not line.startswith("#") for line in lines) else "")


def _is_cosim(pyproject: Path) -> bool:
    try:
        found: bool = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["name"] == NAME
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return found


def _git(root: Path, *words: str) -> list[str]:
    """Return what git answers, line by line; nothing where there is no git or it refuses.

    Variables that name another repository, as hooks of git have them, are left out.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        answer = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-C", os.fspath(root), *words],
            capture_output=True,
            check=True,
            timeout=_LONGEST_S,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.decode(errors="replace").splitlines()


def _parts_in(value: Any) -> Iterator[Part]:
    if isinstance(value, Table):
        if isinstance(value, Part):
            yield value
        for name in type(value).model_fields:
            yield from _parts_in(getattr(value, name))
    elif isinstance(value, tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _parts_in(item)


def _is_own(part: type[Part]) -> bool:
    return part.__module__.partition(".")[0] == "cosim"


def _entry(part: Part) -> dict[str, Any]:
    module = type(part).__module__
    owners = distributions_of(module.partition(".")[0])
    name, version = owners[0] if owners else (None, None)
    return {
        "kind": part.kind,
        "class": f"{module}.{type(part).__qualname__}",
        "package": name,
        "version": version,
        "code": code_of(part),
    }
