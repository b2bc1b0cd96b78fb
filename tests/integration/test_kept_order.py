"""The order of a run's spans is recalled for the very code that found it."""

import os

import numpy as np
import pytest

from cosim.errors import ScenarioError
from cosim.record.folder import Record
from cosim.runs import run
from cosim.tensor import order
from cosim.tensor.clock import TensorClock
from cosim.tensor.order import kept_order

LONG_AGO_NS = 10**18


@pytest.fixture
def code(tmp_path, monkeypatch):
    """Return a file that is all code there is, from before this process."""
    package = tmp_path / "package" / "radio"
    package.mkdir(parents=True)
    (package / "air.py").write_text("1")
    os.utime(package / "air.py", ns=(LONG_AGO_NS, LONG_AGO_NS))
    monkeypatch.setattr(order, "_PACKAGE", package.parent)
    monkeypatch.setattr(order, "_LOADED_NS", 1 << 62)
    order._code.cache_clear()
    yield package / "air.py"
    order._code.cache_clear()


@pytest.fixture
def ask(tiny_scenario, tmp_path):
    """Return what asks for the order of a run, and says whether it had to be found."""
    scenario = tiny_scenario({"scheme.num_rounds": 1})
    record = Record.open(run(scenario, tmp_path / "run", timing_only=True))
    clock = TensorClock(scenario)

    def asked(parts=()):
        order._code.cache_clear()  # as in another process
        found = []
        answer = kept_order(record, parts, lambda: found.append(1) or clock.order)
        assert np.array_equal(answer.program.end_ns, clock.program.end_ns)
        return bool(found)

    return asked


def test_it_is_found_once_and_again_by_other_code(ask, code):
    assert ask()
    assert not ask()
    assert ask(parts=[{"class": "other.Scheme", "code": "ab"}])
    os.utime(code, ns=(LONG_AGO_NS, LONG_AGO_NS + 1))
    assert ask()
    (code.parent / "more.py").write_text("2")
    assert ask()
    assert not ask()


def test_it_is_found_each_time_where_code_has_changed_since_it_was_loaded_or_cannot_be_seen(
    ask, code, monkeypatch
):
    monkeypatch.setattr(order, "_LOADED_NS", LONG_AGO_NS)
    assert ask()
    assert ask()
    monkeypatch.setattr(order, "_PACKAGE", code / "none")
    assert ask()
    assert ask()


def test_that_there_is_none_is_found_once(code, tiny_scenario, tmp_path):
    record = Record.open(run(tiny_scenario(), tmp_path / "other", timing_only=True))
    asked = []

    def refuse():
        asked.append(1)
        raise ScenarioError("no")

    for _ in range(2):
        with pytest.raises(ScenarioError, match="no"):
            kept_order(record, (), refuse)
    assert asked == [1]
