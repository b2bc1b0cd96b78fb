"""Programs beside the package: what they import is there, whatever was renamed."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = [file for folder in ("analysis", "bench") for file in sorted((ROOT / folder).rglob("*.py"))]


def imported(file):
    """Return what a file imports of this project, wherever in it: pairs of module and name."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cosim"):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_program_imports_is_there(file):
    for module, name in imported(file):
        if not hasattr(import_module(module), name):
            import_module(f"{module}.{name}")
