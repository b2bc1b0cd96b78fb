"""Files and changes that Hypothesis draws from the JSON Schema: valid, nearly valid and odd ones.

What is drawn begins with a tiny file that works. A few places of it are given values by
their schema, most of them right and small, some at or beyond their limits, some of
another type. `tried` passes one command to the command line and counts its work in calls
of functions, which are the same on every machine.
"""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import FrameType
from typing import Any

import tomli_w
from hypothesis import strategies as st

from cosim.cli import answer

Schema = dict[str, Any]


class Root(dict[str, Any]):
    """A whole schema, shown in short: Hypothesis shows what a fault was drawn from."""

    def __repr__(self) -> str:
        return f"the schema of a {self.get('title')}"


ODD_NUMBERS = (0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64, 10**30, 1e-300, 1e300, -0.0, 0.5)
ODD_TEXTS = (
    *("", " ", "none", "1e9", "nan", "0", "a" * 300, "\x1b[31mred", "\u202egnp", "[red]", "$x^2$", "a\nb"),
    *("\u8a9e", "\U0001f600", "../..", "/", "~nobody/x", "NUL\0", "<script>", "kind", "\u00b2"),
)
ODD = (
    *ODD_NUMBERS,
    *ODD_TEXTS,
    *(True, False, float("inf"), float("nan"), date(2024, 2, 29), datetime(2024, 2, 29, tzinfo=UTC)),
    *([], {}, [[]], [{}], {"kind": "none"}, {"kind": 1}, {"": 0}, [1, "a"], {"low": 0, "high": 1}),
)
PATHS = ("gone.csv", ".", "base.toml", "texts.csv", "/dev/null", "", "a" * 300, "gone/gone.json")


def _one_in(draw: st.DrawFn, number: int) -> bool:
    return draw(st.integers(0, number - 1)) == number - 1


class Drawing:
    """Draws values that a schema describes."""

    def __init__(self, schema: Schema) -> None:
        self.root = schema
        self._defs = schema["$defs"]

    def value(self, draw: st.DrawFn, schema: Schema, oddness: int = 12) -> Any:
        """Return a value of a schema, or, once in ``oddness`` times, anything."""
        if _one_in(draw, oddness):
            return deepcopy(draw(st.sampled_from(ODD)))
        branches = self.branches(schema)
        if not branches:
            return draw(st.sampled_from((1, 0.5, "x")))
        chosen = draw(st.sampled_from(branches))
        if "const" in chosen:
            return chosen["const"]
        if "enum" in chosen:
            return draw(st.sampled_from(chosen["enum"]))
        make: dict[str, Callable[[st.DrawFn, Schema], Any]] = {
            "object": self._table,
            "array": self._list,
            "integer": _integer,
            "number": _number,
            "string": _text,
            "boolean": lambda draw, _: draw(st.booleans()),
        }
        kind = chosen.get("type")
        return make[kind](draw, chosen) if kind in make else draw(st.sampled_from((1, 0.5, "x")))

    def branches(self, schema: Schema) -> list[Schema]:
        """Return what a schema may be, references followed; null, which TOML lacks, is left out."""
        if "$ref" in schema:
            return self.branches(self._defs[schema["$ref"].rpartition("/")[2]])
        for union in ("anyOf", "oneOf"):
            if union in schema:
                return [one for inner in schema[union] for one in self.branches(inner)]
        return [] if schema.get("type") == "null" or not schema else [schema]

    def table_of(self, schema: Schema, given: Any) -> Schema | None:
        """Return the schema of a table that is there, by its kind; None where it is no table."""
        tables = [one for one in self.branches(schema) if one.get("properties")]
        if not isinstance(given, dict) or not tables:
            return None
        kinds = {one["properties"].get("kind", {}).get("const"): one for one in tables}
        kind = given.get("kind")
        return kinds.get(kind if isinstance(kind, str) else None, tables[0])

    def place(self, draw: st.DrawFn, given: dict[str, Any]) -> tuple[tuple[str, ...], Schema]:
        """Return a place in a file, the deeper ones more often, and its schema."""
        schema, here, steps = self.root, given, ()
        while True:
            name = draw(st.sampled_from(sorted(schema["properties"])))
            steps, inner = (*steps, name), schema["properties"][name]
            here = here.get(name)
            table = self.table_of(inner, here)
            if table is None or _one_in(draw, 6):
                return steps, inner
            schema = table

    def _table(self, draw: st.DrawFn, schema: Schema) -> dict[str, Any]:
        required = set(schema.get("required", ()))
        made = {
            name: self.value(draw, inner, oddness=40)
            for name, inner in schema.get("properties", {}).items()
            if name == "kind" or name in required or _one_in(draw, 4)
        }
        if "additionalProperties" in schema and isinstance(schema["additionalProperties"], dict):
            for name in draw(st.lists(st.sampled_from(SET_PATHS), max_size=2, unique=True)):
                made[name] = self.value(draw, schema["additionalProperties"])
        if _one_in(draw, 30):
            made[draw(st.sampled_from(("colour", "knd", "", "a.b")))] = 1
        return made

    def _list(self, draw: st.DrawFn, schema: Schema) -> list[Any]:
        if "prefixItems" in schema:
            return [self.value(draw, one) for one in schema["prefixItems"]]
        least = schema.get("minItems", 0)
        count = draw(st.integers(max(least - _one_in(draw, 20), 0), max(least, 3)))
        return [self.value(draw, schema.get("items", {})) for _ in range(count)]


SET_PATHS = (
    *("radio.noise_figure_db", "radio.fading", "radio.fading.kind", "allocator.kind", "radio.main_uplink"),
    *("clients.max_tx_power_dbm", "clients.count", "lora.rank", "scheme.kind", "seed", "name", "x.y.z"),
    *(
        "radio.main_uplink.bandwidth_hz",
        "scheme.num_rounds",
        "clients.0.count",
        "radio",
        "",
        "adapter_upload",
    ),
)


def _ends(schema: Schema) -> list[Any]:
    """Return the limits of a number, and what lies just beyond them."""
    known = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    return [schema[name] + by for name in known if name in schema for by in (-1, 0, 1)]


def _integer(draw: st.DrawFn, schema: Schema) -> Any:
    least = max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1) + 1)
    if _one_in(draw, 8):
        return draw(st.sampled_from([int(one) for one in _ends(schema)] or [-1, 0, 1, 2**20]))
    return draw(st.integers(int(least), int(least) + 4))


def _number(draw: st.DrawFn, schema: Schema) -> Any:
    if _one_in(draw, 8):
        return draw(st.sampled_from([*_ends(schema), 1e-9, 1e9, 1e30, -300.0]))
    low = max(schema.get("minimum", 0.0), schema.get("exclusiveMinimum", 0.0))
    high = min(schema.get("maximum", 1e9), schema.get("exclusiveMaximum", 1e9))
    share = draw(st.floats(0.0, 1.0, width=16))
    if high - low > 1e3:
        return float(f"{low + 1e-3 * (high / 1e-3) ** share:.6g}")
    return low + share * (high - low)


def _text(draw: st.DrawFn, schema: Schema) -> str:
    if schema.get("format") == "path":
        return draw(st.sampled_from(PATHS))
    plain = ("x", "text", "label", "iid", "equal", "all-linear", "c_attn", "total_s", "eval_loss")
    return draw(st.sampled_from((*plain, *schema.get("examples", ()), *ODD_TEXTS[:8])))


@st.composite
def files(draw: st.DrawFn, schema: Schema, base: dict[str, Any]) -> str:
    """Return the text of a file: the base with a few places changed, now and then with a slip in the text."""
    drawing, given = Drawing(schema), deepcopy(base)
    for _ in range(draw(st.integers(0, 4))):
        steps, inner = drawing.place(draw, given)
        here = given
        for step in steps[:-1]:
            here = here[step]
        if _one_in(draw, 10):
            here.pop(steps[-1], None)
        else:
            here[steps[-1]] = drawing.value(draw, inner)
        if _one_in(draw, 30):
            here[draw(st.sampled_from(("knd", "seeds", "x", "")))] = deepcopy(draw(st.sampled_from(ODD)))
    return _slipped(draw, tomli_w.dumps(given))


def _slipped(draw: st.DrawFn, text: str) -> str:
    if not _one_in(draw, 15):
        return text
    at = draw(st.integers(0, len(text)))
    slips = ("\ufeff" + text, text[:at], text[:at] + '"' + text[at:], text + "x = " + "[" * 2000, text * 2)
    return draw(st.sampled_from((*slips, text + "y = " + "9" * 5000, text[:at] + "\0" + text[at:])))


@st.composite
def changes(draw: st.DrawFn, schema: Schema, base: dict[str, Any]) -> str:
    """Return the text of one ``--set``."""
    drawing = Drawing(schema)
    steps, inner = drawing.place(draw, base)
    path = ".".join(steps)
    if _one_in(draw, 8):
        path = draw(
            st.sampled_from((f"{path}.x", f"{path}.0", path[1:], f" {path} ", f"{path}..", "clients.0"))
        )
    if _one_in(draw, 12):
        return draw(
            st.sampled_from((path, f"{path}=", "=1", f"{path}==", f"{path}=[1", f"{path}=" + "9" * 5000))
        )
    value = drawing.value(draw, inner)
    if isinstance(value, str) and draw(st.booleans()):
        return f"{path}={value}"
    text = tomli_w.dumps({"v": [value]}).partition("=")[2].strip()
    return f"{path}=" + " ".join(text.split("\n")).strip().removeprefix("[").removesuffix("]").strip().rstrip(
        ","
    )


@dataclass(frozen=True)
class Tried:
    """What a command came to; ``status`` is None where it was stopped for its work."""

    status: int | None
    out: str
    err: str


class BeyondCapError(BaseException):
    """A command has done more work than it may; nothing in it may catch this."""


def tried(arguments: Sequence[str], most_calls: int) -> Tried:
    """Return what a command says, stopped after so many calls of functions."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            with _at_most(most_calls):
                status = answer(arguments)
        except BeyondCapError as beyond:
            return Tried(None, out.getvalue(), f"stopped in {beyond}")
    return Tried(status, out.getvalue(), err.getvalue())


@contextmanager
def _at_most(most_calls: int) -> Iterator[None]:
    count = 0

    def count_one(frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal count
        if event == "call":
            count += 1
            if count > most_calls:
                sys.setprofile(None)
                raise BeyondCapError(_function_of(frame))

    before = sys.getprofile()
    sys.setprofile(count_one)
    try:
        yield
    finally:
        sys.setprofile(before)


def _function_of(frame: FrameType | None) -> str:
    """Return the function of cosim that a frame was called from."""
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("cosim."):
        frame = frame.f_back
    return (
        "no function of cosim" if frame is None else f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"
    )


def fault_of(found: Tried) -> str:
    """Return why a command did not end as it must, or nothing.

    It must do what it was told, or say in a line or more of plain text what is wrong with it.
    """
    shown = found.out + found.err
    if found.status is None:
        return f"more work than a check may do, {found.err}"
    if found.status not in (0, 2):
        return f"exit status {found.status}: {found.err}"
    if "Traceback" in shown or "this should not happen" in shown:
        return f"an internal fault: {shown}"
    if found.status == 2 and not found.err.strip():
        return "a fault without a word"
    return next((f"{letter!r} on the terminal" for letter in shown if letter in "\x1b\0\u202e"), "")
