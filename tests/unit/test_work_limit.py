"""A search ends by how much it did, never by a clock; the old limit in seconds is taken as work."""

import ast
from pathlib import Path

import pytest

import cosim
from cosim.control.allocators.exact import Exact
from cosim.control.proving.effort import Effort
from cosim.errors import ScenarioError
from cosim.scenario.load import change, load, to_dict
from cosim.scenario.settings import Scenario
from cosim.testing.strategies import random_cell

ALLOCATION = Path(cosim.__file__).parent / "control"


def test_no_allocator_asks_a_clock():
    clocks = {"time", "datetime", "timeit"}
    found = {
        file.name: name
        for file in ALLOCATION.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [*(alias.name for alias in node.names), getattr(node, "module", None)]
        if name in clocks
    }
    assert found == {}


@pytest.mark.parametrize(("num_subchannels", "limit"), [(12, 400), (24, 500)])
def test_a_limited_search_ends_at_the_same_decision_and_says_why(num_subchannels, limit):
    state = random_cell(3, 4, num_subchannels)
    search = Exact(cut_layers=(6,), lora_ranks=(4,), gap=1e-9, work_limit=limit)
    one, two = search.allocate(state), search.allocate(state)
    assert one.plan == two.plan
    assert one.plan.notes["stopped_by"] == "work_limit"
    assert one.plan.lower_bound_s <= one.plan.total_s
    longer = Exact(cut_layers=(6,), lora_ranks=(4,), gap=1e-9, work_limit=4 * limit).allocate(state)
    assert longer.plan.total_s <= one.plan.total_s
    assert longer.plan.lower_bound_s >= one.plan.lower_bound_s


def test_a_step_counts_for_more_where_it_works_on_more():
    effort = Effort(limit=5)
    effort.spend(100)
    assert 1.0 <= effort.spent < 1.1
    effort.spend(20_000, 2)
    assert effort.is_spent
    assert not Effort().is_spent


@pytest.fixture
def file(tmp_path):
    def write(**settings):
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (tmp_path / "old.toml").write_text(f'[allocator]\nkind = "exact"\n{lines}')
        return tmp_path / "old.toml"

    return write


def limit_of(scenario):
    allocator = to_dict(scenario)["allocator"]
    assert "time_limit_s" not in allocator
    return allocator["work_limit"]


def test_the_old_limit_is_taken_as_work_and_the_new_name_is_said_in_one_line(file, caplog):
    assert limit_of(load(file(time_limit_s=20.0))) == 200_000
    assert limit_of(load(file(time_limit_s=2, node_limit=7))) == 20_000
    assert limit_of(load(file(time_limit_s=1e-9))) == 1
    assert len(caplog.messages) == 3
    assert all("work_limit" in line and "\n" not in line for line in caplog.messages)
    caplog.clear()
    exact = change(Scenario(name="x"), {"allocator.kind": "exact"})
    assert limit_of(change(exact, {"allocator.time_limit_s": 5.0})) == 50_000
    assert len(caplog.messages) == 1


def test_the_new_limit_warns_of_nothing(file, caplog):
    assert limit_of(load(file(work_limit=9))) == 9
    assert caplog.messages == []


@pytest.mark.parametrize("value", ['"x"', "0.0", "-1", "nan", "true"])
def test_an_old_limit_that_makes_no_sense_is_refused(file, value, caplog):
    with pytest.raises(ScenarioError, match=r"allocator.*: time_limit_s is work_limit now"):
        load(file(time_limit_s=value))
    assert caplog.messages == []
