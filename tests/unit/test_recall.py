"""A process reads what an earlier one found, and never anything else."""

import os

import pytest

from cosim.graph import recall
from cosim.graph.recall import recalled


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Return what asks as a process of its own does, for a value and whether it was found again."""
    monkeypatch.setenv("COSIM_STORE", str(tmp_path / "cache" / "store"))

    def asked(key, value):
        found = []
        return recalled(key, lambda: found.append(key) or value), bool(found)

    return asked


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "store.recalled"


def test_a_value_is_found_once_by_all_processes_and_again_under_another_key(ask):
    assert ask("ab", [1, 2]) == ([1, 2], True)
    assert ask("cd", {"a": 3}) == ({"a": 3}, True)
    assert ask("ab", None) == ([1, 2], False)
    assert ask("cd", None) == ({"a": 3}, False)
    assert ask("a", 5) == (5, True)


def test_no_change_of_a_file_makes_another_value(ask, folder):
    ask("ab", [1, 2])
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    for place in range(len(whole)):
        for changed in (whole[:place], whole[:place] + b"7" + whole[place + 1 :]):
            file.write_bytes(changed)
            assert ask("ab", [1, 2])[0] == [1, 2]
    ask("cd", [3])
    (other,) = set(folder.iterdir()) - {file}
    file.replace(other)
    assert ask("cd", [3]) == ([3], True)


def test_where_nothing_can_be_kept_all_is_found_every_time(ask, folder):
    folder.parent.write_text("no folder")
    assert [ask("ab", 1), ask("ab", 2)] == [(1, True), (2, True)]


def test_what_came_last_is_kept_and_nothing_large(ask, folder, monkeypatch):
    monkeypatch.setattr(recall, "_MOST_FILES", 3)
    for number, key in enumerate("abcde"):
        before = set(folder.glob("*"))
        ask(key, key)
        (new,) = set(folder.iterdir()) - before
        os.utime(new, (number, number))
    assert [ask(key, key)[1] for key in "cde"] == [False] * 3
    assert ask("a", "a") == ("a", True)
    assert len(list(folder.iterdir())) == 3
    monkeypatch.setattr(recall, "_MOST_BYTES", 3)
    assert [ask("g", "long"), ask("g", "long")] == [("long", True)] * 2
