"""Files are written whole or not at all, under names nobody has, and never over what nobody meant."""

import ast
import errno
import os
from pathlib import Path

import pytest
import tomli_w

from cosim.cli import answer
from cosim.errors import RecordError
from cosim.files import check_outputs, replacing, temporary_beside, write_output, write_whole
from cosim.scenario.load import to_dict

PACKAGE = Path(__file__).parent.parent.parent / "cosim"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_beside_under_a_hidden_name_is_left_as_it_is(tmp_path):
    (tmp_path / ".page.html").write_text("mine")
    (tmp_path / "page.html").write_text("old")
    write_output(tmp_path / "page.html", b"new", force=True)
    assert (tmp_path / ".page.html").read_text() == "mine"
    assert (tmp_path / "page.html").read_text() == "new"
    assert names(tmp_path) == [".page.html", "page.html"]


def test_a_link_is_never_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to("mine")
    with pytest.raises(RecordError, match="is a link or a device; name a plain file"):
        write_output(tmp_path / "link", b"new", force=True)
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "link").read_text() == "new"


@pytest.mark.parametrize("at", ["write", "end"])
def test_what_fails_leaves_the_file_as_it_was_and_nothing_beside(at, tmp_path, monkeypatch):
    file = tmp_path / "x"
    file.write_text("old")
    if at == "end":
        monkeypatch.setattr("cosim.files.os.replace", full)

    def write():
        with replacing(file) as written:
            written.write(b"half")
            if at == "write":
                full()

    with pytest.raises(OSError, match="No space"):
        write()
    assert file.read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_a_name_as_long_as_can_be_is_written(tmp_path):
    file = tmp_path / ("x" * 255)
    write_output(file, b"new", force=False)
    assert file.read_bytes() == b"new"
    assert temporary_beside(file) != temporary_beside(file)


def test_what_cannot_be_written_is_found_before_any_work(tmp_path):
    there = tmp_path / "there"
    there.write_text("old")
    for paths, force, told in (
        ([there], False, "exists already; name another file, or replace it with --force"),
        ([tmp_path], True, "is a folder; name a file"),
        ([tmp_path / "a", None, tmp_path / "." / "a"], False, "is given twice as a file to write"),
        ([tmp_path / "gone" / "a"], False, "cannot be written: No such file or directory"),
    ):
        with pytest.raises(RecordError, match=told):
            check_outputs(paths, force=force)
    check_outputs([there, None, tmp_path / "a"], force=True)
    assert names(tmp_path) == ["there"]


def full(*_arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, tiny_scenario):
    place = tmp_path_factory.mktemp("outputs")
    file = place / "tiny.toml"
    file.write_text(tomli_w.dumps(to_dict(tiny_scenario({"scheme.num_rounds": 1}))), encoding="utf-8")
    assert answer(["run", str(file), "--timing-only", "--out", str(place / "run")]) == 0
    return place / "run"


OUTPUTS = {
    **{
        f"timeline {name}": ["timeline", "RUN", f"--{name}", "FILE"]
        for name in ("png", "pdf", "html", "perfetto")
    },
    **{f"compare {name}": ["compare", "RUN", "RUN", f"--{name}", "FILE"] for name in ("png", "html")},
    "calibrate": ["calibrate", "SCENARIO", "--out", "FILE"],
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_every_output_of_every_command_is_safe(case, run_folder, tmp_path, capsys, monkeypatch):
    """A file that is there, a link, one path given twice, a full disk: one line, and all is as it was."""

    def refused(told, *options):
        words = {"RUN": str(run_folder), "SCENARIO": str(run_folder / "scenario.toml"), "FILE": str(target)}
        assert answer([words.get(word, word) for word in OUTPUTS[case]] + list(options)) == 2
        *_, line = capsys.readouterr().err.splitlines()
        assert told in line
        assert names(tmp_path) == before

    def never(*_arguments, **_options):
        raise AssertionError("a training began before it was known whether its table can be written")

    monkeypatch.setattr("cosim.cli.calibration.calibrate", never)
    ending = case.partition(" ")[2] or "json"
    target = tmp_path / f"out.{ending}"
    target.write_text("old")
    (tmp_path / f"link.{ending}").symlink_to(target.name)
    before = names(tmp_path)
    refused("exists already; name another file, or replace it with --force")
    target = tmp_path / f"link.{ending}"
    refused("is a link or a device; name a plain file", "--force")
    assert (tmp_path / f"out.{ending}").read_text() == "old"
    if case != "calibrate":
        target = tmp_path / f"new.{ending}"
        refused("is given twice as a file to write", "--png" if "html" in case else "--html", str(target))
        target = tmp_path / f"out.{ending}"
        monkeypatch.setattr("cosim.files.os.fsync", full)
        refused("cannot be written: No space left on device", "--force")
        assert target.read_text() == "old"


WRITE = {"write_text", "write_bytes", "savefig", "write_table", "save_file", "save_model", "save_pretrained"}
WRITING_MODES = {"w", "wb", "a", "ab", "x", "xb", "r+b", "w+b"}
MAY_WRITE = {
    "files.py",
    *(
        "record/digests.py",
        "record/fingerprints.py",
        "record/folder.py",
        "report/gantt.py",
        "report/publication.py",
        "report/short_views.py",
    ),  # to memory
    "learning/embedded/pretrain.py",  # what makes the model that comes along
    "cli/exporting.py",  # to memory
    "cli/fetching.py",  # a whole model to a folder that was found empty
    "studies/engines/processes.py",  # appends to the log of a study's workers
}


def test_nobody_else_writes_files():
    """A guard: what writes a file goes through `cosim.files`, or is on the list and was looked at."""
    found = set()
    for file in set(PACKAGE.rglob("*.py")) - set((PACKAGE / "testing").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _writes(node):
                found.add(file.relative_to(PACKAGE).as_posix())
    assert found <= MAY_WRITE, found - MAY_WRITE


def _writes(call):
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = [
        one.value for one in (*call.args, *(k.value for k in call.keywords)) if isinstance(one, ast.Constant)
    ]
    return name in WRITE or (name == "open" and any(one in WRITING_MODES for one in given))
