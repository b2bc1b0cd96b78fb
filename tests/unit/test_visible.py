"""Names that others wrote reach a terminal as text, whatever is in them."""

import ast
import io
from pathlib import Path
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosim.report.terminal import PlainConsole, say, table_of
from cosim.visible import show_line, visible

CLI = Path(__file__).parents[2] / "cosim" / "cli"
ODD = "\x1b]0;title\x07 \x1b[31m \u202egnp \x9b1m [red]x[/red] :smile: \x08\r"


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left_and_all_else_stays(text):
    shown = visible(text)
    assert not {category(letter) for letter in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    if text.isprintable():
        assert shown == text or set(text) & set("\u061c")
    shown.encode("utf-8")


@given(st.text(), st.integers(0, 2))
def test_a_line_stays_one_line(text, between):
    file = io.StringIO()
    show_line(f"{text}{' ' * between}{text}", file=file)
    assert file.getvalue().count("\n") == 1


def test_rich_shows_names_letter_by_letter():
    file = io.StringIO()
    console = PlainConsole(file=file, width=200, force_terminal=True, color_system=None)
    say(console, ODD)
    table = table_of((ODD, "left"))
    table.add_row(ODD)
    console.print(table)
    console.print(ODD, style="bold")
    shown = file.getvalue()
    assert shown.count("[red]x[/red] :smile:") == 4
    assert shown.count(r"\x1b]0;title\x07") == 4
    assert not set(shown) & set("\x07\x08\r\x9b\u202e")
    assert "\x1b]" not in shown
    assert "\x1b[31m" not in shown


@pytest.mark.parametrize("file", sorted(CLI.glob("*.py")), ids=lambda file: file.stem)
def test_the_command_line_prints_by_what_makes_names_visible(file):
    """A bare ``print`` or a console of rich's own would show a name as it is."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {call.id for call in calls if isinstance(call, ast.Name)}
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "cosim.visible"
        for alias in node.names
    }
    assert "Console" not in names
    assert "print" not in names or imported & {"print", "visible"}
