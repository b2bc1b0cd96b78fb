"""Every file and every change drawn from the schema is checked, or refused in plain words."""

import gc
import os
import re
from zlib import crc32

import pytest
import tomli_w
from fuzz import Root, changes, fault_of, files, tried
from hypothesis import HealthCheck, given, settings

from cosim.scenario.catalogue import json_schema
from cosim.scenario.load import to_dict
from cosim.studies.settings import Study

MOST_CALLS = 3_000_000
"""Calls of functions in a check; that of the tiny scenario makes 24 thousand."""

MOST_CALLS_OF_A_RUN = 500_000
MOST_SPANS = 300
SCENARIO, STUDY = Root(json_schema()), Root(json_schema(Study, "cosim study"))
BASE_STUDY = {
    "base": "base.toml",
    "replications": 2,
    "timing_only": True,
    "measures": ["total_s"],
    "set": {"scheme.num_rounds": 1},
    "vary": {"grid": {"radio.noise_figure_db": [5.0, 9.0], "allocator.kind": ["equal", "time_shared"]}},
}


def fuzzed(max_examples):
    return settings(max_examples=max_examples, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def base(tiny_scenario):
    """Return the tiny scenario as a file has it, of one round."""
    return to_dict(tiny_scenario({"scheme.num_rounds": 1}))


@pytest.fixture(scope="module")
def folder(base, tmp_path_factory):
    """Return a folder with the base and texts, the current one meanwhile."""
    folder, before = tmp_path_factory.mktemp("fuzz"), os.getcwd()
    (folder / "base.toml").write_text(tomli_w.dumps(base), encoding="utf-8")
    (folder / "texts.csv").write_text("text,label\n" + "a b c,x\nd e f,y\n" * 30, encoding="utf-8")
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(autouse=True)
def _process_as_before(monkeypatch):
    """Undo what quick commands do to the process they live in."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    yield
    gc.enable()


def check_file(folder, text, play_one_in=1):
    """Check a file; some that are fine and small are played without a tensor, as far as that is short."""
    file = folder / "drawn.toml"
    file.write_bytes(text.encode("utf-8"))
    checked = tried(["check", str(file)], MOST_CALLS)
    gc.enable()
    assert not fault_of(checked), f"{fault_of(checked)}\n{text}"
    spans = re.search(r"([\d\s]+) spans;", checked.out)
    if checked.status or spans is None or int("".join(spans[1].split())) > MOST_SPANS:
        return
    if crc32(text.encode("utf-8")) % play_one_in:
        return
    out = folder / f"run {len(os.listdir(folder))}"
    played = tried(["run", str(file), "--timing-only", "--out", str(out)], MOST_CALLS_OF_A_RUN)
    assert played.status is None or not fault_of(played), f"{fault_of(played)}\n{text}"


def check_change(folder, change):
    checked = tried(["check", str(folder / "base.toml"), "--set", change], MOST_CALLS)
    gc.enable()
    assert not fault_of(checked), f"{fault_of(checked)}\n--set {change}"


def given_of(strategy, max_examples, tried_on):
    """Return a test that tries what is drawn."""

    @fuzzed(max_examples)
    @given(strategy)
    def every_one(drawn):
        tried_on(drawn)

    return every_one


FEW_OR_MANY = pytest.mark.parametrize(
    ("times", "play_one_in"),
    [pytest.param(1, 10, id="few"), pytest.param(50, 1, id="many", marks=pytest.mark.slow)],
)


@FEW_OR_MANY
def test_a_drawn_scenario_is_checked_or_refused(times, play_one_in, base, folder):
    given_of(files(SCENARIO, base), 50 * times, lambda text: check_file(folder, text, play_one_in))()


@FEW_OR_MANY
def test_a_drawn_study_is_checked_or_refused(times, play_one_in, folder):
    given_of(files(STUDY, BASE_STUDY), 10 * times, lambda text: check_file(folder, text, play_one_in))()


@FEW_OR_MANY
def test_a_drawn_change_is_checked_or_refused(times, play_one_in, base, folder):
    given_of(changes(SCENARIO, base), 20 * times, lambda change: check_change(folder, change))()
