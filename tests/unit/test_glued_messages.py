"""Messages put together from pieces: a space between words is easily lost where one literal ends."""

import io
import re
import tokenize
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from cosim.parts import Table
from cosim.scenario.faults import faults

PACKAGE = Path(__file__).parents[2] / "cosim"
_QUOTES = re.compile(r"[a-zA-Z]*(?:'''|\"\"\"|'|\")")


def glued(source):
    """Return the line of each place where two literals that follow each other join two words."""
    lines = source.splitlines()
    found, before = [], None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        if name in ("NL", "COMMENT"):
            continue
        if name in ("STRING", "FSTRING_START"):
            opening = _QUOTES.match(token.string)[0]
            raw = "r" in opening.lower() or "b" in opening.lower()
            first = lines[token.start[0] - 1][token.start[1] + len(opening) :][:1]
            if before is not None and not raw and joins(before, first):
                found.append(token.start[0])
        if name == "FSTRING_MIDDLE":
            continue
        is_end = name in ("STRING", "FSTRING_END")
        before = lines[token.end[0] - 1][: token.end[1]].rstrip("\"'")[-1:] if is_end else None
    return found


def joins(last, first):
    return bool(re.match(r"[\w,;:.)%}'`]", last) and re.match(r"[\w{`(]", first))


def test_no_two_words_of_a_message_are_glued_together():
    places = [
        f"{file.relative_to(PACKAGE)}:{line}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for line in glued(file.read_text(encoding="utf-8"))
    ]
    assert places == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('x = ("it should"\n"is so")', [2]),
        ('x = ("it should "\n"is so", "a", "b")', []),
        ('x = (f"{a},"\nf"{b} c")', [2]),
        ('x = (f"{a[\'b\']}" "\\n")', []),
    ],
)
def test_a_lost_space_is_found(source, lines):
    assert glued(source) == lines


class EveryType(Table):
    path: Path = Path()
    whole: int = 1
    number: float = 1.0
    flag: bool = True
    text: str = ""
    numbers: tuple[int, ...] = ()
    pair: tuple[int, str] = (1, "")
    table: dict[str, int] = Field(default={})
    choice: Literal["a", "b"] = "a"


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(EveryType.model_fields)),
    st.sampled_from(
        (1, 1.5, "x", True, None, [], [1, "a", None], {}, {"a": "b"}, float("nan"), b"x", 10**400)
    ),
)
def test_what_pydantic_says_comes_out_in_words(name, value):
    try:
        EveryType(**{name: value})
    except ValidationError as error:
        for line in faults(error, {name: value}, EveryType):
            assert re.match(
                r"[\w.]+: (must be |must have |should be |should have |String |[A-Z]\w+ should )", line
            ), line
            assert "class '" not in line


def test_a_path_that_is_no_text_is_told_as_that():
    with pytest.raises(ValidationError) as found:
        EveryType(path=3)
    assert faults(found.value, {"path": 3}, EveryType) == ["path: must be a path, written as a text, got 3"]
