"""Which class the table at a place of a scenario has, and what that class says of a setting."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, cast, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from cosim.parts import Table, base_of, part_of

Faults = frozenset[tuple[tuple[int | str, ...], str]]


def table_of(field: FieldInfo | None, value: Any) -> type[Table] | None:
    """Return the class of a table given for a field, by its kind where there are several.

    None where the field takes no table, the kind is unknown, or the table is a
    mapping whose names are no settings.
    """
    if field is None or not isinstance(value, Mapping):
        return None
    kind = value.get("kind")
    base = base_of(field)
    if base is not None:
        return part_of(base, kind)
    tables = list(tables_in(field.annotation))
    if len(tables) == 1 and "kind" not in tables[0].model_fields:
        return tables[0]
    return next((one for one in tables if kind in _kinds(one)), None)


def field_of(table: type[Table] | None, field: FieldInfo | None, name: str) -> FieldInfo | None:
    """Return the field a name has in a table, or in a mapping of names to tables; None where unknown.

    Parameters
    ----------
    table, field
        The class of the table, None where it is none, and the field it is the value of.
    """
    if table is not None:
        return table.model_fields.get(name)
    arguments = get_args(field.annotation) if field is not None else ()
    if len(arguments) == 2 and isinstance(arguments[1], type) and issubclass(arguments[1], Table):
        return FieldInfo.from_annotation(arguments[1])
    return None


def is_default(table: type[Table], name: str, value: Any) -> bool:
    """Return whether a setting, as a file has it, is what its table has without it."""
    field = table.model_fields[name]
    return not field.is_required() and default_of(table, name) == value


@cache
def default_of(table: type[Table], name: str) -> Any:
    """Return what a table has without a setting, as a file would have it; None where it must be given."""
    field = table.model_fields[name]
    if field.is_required():
        return None
    adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, Annotated[field.annotation, field]))
    return adapter.dump_python(field.get_default(call_default_factory=True), mode="json", exclude_none=True)


def faults_of(table: type[Table], given: Mapping[str, Any]) -> Faults:
    """Return where a table is at fault, and in what way."""
    try:
        table.model_validate(dict(given))
    except ValidationError as error:
        told = error.errors(include_url=False, include_context=False, include_input=False)
        return frozenset((one["loc"], one["type"]) for one in told)
    return frozenset()


def _kinds(table: type[Table]) -> tuple[Any, ...]:
    return get_args(table.model_fields["kind"].annotation) if "kind" in table.model_fields else ()


def tables_in(annotation: Any) -> Iterator[type[Table]]:
    """Yield the classes of the tables that an annotation takes."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        yield annotation
    elif get_origin(annotation) not in (dict, Mapping):
        for inner in get_args(annotation):
            yield from tables_in(inner)
