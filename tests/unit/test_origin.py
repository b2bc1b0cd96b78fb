"""What a manifest says of the code that made it."""

import os
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Literal

import pytest

from cosim import origin
from cosim.distribution import NAME, own_version
from cosim.graph.code_identity import distributions_of
from cosim.learning.optimizer.adamw import AdamW
from cosim.origin import EDITED, commit, foreign_parts
from cosim.parts import Part

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


def git(place, *words):
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "init.defaultBranch=x")
    command = ["git", *who, "-C", str(place), *words]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | own)
    return answer.stdout.strip()


def committed(place):
    git(place, "init")
    git(place, "add", ".")
    git(place, "commit", "--message", "x")
    return git(place, "rev-parse", "HEAD")


def write_package(place, project):
    """Write a checkout with a package of the name cosim, and return the package."""
    (place / "cosim").mkdir(parents=True)
    (place / "cosim" / "__init__.py").write_text("VALUE = 1\n")
    (place / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
    return place / "cosim"


@pytest.fixture(autouse=True)
def _asked_afresh():
    commit.cache_clear()
    yield
    commit.cache_clear()


def test_the_distribution_has_one_name():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["name"] == NAME == distributions_of("cosim")[0][0]
    assert own_version() == metadata.version(NAME)


@needs_git
def test_a_checkout_has_its_commit_and_a_mark_where_the_code_was_edited(tmp_path):
    package = write_package(tmp_path, NAME)
    at = committed(tmp_path)
    assert commit(package) == at
    for file, text, is_edited in (
        (tmp_path / "notes.txt", "not of the package", False),
        (package / "another.py", "VALUE = 2\n", True),
        (package / "__init__.py", "VALUE = 3\n", True),
    ):
        before = file.read_text() if file.exists() else None
        file.write_text(text)
        commit.cache_clear()
        assert commit(package) == at + (EDITED if is_edited else "")
        file.unlink() if before is None else file.write_text(before)


@needs_git
@pytest.mark.parametrize("place", ["vendor", ".venv/lib/python3.12/site-packages", "."])
def test_the_repository_around_an_installed_cosim_is_not_asked(tmp_path, place):
    package = write_package(tmp_path / place, NAME if place == "vendor" else "another")
    assert committed(tmp_path)
    assert commit(package) is None


@needs_git
def test_a_hook_of_another_repository_does_not_lend_its_commit(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    other = committed(tmp_path / "other")
    package = write_package(tmp_path / "own", NAME)
    own = committed(tmp_path / "own")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    assert own != other
    assert commit(package) == own


@needs_git
def test_before_the_first_commit_there_is_none(tmp_path):
    package = write_package(tmp_path, NAME)
    git(tmp_path, "init")
    assert commit(package) is None


def test_without_git_there_is_no_commit_and_no_fault(tmp_path, monkeypatch):
    package = write_package(tmp_path, NAME)
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(package) is None


class Median(Part):
    """A part of somewhere else."""

    kind: Literal["median"] = "median"


def test_parts_from_elsewhere_are_named_with_their_package(monkeypatch):
    monkeypatch.setattr(origin, "distributions_of", lambda top: (("medians", "1.5"),))
    (found,) = foreign_parts([Median(), AdamW(), Median()])
    assert {**found, "code": ""} == {
        "kind": "median",
        "class": f"{__name__}.Median",
        "package": "medians",
        "version": "1.5",
        "code": "",
    }
    assert len(found["code"]) == 32
    assert foreign_parts([AdamW()]) == []


def test_a_class_of_no_package_is_named_all_the_same():
    (found,) = foreign_parts([Median()])
    assert (found["package"], found["version"]) == (None, None)


def test_a_manifest_says_where_all_of_it_comes_from(tiny_scenario):
    found = origin.origin([tiny_scenario()])
    assert found["parts"] == []
    assert found["versions"]["cosim"]
