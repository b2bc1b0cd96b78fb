"""What a scenario file may say: the families of parts, every setting, and a JSON Schema for editors."""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticUndefined, core_schema

from cosim.parts import OneOf, Part, Table, family
from cosim.scenario.settings import Scenario

_UNITS = (
    ("_bit_per_s_per_hz", "bit/s/Hz"),
    ("_bit_per_s", "bit/s"),
    ("_m_per_s", "m/s"),
    ("_dbm_per_hz", "dBm/Hz"),
    ("_per_cycle", "per cycle"),
    ("_dbm", "dBm"),
    ("_db", "dB"),
    ("_hz", "Hz"),
    ("_bytes", "bytes"),
    ("_m", "m"),
    ("_s", "s"),
    ("_w", "W"),
    ("_j", "J"),
)


@dataclass(frozen=True)
class Setting:
    """One setting of a table: its name, type and default as a file would have them, unit and meaning."""

    name: str
    type: str
    default: str | None
    unit: str | None
    description: str


@dataclass(frozen=True)
class Family:
    """A setting of a scenario that takes one of several parts; ``others`` are further places for these."""

    place: str
    base: type[Part]
    others: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[str, ...]:
        """All its places in the file."""
        return self.place, *self.others

    @property
    def parts(self) -> dict[str, type[Part]]:
        """The parts by kind."""
        return family(self.base)


def families() -> tuple[Family, ...]:
    """Return every family a scenario chooses from, by its place in the file."""
    return tuple(_families(Scenario, ""))


def inner_families() -> tuple[Family, ...]:
    """Return every family that only some part in turn chooses from, such as a scheme's aggregator."""
    places: dict[type[Part], list[str]] = {}
    open_ = list(families())
    outer = {one.base for one in open_}
    for one in open_:
        for part in one.parts.values():
            for inner in _families(part, one.place):
                if inner.base in outer:
                    continue
                known = places.setdefault(inner.base, [])
                if not known:
                    open_.append(inner)
                if inner.place not in known:
                    known.append(inner.place)
    return tuple(Family(first, base, tuple(others)) for base, (first, *others) in places.items())


def settings(table: type[Table]) -> tuple[Setting, ...]:
    """Return the settings of a table, ``kind`` left out."""
    return tuple(
        Setting(name, _type(field.annotation), _default(field), unit(name), describe(table, name))
        for name, field in table.model_fields.items()
        if name != "kind"
    )


def unit(name: str) -> str | None:
    """Return the unit a setting's name ends in.

    Examples
    --------
    >>> unit("bandwidth_hz"), unit("subchannel_bandwidths_hz"), unit("rank")
    ('Hz', 'Hz', None)
    """
    return next((unit for ending, unit in _UNITS if name.endswith(ending)), None)


def first_line(table: type[Table]) -> str:
    """Return what a table is, in one line."""
    return (inspect.getdoc(table) or "").partition("\n")[0]


def describe(table: type[Table], name: str) -> str:
    """Return what a setting means, from its field or from the docstring of the class that has it."""
    field = table.model_fields[name]
    if field.description:
        return field.description
    owners = [owner for owner in table.__mro__ if owner is not Table and issubclass(owner, Table)]
    for documented in (_in_attributes, _in_a_sentence):
        for owner in owners:
            found = documented(owner).get(name)
            if found:
                return found
    kind = field.annotation
    return first_line(kind) if isinstance(kind, type) and issubclass(kind, Table) else ""


def json_schema(table: type[Table] = Scenario, title: str = "cosim scenario") -> dict[str, Any]:
    """Return the JSON Schema of a file, a scenario's if no other is named, with meanings and units."""
    schema = table.model_json_schema(schema_generator=_Schema)
    schema["required"] = [name for name in schema.get("required", ()) if name != "name"]  # the file's name
    if not schema["required"]:
        del schema["required"]
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": title,
        **{k: v for k, v in schema.items() if k != "title"},
    }


class _Schema(GenerateJsonSchema):
    """Adds descriptions from docstrings, and units from names."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Return the schema of one table."""
        made = super().model_schema(schema)
        table = schema["cls"]
        if issubclass(table, Table):
            made["description"] = first_line(table)
            for name, entry in made.get("properties", {}).items():
                parts = (describe(table, name), f"Unit: {unit(name)}." if unit(name) else "")
                words = " ".join(part for part in parts if part)
                if words:
                    entry["description"] = words
        return made


def _families(table: type[BaseModel], place: str) -> Iterator[Family]:
    for name, field in table.model_fields.items():
        here = f"{place}.{name}" if place else name
        base = next((mark.base for mark in field.metadata if isinstance(mark, OneOf)), None)
        if base is not None:
            yield Family(here, base)
        else:
            kind = field.annotation
            if get_origin(kind) is tuple:  # a list of tables
                kind = get_args(kind)[0]
            if isinstance(kind, type) and issubclass(kind, Table):
                yield from _families(kind, here)


@cache
def _in_attributes(table: type[Table]) -> dict[str, str]:
    """Return what the attributes section of a class's own docstring says, in one line each."""
    _, _, section = inspect.cleandoc(table.__doc__ or "").partition("\nAttributes\n----------\n")
    section = re.split(r"\n\n[^\n]+\n-{3,}\n", section)[0]
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", section):
        names, _, meaning = entry.partition("\n")
        found |= {name.strip(): _one_line(meaning) for name in names.split(",") if meaning}
    return found


@cache
def _in_a_sentence(table: type[Table]) -> dict[str, str]:
    """Return the sentence of a class's own docstring that begins with a setting, or else names it."""
    body = re.split(r"\n\n[^\n]+\n-{3,}\n", inspect.cleandoc(table.__doc__ or ""))[0]
    sentences = re.split(r"(?<=\.)\s+|\n\n", body)
    found: dict[str, str] = {}
    for pattern in (r"^``(\w+)``", r"``(\w+)``"):
        for sentence in sentences:
            for name in re.findall(pattern, sentence):
                if name in table.model_fields:
                    found.setdefault(name, _one_line(sentence.removeprefix(f"``{name}``: ")))
    return found


def _one_line(text: str) -> str:
    starts_with_name = text.lstrip().startswith("``")
    line = " ".join(text.replace("``", "").split())
    return line if starts_with_name else line[:1].upper() + line[1:]


def _type(annotation: Any) -> str:
    """Return a type in the words of a TOML file."""
    if get_origin(annotation) is Literal:
        return " | ".join(repr(value) for value in get_args(annotation))
    if get_origin(annotation) in (tuple, list):
        inner = dict.fromkeys(_type(one) for one in get_args(annotation) if one is not Ellipsis)
        return f"list of {' | '.join(inner)}"
    if get_origin(annotation) in (dict, Mapping):
        return "table"
    arguments = [one for one in get_args(annotation) if isinstance(one, type) or get_args(one)]
    if arguments and not isinstance(annotation, type):
        words = [_type(one) for one in arguments if one is not type(None)]
        return " | ".join(dict.fromkeys(words))
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return "table" if issubclass(annotation, Part) else _kind_or_table(annotation)
    plain = {bool: "true | false", int: "whole number", float: "number", str: "text"}
    return plain.get(annotation, "path" if getattr(annotation, "__name__", "") == "Path" else "table")


def _kind_or_table(table: type[Table]) -> str:
    kinds = get_args(table.model_fields["kind"].annotation) if "kind" in table.model_fields else ()
    return "number" if kinds == ("constant",) else f"{{ kind = {kinds[0]!r}, ... }}" if kinds else "table"


def _default(field: FieldInfo) -> str | None:
    """Return a default as a file would write it; None where the setting must be given."""
    if field.default is PydanticUndefined:
        return None
    value = field.default
    if isinstance(value, BaseModel):
        dumped = value.model_dump(mode="json", exclude_none=True)
        value = dumped["value"] if dumped.get("kind") == "constant" else dumped
    return _toml(value)


def _toml(value: Any) -> str:
    if value is None:
        return "left out"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return f'"{value}"'.replace("\n", "\\n")
    return f"{value:g}" if isinstance(value, float) else str(value)
