"""A part of another package that is broken, or claims a kind that is taken, is named; all else goes on."""

import subprocess
import sys
import textwrap

import pytest

from cosim import parts

FINE = """
    import sys
    from typing import Literal
    from cosim.radio.fading import Fading

    class Steady(Fading):
        '''As steady as a table.'''

        kind: Literal["steady"] = "steady"
        level: float = 1.0

        @property
        def block_ns(self):
            return None

        def draw(self, stream, first_block, count, num_subchannels):
            raise ZeroDivisionError("a level of nothing")
"""
MODULES = {
    "fine": FINE,
    "raises": FINE.replace("steady", "loud") + "\n    raise OSError('no licence')\n",
    "exits": "import sys\nsys.exit(3)\n",
    "garbled": "def (:\n",
    "taken": FINE.replace('"steady"', '"rician"'),
    "twice": FINE.replace('"steady"', '"double"').replace("Steady", "One"),
    "twice_again": FINE.replace('"steady"', '"double"').replace("Steady", "Two"),
    "kindless": FINE.replace('kind: Literal["steady"] = "steady"', 'kind: str = "steady"'),
    "untyped": FINE.replace('"steady"', '"untyped"').replace("level: float = 1.0", "level: type(sys)"),
}
CLASSES = {"twice": "One", "twice_again": "Two"}
LEFT_OUT = {
    "raises": "raises.py, line 19) is left out: does not load: OSError: no licence",
    "gone": "(entry point gone:Steady) is left out: does not load: ModuleNotFoundError: ",
    "exits": "exits.py, line 2) is left out: does not load: SystemExit: 3",
    "garbled": "garbled.py, line 1) is left out: does not load: SyntaxError: ",
    "taken": "taken.py) is left out: its kind 'rician' is already that of a part of cosim",
    "twice": "twice.py) is left out: its kind 'double' is already that of part 'twice_again' of",
    "twice_again": "twice_again.py) is left out: its kind 'double' is already that of part 'twice' of",
    "kindless": "kindless.py) is left out: has no kind; it needs a field such as",
    "untyped": "untyped.py) is left out: its settings cannot be read: PydanticSchemaGenerationError: ",
}
PROGRAM = """
import io, os, sys
from contextlib import redirect_stderr, redirect_stdout
sys.path.insert(0, {site!r})
from cosim.cli import answer
for command in {commands!r}:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = answer(command)
    print(repr((status, out.getvalue(), err.getvalue())))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a folder of packages, as pip would leave it, with a part each."""
    site = tmp_path_factory.mktemp("site")
    info = site / "oddparts-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: oddparts\nVersion: 1.2\n")
    names = [*MODULES, "gone"]
    entries = [f"{name} = {name}:{CLASSES.get(name, 'Steady')}" for name in names]
    (info / "entry_points.txt").write_text("[cosim.parts]\n" + "\n".join(entries) + "\n")
    for name, source in MODULES.items():
        (site / f"{name}.py").write_text(textwrap.dedent(source))
    return site


@pytest.fixture(scope="module")
def told(site, tmp_path_factory):
    """Return what commands answer where broken parts are installed, one process for all of them."""
    file = tmp_path_factory.mktemp("scenario") / "plain.toml"
    file.write_text(
        "scheme = { kind = 'split_federated', num_rounds = 1 }\n"
        "data = { source = { kind = 'embedded', num_train = 40 } }\n"
    )
    out = str(file.parent / "run")
    commands = {
        "parts": ["parts"],
        "help": ["--help"],
        "check": ["check", str(file)],
        "run": ["run", str(file), "--timing-only", "--out", out],
        "used": ["check", str(file), "--set", "radio.fading={kind='steady'}"],
        "broken": ["check", str(file), "--set", "radio.fading.kind=loud"],
        "schema": ["schema"],
    }
    program = PROGRAM.format(site=str(site), commands=list(commands.values()))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    answers = [eval(line) for line in done.stdout.splitlines()]
    return dict(zip(commands, answers, strict=True)), done.stderr


def test_commands_that_use_no_broken_part_go_on(told):
    answers, raw = told
    assert {name: answers[name][0] for name in ("parts", "help", "check", "run", "schema")} == dict.fromkeys(
        ("parts", "help", "check", "run", "schema"), 0
    )
    assert raw == ""
    assert "\n  steady " in answers["parts"][1]
    assert "\n  loud " not in answers["parts"][1]


def test_each_broken_part_is_one_line_with_package_part_and_file(told):
    lines = told[0]["parts"][2].splitlines()
    for name, expected in LEFT_OUT.items():
        (line,) = [
            one for one in lines if f"part '{name}' of package oddparts 1.2 (" in one.partition(" is left")[0]
        ]
        assert line.startswith("warning: part ")
        assert expected in line
    assert len(lines) == len(LEFT_OUT)


def test_a_part_that_raises_while_it_is_used_is_named(told):
    status, _, err = told[0]["used"]
    assert status == 2
    assert "part 'fine' of package oddparts 1.2 (" in err
    assert "fine.py, line 17) raised ZeroDivisionError: a level of nothing" in err


def test_the_kind_of_a_broken_part_is_not_known(told):
    status, _, err = told[0]["broken"]
    assert status == 2
    assert "radio.fading: no kind 'loud'; known: " in err
    assert "steady" in err


def test_parts_are_looked_for_wherever_distributions_may_be(tmp_path):
    for name, text in (("old.egg-info", "[cosim.parts]\nmine = mine:Mine\n"), ("other.dist-info", "[x]\n")):
        (tmp_path / name / name).mkdir(parents=True)
        (tmp_path / name / name / "entry_points.txt").write_text(text)
    (tmp_path / "archive.zip").write_bytes(b"")
    places = ("old.egg-info", "other.dist-info", "archive.zip", "nowhere")
    assert [parts._may_name_parts(str(tmp_path / one)) for one in places] == [True, False, True, False]
