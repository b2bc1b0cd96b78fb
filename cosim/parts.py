"""Parts: settings that carry their own behaviour, told apart by ``kind`` and found by being there.

A family is a package whose ``__init__`` names an abstract :class:`Part`; each
concrete part is one file in that package. Another distribution adds a part
through the entry-point group ``cosim.parts`` by naming the class. A scenario
field takes any part of a family with ``Annotated[Fading, OneOf(Fading)]``.
"""

import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Self,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticKnownError
from pydantic_core.core_schema import (
    no_info_plain_validator_function,
    nullable_schema,
    tuple_variable_schema,
)

P = TypeVar("P", bound="Part")

GROUP = "cosim.parts"
"""The entry-point group in which another package names its parts."""

Decibels = Annotated[float, Field(ge=-400.0, le=400.0)]
"""A setting in dB, dBm or dBm/Hz, within what floats hold once it is linear."""

Plane = Literal["time", "value"]
"""What a setting decides: ``value``, what is computed; ``time``, when it happens or what it is called."""

LONGEST_S = 1e9
"""Longest time a setting may have, s: thirty years, well within the clock's integers."""


def _make_exact(schema: Any, table: type[BaseModel]) -> None:
    """Let numbers, and true and false, be nothing else, anywhere in pydantic's schema of a table.

    Tables within are passed over: they have made theirs exact themselves.
    """
    if isinstance(schema, dict):
        if schema.get("type") == "model" and schema["cls"] is not table and issubclass(schema["cls"], Table):
            return
        if schema.get("type") in ("int", "float", "bool"):
            schema["strict"] = True
        for name, inner in schema.items():
            if name != "keys_schema":  # a key of a TOML table is a text, also where it means a number
                _make_exact(inner, table)
    elif isinstance(schema, list | tuple):
        for inner in schema:
            _make_exact(inner, table)


@dataclass(frozen=True)
class OfPlane:
    """Marks a field that is not of the plane of its table, as in ``Annotated[int, OfPlane("time")]``."""

    plane: Plane


class Table(BaseModel):
    """Settings of one table of a scenario file: frozen, and a key it does not know is a fault.

    A number is not read out of a text, nor out of true or false.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    plane: ClassVar[Plane] = "value"
    """Of its settings, but for those that are marked with :class:`OfPlane`."""

    former_names: ClassVar[Mapping[str, str]] = {}
    """What settings were called before, with what they are called now."""

    @classmethod
    def default(cls) -> Self:
        """Return the table as it is without any settings, sooner than by calling it: nothing is checked."""
        return cast(Self, cls.model_construct())

    @classmethod
    def plane_of(cls, name: str) -> Plane:
        """Return the plane of a setting."""
        marks = (mark.plane for mark in cls.model_fields[name].metadata if isinstance(mark, OfPlane))
        return next(marks, cls.plane)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Hand pydantic the table's schema with exact numbers; a list is still taken for a tuple."""
        schema = handler(source)
        _make_exact(schema, cls)
        return schema


class Part(Table):
    """A table with a ``kind`` and the behaviour that goes with it."""

    if TYPE_CHECKING:
        kind: str
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    """Settings the contract tests run the part on."""

    former_kinds: ClassVar[tuple[str, ...]] = ()
    """What its ``kind`` was before."""

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


class LeftOut(NamedTuple):
    """A part of another package that cannot be used.

    Attributes
    ----------
    part
        The class, or the entry point where there is none.
    reason
        It does not load, has no kind, has settings that cannot be read, or
        claims a kind that another part has.
    fault
        What was raised.
    other
        The part of another package that claims the same kind; None where cosim's own has it.
    """

    part: Any
    reason: Literal["loading", "kind", "settings", "claimed"]
    fault: BaseException | None = None
    other: Any = None


_left_out: list[LeftOut] = []
_listeners: list[Callable[[LeftOut], None]] = []


def on_left_out(tell: Callable[[LeftOut], None]) -> None:
    """Call ``tell`` for each part that is left out, those of before included.

    The words of that are not here: this module is in the key of every stored
    value, and a warning decides none.
    """
    for one in _left_out:
        tell(one)
    _listeners.append(tell)


def _leave_out(part: LeftOut) -> None:
    _left_out.append(part)
    for tell in _listeners:
        tell(part)


@cache
def entry_points() -> tuple[metadata.EntryPoint, ...]:
    """Return the parts that other packages name, in a fixed order."""
    if not any(map(_may_name_parts, sys.path)) and not _other_finders():
        return ()  # which importlib, as it parses what each distribution says, takes six times as long to say
    return tuple(sorted(metadata.entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)))


def _may_name_parts(place: str) -> bool:
    """Return whether a distribution installed in a place of ``sys.path`` might name a part."""
    try:
        names = os.listdir(place or ".")
    except OSError:
        return os.path.isfile(place)  # an archive is for importlib to read
    for name in names:
        if name.lower().endswith((".dist-info", "egg-info")):
            try:
                with open(os.path.join(place, name, "entry_points.txt"), "rb") as file:
                    if GROUP.encode() in file.read():
                        return True
            except OSError:  # most distributions name nothing
                continue
    return False


def _other_finders() -> bool:
    """Return whether distributions are found in other ways than in the places of ``sys.path``."""
    return any(hasattr(one, "find_distributions") for one in sys.meta_path if one is not PathFinder)


@cache
def _load_others() -> None:
    """Load the parts of other packages, once in a process."""
    for entry in entry_points():
        try:
            entry.load()
        except (Exception, SystemExit) as fault:  # code of another package: it may raise anything
            _leave_out(LeftOut(entry, "loading", fault))


@cache
def family(base: type[Part]) -> dict[str, type[Part]]:
    """Return the concrete parts of a family by kind, sorted by kind.

    A part of another package that does not load, or claims a kind that is taken, is
    left out; see :func:`on_left_out`.

    Raises
    ------
    ValueError
        If two parts of cosim itself claim one kind.
    """
    package = import_module(base.__module__)
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    _load_others()
    own: dict[str, type[Part]] = {}
    others: dict[str, list[type[Part]]] = {}
    for part in _concrete(base):
        if part.__module__.partition(".")[0] == "cosim":
            kind = _kind(part)
            if own.setdefault(kind, part) is not part:
                raise ValueError(
                    f"two parts of {base.__name__} claim the kind {kind!r}: {own[kind]} and {part}"
                )
        elif part.__module__ in sys.modules and _works(part):  # a module that raised is not among them
            others.setdefault(_kind(part), []).append(part)
    return dict(sorted({**_unclaimed(others, own), **own}.items()))


def _unclaimed(others: dict[str, list[type[Part]]], own: Iterable[str]) -> dict[str, type[Part]]:
    """Return the parts of other packages whose kind no other part has, and leave out the rest."""
    parts: dict[str, type[Part]] = {}
    for kind, claiming in others.items():
        if kind not in own and len(claiming) == 1:
            parts[kind] = claiming[0]
            continue
        for part in claiming:
            other = None if kind in own else next(one for one in claiming if one is not part)
            _leave_out(LeftOut(part, "claimed", other=other))
    return parts


def _concrete(base: type[Part]) -> list[type[Part]]:
    children = [found for child in base.__subclasses__() for found in _concrete(child)]
    return children if inspect.isabstract(base) else [base, *children]


def _kind(part: type[Part]) -> str:
    (kind,) = get_args(part.model_fields["kind"].annotation)
    return str(kind)


def _works(part: type[Part]) -> bool:
    """Return whether a part can be in a scenario; one that cannot is left out."""
    try:
        _kind(part)
    except (KeyError, ValueError):
        _leave_out(LeftOut(part, "kind"))
        return False
    try:
        with warnings.catch_warnings(action="ignore"):
            part.model_json_schema()
    except Exception as fault:  # pydantic's own, or whatever the part's types raise
        _leave_out(LeftOut(part, "settings", fault))
        return False
    return True


def part_of(base: type[Part], kind: Any) -> type[Part] | None:
    """Return the part of a family that has a kind; None where there is none.

    A family of one needs no kind. A part of cosim is in the file that has the name of its kind: the rest
    of the family is loaded only where there is no such file, or parts of other packages might claim it.
    """
    if isinstance(kind, str) and kind.isidentifier() and kind[0] != "_" and not entry_points():
        part = _own_part(base, kind)
        if part is not None:
            return part
    parts = family(base)
    only = next(iter(parts.values())) if len(parts) == 1 else None
    return parts.get(kind, only) if isinstance(kind, str) else only


@cache
def _own_part(base: type[Part], kind: str) -> type[Part] | None:
    """Return the part in cosim that has a kind, where it is in the file of that name or already loaded."""
    file = f"{base.__module__}.{kind}"
    if find_spec(file) is not None:
        import_module(file)
    own = (part for part in _concrete(base) if part.__module__.partition(".")[0] == "cosim")
    return next((part for part in own if _kind(part) == kind), None)


def kinds_that(base: type[Part], can: Callable[[Any], bool]) -> str:
    """Return the kinds of the parts of a family that can do something, as a message names them."""
    return ", ".join(repr(kind) for kind, part in family(base).items() if can(part))


class OneOf:
    """Marks a field that takes any part of a family, told apart by ``kind``, or as a tuple several."""

    def __init__(self, base: type[Part]) -> None:
        self.base = base

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Hand pydantic what reads a part; None or a list of them where the field takes it."""
        schema = no_info_plain_validator_function(self._read)
        if get_origin(source) is tuple:
            return tuple_variable_schema(schema)
        return nullable_schema(schema) if type(None) in get_args(source) else schema

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe all parts of the family, and what is read into one, such as its name."""
        if schema["type"] == "function-before":
            return handler(schema)
        parts = tuple(family(self.base).values())
        union: Any = Union[parts]  # noqa: UP007 -- built at run time
        one: Any = parts[0] if len(parts) == 1 else Annotated[union, Field(discriminator="kind")]
        described = TypeAdapter(one).core_schema
        if schema["type"] == "tuple":
            return handler(tuple_variable_schema(described))
        return handler(nullable_schema(described) if schema["type"] == "nullable" else described)

    def _read(self, given: Any) -> Part:
        """Return the part that settings describe; only parts that are named are loaded."""
        if isinstance(given, self.base):
            return given
        if not isinstance(given, Mapping):
            raise PydanticKnownError("model_attributes_type")
        part = part_of(self.base, given.get("kind"))
        if part is None and "kind" not in given:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": "'kind'"})
        if part is None:
            known = ", ".join(map(repr, family(self.base)))
            tag = str(given["kind"])
            raise PydanticKnownError(
                "union_tag_invalid", {"discriminator": "'kind'", "tag": tag, "expected_tags": known}
            )
        return part.model_validate(given)


def base_of(field: FieldInfo) -> type[Part] | None:
    """Return the family a field takes a part of; None where it takes none."""
    return next((mark.base for mark in field.metadata if isinstance(mark, OneOf)), None)


def make(base: type[P], settings: dict[str, Any]) -> P:
    """Return the part of a family that these settings describe."""
    adapter = _adapter(base)
    part: P = adapter.validate_python(settings)
    return part


@cache
def _adapter(base: type[Part]) -> TypeAdapter[Any]:
    """Return what reads settings of a family; to make it takes long."""
    return TypeAdapter(cast(Any, Annotated[base, OneOf(base)]))
