"""A package with one part in it, to begin from: a copy of a part of cosim under a name of its own."""

import inspect
import re
import sys
from importlib.resources import files
from pathlib import Path

from cosim.cli.listing import every_family, names_of
from cosim.distribution import NAME
from cosim.errors import ScenarioError
from cosim.files import write_whole
from cosim.parts import Part
from cosim.scenario.catalogue import Family
from cosim.scenario.faults import did_you_mean
from cosim.words import short

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


def write_package(family: str, name: str, like: str | None, folder: Path) -> list[str]:
    """Write the package into ``folder`` and return what to do with it, in lines.

    Parameters
    ----------
    family
        Such as ``allocator`` or ``fading``.
    name
        Of the package, such as ``my-allocator``; the part's kind is the same with underscores.
    like
        The kind it begins as a copy of; the one with the shortest source without it.
    folder
        Must not be there.

    Raises
    ------
    ScenarioError
        If there is no such family or kind, the name is none for a package or taken, or the folder is there.
    """
    if family == "scenario":
        return [_write_scenario(name, like, folder)]
    chosen = _family(family)
    kind = name.replace("-", "_")
    if not _NAME.fullmatch(name):
        raise ScenarioError(
            f"new {short(name)}: a package is named by small letters, digits and hyphens, "
            "and begins with a letter."
        )
    if kind in chosen.parts:
        raise ScenarioError(f"new {name}: the family {chosen.place} has a kind {kind!r} already.")
    if kind in sys.stdlib_module_names or kind == "cosim":
        raise ScenarioError(f"new {name}: is the name of another package; choose another one.")
    if folder.exists():
        raise ScenarioError(f"new {name}: {folder} is there already; name another folder with --out.")
    original = _original(chosen, like)
    made = package(original, name)
    for path, content in made.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / path, content.encode())
    old = original.model_fields["kind"].default
    return [
        f"{folder}: a package with the {chosen.place} {kind!r}, a copy of {old!r} to begin from",
        f"next: pip install --editable '{folder}[test]'; edit {folder / kind / 'part.py'}; pytest {folder}",
        f'then: kind = "{kind}" in a scenario; cosim parts {family} lists it',
    ]


def _write_scenario(name: str, like: str | None, folder: Path) -> str:
    """Write a scenario to begin from, which states what it takes for granted; return what to do with it."""
    if like is not None:
        raise ScenarioError("--like: is for parts; a scenario begins as the one that comes with cosim.")
    path = folder if folder.suffix == ".toml" else folder.with_name(f"{folder.name}.toml")
    if path.exists():
        raise ScenarioError(f"new {short(name)}: {path} is there already; name another file with --out.")
    write_whole(path, (files("cosim.cli") / "scenario.toml").read_bytes())
    return f"{path}: a scenario to begin from; next: cosim check {path}"


def package(original: type[Part], name: str) -> dict[str, str]:
    """Return the files of a package by their paths: a part like ``original`` under another name."""
    kind = name.replace("-", "_")
    class_name = "".join(word.capitalize() for word in kind.split("_"))
    old_kind = original.model_fields["kind"].default
    source = inspect.getsource(sys.modules[original.__module__])
    source = re.sub(rf"\b{original.__name__}\b", class_name, source)
    source = re.sub(
        r"^    kind: .*",
        lambda line: line[0].replace(f'"{old_kind}"', f'"{kind}"'),
        source,
        flags=re.MULTILINE,
    )
    source = re.sub(r"^    former_kinds.*\n(?:    \"\"\".*\"\"\"\n)?", "", source, flags=re.MULTILINE)
    return {
        "pyproject.toml": f"""[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1"
description = "A part of cosim"
dependencies = ["{NAME}"]

[project.optional-dependencies]
test = ["{NAME}[testing]"]

[project.entry-points."cosim.parts"]
{kind} = "{kind}.part:{class_name}"

[tool.hatch.build.targets.wheel]
packages = ["{kind}"]
""",
        "README.md": f"""# {name}

A part of cosim: `kind = "{kind}"`. Once this package is installed, scenarios may name it.

    pip install --editable '.[test]'
    pytest          # what every part of its family keeps, on the examples in `{kind}/part.py`
""",
        f"{kind}/__init__.py": f'"""A part of cosim: ``{kind}``."""\n',
        f"{kind}/part.py": source,
        f"tests/test_{kind}.py": f'''"""What every part of its family keeps, on the examples of this one."""

from {kind}.part import {class_name}

from cosim.testing import contract

globals().update(contract({class_name}))
''',
    }


def _family(name: str) -> Family:
    every = every_family()
    found = [
        one for one in every if name in one.places or name in (place.split(".")[-1] for place in one.places)
    ]
    if len(found) != 1:
        places = [place for one in every for place in one.places]
        hint = did_you_mean(name, names_of(places))
        raise ScenarioError(f"new: no family {short(name)}; known: {', '.join(places)}{hint}.")
    return found[0]


def _original(family: Family, like: str | None) -> type[Part]:
    own = {kind: part for kind, part in family.parts.items() if part.__module__.startswith("cosim.")}
    if like is None:
        return min(own.values(), key=lambda part: len(inspect.getsource(sys.modules[part.__module__])))
    if like not in own:
        raise ScenarioError(f"--like {short(like)}: the family {family.place} has {', '.join(own)}.")
    return own[like]
