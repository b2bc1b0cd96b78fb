"""The parts that the contract of a family runs on: all of them, or the one of another package."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cosim.parts import Part, family, make

_alone: list[type[Part]] = []


def under_test(base: type[Part]) -> dict[str, type[Part]]:
    """Return the parts of a family that are under test, by kind; all of it unless one is :func:`alone`."""
    return {kind: part for kind, part in family(base).items() if not _alone or part is _alone[-1]}


@contextmanager
def alone(part: type[Part]) -> Iterator[None]:
    """Let :func:`under_test` return this part and no other."""
    _alone.append(part)
    try:
        yield
    finally:
        _alone.pop()


def examples_of(base: type[Part]) -> list[Any]:
    """Return the settings of every example of the parts under test, each a case to parametrise with."""
    return [
        pytest.param({"kind": kind, **example}, id=f"{kind}-{number}")
        for kind, part in under_test(base).items()
        for number, example in enumerate(part.examples)
    ]


def parts_of(base: type[Part]) -> list[Any]:
    """Return the part of every example under test, each a case to parametrise with."""
    return [pytest.param(make(base, *one.values), id=one.id) for one in examples_of(base)]
