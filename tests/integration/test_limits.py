"""What no TOML file or file system could hold is one line wherever it is given; a byte-order mark is read."""

import gc

import pytest
import tomli_w

from cosim.cli import answer
from cosim.scenario.limits import DEEPEST, unsayable
from cosim.scenario.load import to_dict

DEEP, LONG = 5_000, 5_000
STUDY = {"base": "base.toml", "timing_only": True, "vary": {"grid": {"lora.rank": [1, 2]}}}


@pytest.fixture(autouse=True)
def _process_as_before(monkeypatch):
    """Undo what quick commands do to the process they live in."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    yield
    gc.enable()


@pytest.fixture
def check(tmp_path, capsys, tiny_scenario):
    """Return what checks the base, or a text as a file, and hands back status and lines on stderr."""
    base = tmp_path / "base.toml"
    base.write_text(tomli_w.dumps(to_dict(tiny_scenario())), encoding="utf-8")

    def checked(text=None, *options):
        file = base if text is None else tmp_path / "other.toml"
        if text is not None:
            file.write_bytes(text.encode("utf-8"))
        status = answer(["check", str(file), *options])
        out, err = capsys.readouterr()
        assert "this should not happen" not in err
        assert status == 0 or not out
        return status, err.splitlines()

    return checked


def test_a_byte_order_mark_is_read(check, tiny_scenario):
    assert check("\ufeff" + tomli_w.dumps(to_dict(tiny_scenario()))) == (0, [])
    assert check("\ufeff" + tomli_w.dumps(STUDY)) == (0, [])


ODD_TOML = {
    "lists within lists": ("x = " + "[" * DEEP, f"is nested more than {DEEPEST} deep"),
    "tables within tables": (
        "[" + "a." * DEEP + "a]\nx = 1",
        f"a.a.a.a...: is nested more than {DEEPEST} deep",
    ),
    "an integer of thousands of digits": ("\n\nx = " + "9" * LONG, "a number in line 3 has more digits than"),
    "an integer beyond 64 bits": (
        "x = 9223372036854775808",
        "x: 9223372036854775808 is beyond what a file can hold",
    ),
    "a hexadecimal one of thousands of digits": (
        "x = 0x" + "f" * LONG,
        f"x: a number of {4 * LONG} bits is beyond",
    ),
    "a NUL in a text": ('x = ["a\\u0000b"]', "x.0: has a NUL character at place 2"),
    "a NUL in the name of a setting": (
        '[x]\n"a\\u0000b" = 1',
        "x: the name of a setting has a NUL character",
    ),
}


@pytest.mark.parametrize("case", ODD_TOML)
@pytest.mark.parametrize("head", ["", 'base = "base.toml"\n'], ids=["scenario", "study"])
def test_what_toml_cannot_say_is_one_line(case, head, check):
    text, expected = ODD_TOML[case]
    status, (line,) = check(head + text)
    assert status == 2
    assert expected.replace("line 3", f"line {3 + head.count(chr(10))}") in line
    assert len(line) < 400


ODD_CHANGES = {
    "lists within lists": ("x=" + "[" * DEEP, "--set x: is nested more than"),
    "a table with a deep path in it": (
        "x={" + "a." * DEEP + "a=1}",
        "--set: x.a.a.a...: is nested more than",
    ),
    "an integer of thousands of digits": (
        "seed=" + "9" * LONG,
        "--set seed: a number in line 1 has more digits",
    ),
    "an integer beyond 64 bits": ("seed=9223372036854775808", "--set: seed: 9223372036854775808 is beyond"),
    "a NUL in a text": ('name="a\\u0000b"', "--set: name: has a NUL character at place 2"),
    "a NUL in the argument": ("name=a\0b", r"cosim: 'name=a\x00b' has a NUL character"),
    "bytes that are no text": ("name=a\udcffb", "--set: name: has bytes that are no UTF-8 text"),
    "a name beyond what a folder can have": (
        "name=" + "ä" * 128,
        "--set: name: names a folder, so it has 255 bytes",
    ),
    "the home of nobody": (
        "data.source={kind='file', train_path='~nobody-of-that-name/x', test_fraction=0.5}",
        "--set: data.source.train_path: ~nobody-of-that-name/x: there is no such user's home",
    ),
    "a path with a name too long": (
        "data.source={kind='file', train_path='" + "a" * 256 + "', test_fraction=0.5}",
        "--set: data.source.train_path: aaaaaaaaaaaaaaaa... is a name of 256 bytes; a file system takes 255",
    ),
    "a path too long": (
        "model.base={kind='folder', path='" + "a/" * 2048 + "'}",
        "--set: model.base.path: is a path of",
    ),
    "a speed as a text": (
        "clients.clock_hz='1e9'",
        "clients.clock_hz: must be a number, or a distribution such as",
    ),
    "speeds as a list": (
        "clients.clock_hz=[1e9, 2e9]",
        'each client draws one by { kind = "choice", values = [...] }',
    ),
    "a path that is a number": (
        "model.base={kind='folder', path=3}",
        "must be a path, written as a text, got 3",
    ),
    "a batch that fits nowhere": (
        "training.batch_size=2147483648",
        "training.batch_size: should be less than or equal to 65536, got 2147483648",
    ),
    "a draw beyond all devices": (
        "main_server.clock_hz={kind='log_normal', median=1e9, sigma=1e5}",
        "main-server: clock_hz: 'log_normal' draws ",
    ),
}


@pytest.mark.parametrize("case", ODD_CHANGES)
def test_a_change_that_no_file_could_say_is_one_line(case, check):
    text, expected = ODD_CHANGES[case]
    status, (line,) = check(None, "--set", text)
    assert status == 2
    assert expected in line


@pytest.mark.parametrize("option", ["--out", "--store"])
def test_a_nul_in_an_option_is_one_line(option, tmp_path, capsys):
    assert answer(["run", str(tmp_path / "base.toml"), option, "a\0b"]) == 2
    assert capsys.readouterr().err.startswith("cosim: 'a\\x00b' has a NUL character")


def test_the_names_a_folder_can_have_are_taken(check):
    assert check(None, "--set", "name=" + "ä" * 127) == (0, [])


def test_nesting_is_counted_exactly():
    def nested(depth):
        value = 1
        for _ in range(depth):
            value = [value]
        return {"x": value}

    assert list(unsayable(nested(DEEPEST - 1))) == []
    assert len(list(unsayable(nested(DEEPEST)))) == 1
