"""The contract tests of every family, for the parts of other packages as for cosim's own.

A test module of a package takes the tests of its part's family in one line, and pytest runs them
on the ``examples`` of that part:

::

    from cosim.testing import contract
    from my_fading.part import MyFading

    globals().update(contract(MyFading))

It needs the extra ``testing`` (pytest and hypothesis); nothing else in cosim imports this package.
"""

import re
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

import pytest

from cosim.parts import Part
from cosim.plugins import named_class
from cosim.testing.selection import alone, under_test

__all__ = ["contract"]

CONTRACTS = f"{__name__}.contracts"
PART = "__cosim_part__"
"""What the namespace of a contract calls the part it is of; `cosim.testing.plugin` reads it."""

pytest.register_assert_rewrite(CONTRACTS)


def contract(part: type[Part]) -> dict[str, Any]:
    """Return the contract tests of a part's family, with their fixtures, by name.

    Parameters
    ----------
    part
        A part, whose examples the tests run on; or the base class of a family, for all its parts.

    Raises
    ------
    ValueError
        If the part is of no family, or scenarios do not find it by its kind.
    """
    name, base = _contract_of(part)
    if part is base:
        return _tests(import_module(name))
    with alone(part):
        if not under_test(base):
            raise ValueError(
                f"{named_class(part)}: scenarios do not find it by its kind; "
                'name it under [project.entry-points."cosim.parts"] and install its package.'
            )
        found = _tests(_loaded_again(name))
    return {**found, PART: part, "pytest_plugins": (f"{__name__}.plugin",)}


def _contract_of(part: type[Part]) -> tuple[str, type[Part]]:
    """Return the name of the module with the contract, which is that of the base class, and this class."""
    for base in part.__mro__:
        name = f"{CONTRACTS}.{re.sub(r'(?<!^)(?=[A-Z])', '_', base.__name__).lower()}"
        if base.__module__.startswith("cosim.") and find_spec(name) is not None:
            return name, base
    raise ValueError(f"{named_class(part)}: is a part of no family of cosim.")


def _loaded_again(name: str) -> ModuleType:
    """Return a module of its own: its tests are parametrised with the examples that are under test now."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _tests(module: ModuleType) -> dict[str, Any]:
    """Return what pytest collects of a module: tests, fixtures and marks."""
    return {
        name: value
        for name, value in vars(module).items()
        if name == "pytestmark" or name.lower().startswith("test") or _is_fixture(value)
    }


def _is_fixture(value: Any) -> bool:
    """Return whether pytest takes a value for a fixture; it has no public question for this."""
    return type(value).__name__ == "FixtureFunctionDefinition" or hasattr(value, "_pytestfixturefunction")
