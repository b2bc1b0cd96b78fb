"""Faults of a scenario file, in words: the place, the value, and the way out."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from cosim.parts import Table, base_of
from cosim.scenario.kinds import field_of, table_of, tables_in
from cosim.words import clipped, short

_LONGEST_PLACE, _LONGEST_WHAT = 200, 600


def faults(error: ValidationError, given: Any, root: type[Table]) -> list[str]:
    """Return one line per fault; what a setting may be instead is in the same line.

    Parameters
    ----------
    error
        What pydantic found.
    given
        What was validated, as the file has it.
    root
        The model it was validated against.
    """
    told = error.errors(include_url=False)
    found: dict[str, list[str]] = {}
    for one in told:
        found.setdefault(_place(one, given), []).append(_what(one, given, root))
    return [
        f"{clipped(place, _LONGEST_PLACE)}: {clipped(_either(what), _LONGEST_WHAT)}"
        for place, what in found.items()
        if not any(other.startswith(f"{place}.") for other in found)  # the fault is inside
    ]


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return the likely name as the end of a message, or nothing."""
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _either(what: Sequence[str]) -> str:
    """Return in one what each of several types says of a value that is none of them.

    Examples
    --------
    >>> _either(["should be greater than 0, got 0", "should be 'auto', got 0"])
    "should be greater than 0 or 'auto', got 0"
    """
    first, *others = dict.fromkeys(what)
    said, got, value = first.partition(", got ")
    rest = (one.partition(", got ")[0] for one in others)
    each = [said, *(one.removeprefix("should be ").removeprefix("must be ") for one in rest)]
    return " or ".join(each) + got + value


def _place(one: ErrorDetails, given: Any) -> str:
    """Return the path as the file has it: pydantic's also names the kind of a part."""
    steps: list[str] = []
    here = given
    for last, step in _with_last(one["loc"]):
        if isinstance(here, Mapping) and step in here:
            here = here[step]
        elif isinstance(here, Sequence) and not isinstance(here, str) and isinstance(step, int):
            here = here[step] if step < len(here) else None
        elif not (last and isinstance(step, str) and one["type"] in ("missing", "extra_forbidden")):
            continue
        steps.append(str(step))
    return ".".join(steps) or "scenario"


def _with_last(loc: tuple[int | str, ...]) -> Iterator[tuple[bool, int | str]]:
    return ((index == len(loc) - 1, step) for index, step in enumerate(loc))


def _what(one: ErrorDetails, given: Any, root: type[Table]) -> str:
    """Return what is wrong, and what would be right."""
    kind, context = one["type"], one.get("ctx", {})
    if kind == "extra_forbidden":
        return "no such setting" + did_you_mean(
            str(one["loc"][-1]), _known_settings(one["loc"][:-1], given, root)
        )
    if kind == "union_tag_invalid":
        known = [word.strip("' ") for word in str(context["expected_tags"]).split(",")]
        return f"no kind {short(context['tag'])}; known: {', '.join(known)}" + did_you_mean(
            str(context["tag"]), known
        )
    if kind == "union_tag_not_found":
        return 'needs a kind, such as { kind = "..." }; `cosim parts` lists them'
    if kind == "too_short":
        return f"must have at least {context['min_length']} entry, got {short(one['input'])}"
    if kind == "missing":
        return "must be given"
    if kind == "value_error":
        return str(context["error"])
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"must be a table, got {short(one['input'])}"
    if kind in ("tuple_type", "list_type"):
        return f"must be a list, got {short(one['input'])}"
    if kind == "path_type":
        return f"must be a path, written as a text, got {short(one['input'])}"
    return f"{one['msg'].removeprefix('Input ')}, got {short(one['input'])}"


def _known_settings(loc: tuple[int | str, ...], given: Any, root: type[Table]) -> list[str]:
    """Return the settings of the table at a place, following kinds."""
    table: type[Table] | None = root
    field: FieldInfo | None = None
    for step in loc:
        if isinstance(given, Mapping) and step in given:
            field = field_of(table, field, str(step))
        elif not isinstance(given, Sequence) or not isinstance(step, int):
            continue  # pydantic's own, such as a kind
        given = given[step]
        table = table_of(field, given)
        if table is None and field is not None and base_of(field) is None:
            table = next(tables_in(field.annotation), None)
    return list(table.model_fields) if table is not None else []
