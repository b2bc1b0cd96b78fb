"""Parts: settings that carry their own behaviour, told apart by ``kind`` and found by being there.

A family is a package whose ``__init__`` names an abstract :class:`Part`; each
concrete part is one file in that package. Another distribution adds a part
through the entry-point group ``cosim.parts`` by naming the class. A scenario
field takes any part of a family with ``Annotated[Fading, OneOf(Fading)]``.
"""

import inspect
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, Union, cast

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema

from cosim.plugins import load_all, usable

P = TypeVar("P", bound="Part")

Decibels = Annotated[float, Field(ge=-400.0, le=400.0)]
"""A setting in dB, dBm or dBm/Hz, within what floats hold once it is linear."""

LONGEST_S = 1e9
"""Longest time a setting may have, s: thirty years, well within the clock's integers."""


def _make_exact(schema: Any) -> None:
    """Let numbers, and true and false, be nothing else, anywhere in a schema of pydantic's."""
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float", "bool"):
            schema["strict"] = True
        for name, inner in schema.items():
            if name != "keys_schema":  # a key of a TOML table is a text, also where it stands for a number
                _make_exact(inner)
    elif isinstance(schema, list | tuple):
        for inner in schema:
            _make_exact(inner)


class Table(BaseModel):
    """Settings of one table of a scenario file: frozen, and a key it does not know is a fault.

    A number is not read out of a text, nor out of true or false.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Hand pydantic the table's schema with exact numbers; a list may still stand for a tuple."""
        schema = handler(source)
        _make_exact(schema)
        return schema


class Part(Table):
    """A table with a ``kind`` and the behaviour that goes with it."""

    if TYPE_CHECKING:
        kind: str
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    """Settings the contract tests run the part on."""

    def files_in(self, folder: Path) -> Iterable[Path]:
        """Return the files that decide something of a folder its settings name: all but hidden ones.

        A part that reads less of it says so, so that a run is not taken for another
        one for a file that nobody reads.
        """
        return (path for path in _below(folder) if path.is_file())


def _below(folder: Path) -> Iterable[Path]:
    for path in folder.iterdir():
        if not path.name.startswith("."):
            yield path
            if path.is_dir() and not path.is_symlink():
                yield from _below(path)


@cache
def family(base: type[Part]) -> dict[str, type[Part]]:
    """Return the concrete parts of a family by kind, sorted by kind.

    A part of another package that does not load, or claims a kind that is taken, is
    named in a warning and left out.

    Raises
    ------
    ValueError
        If two parts of cosim itself claim one kind.
    """
    package = import_module(base.__module__)
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    load_all()
    return usable(base, _concrete(base))


def _concrete(base: type[Part]) -> list[type[Part]]:
    children = [found for child in base.__subclasses__() for found in _concrete(child)]
    return children if inspect.isabstract(base) else [base, *children]


class OneOf:
    """Marks a field that takes any part of a family, told apart by ``kind``."""

    def __init__(self, base: type[Part]) -> None:
        self.base = base

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Hand pydantic the union of the family, discovered now."""
        parts = tuple(family(self.base).values())
        if len(parts) == 1:
            return handler.generate_schema(parts[0])
        union: Any = Union[parts]  # noqa: UP007 -- built at run time
        return handler.generate_schema(Annotated[union, Field(discriminator="kind")])


def make(base: type[P], settings: dict[str, Any]) -> P:
    """Return the part of a family that these settings describe."""
    adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, Annotated[base, OneOf(base)]))
    part: P = adapter.validate_python(settings)
    return part
