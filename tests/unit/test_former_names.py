"""Names that scenarios had before: taken wherever a setting is named, with one line each."""

from contextlib import suppress
from inspect import isabstract

import pytest
from pydantic import ValidationError

from cosim.errors import ScenarioError
from cosim.learning.settings import Model
from cosim.leaves import named
from cosim.parts import Part, Table, family
from cosim.scenario.differences import event_switches, switches
from cosim.scenario.former_names import current_kind, current_path
from cosim.scenario.load import change, load, parse_change, to_toml
from cosim.scenario.settings import Scenario
from cosim.studies.load import load_study
from cosim.studies.plan import make_plan

DOWN = "radio.main_downlink"
OLD = f"""
[{DOWN}]
counted = true
[allocator]
kind = "in_turn"
"""


def tables():
    """Return every class of settings a scenario can have."""
    classes = [Scenario]
    for one in classes:
        classes += [inner for inner in one.__subclasses__() if inner not in classes]
    seen = list(Table.__subclasses__())
    for one in seen:
        seen += [inner for inner in one.__subclasses__() if inner not in seen]
    return seen


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.toml"
    path.write_text(OLD)
    return path


def test_a_file_with_former_names_is_the_file_with_the_new_ones(old, tmp_path):
    new = tmp_path / "new.toml"
    new.write_text(OLD.replace("counted", "modelled").replace("in_turn", "time_shared"))
    scenarios = [load(path).model_copy(update={"name": "x"}) for path in (old, new)]
    assert to_toml(scenarios[0]) == to_toml(scenarios[1])
    assert "counted" not in to_toml(scenarios[0])


@pytest.mark.parametrize(
    "changes",
    [
        {f"{DOWN}.counted": True, "allocator.kind": "in_turn"},
        {DOWN: {"counted": True}, "allocator": {"kind": "in_turn"}},
        dict(map(parse_change, (f"{DOWN}.counted=true", "allocator={kind='in_turn'}"))),
    ],
)
def test_a_change_by_former_names_is_the_change_by_the_new_ones(changes):
    changed = change(Scenario(name="x"), changes)
    assert changed == change(Scenario(name="x"), {f"{DOWN}.modelled": True, "allocator.kind": "time_shared"})


def test_a_study_by_former_names_varies_the_settings_of_today(old, tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(
        f'base = "old.toml"\nreplications = 1\n[vary.grid]\n"{DOWN}.counted" = [true, false]\n'
        '"allocator.kind" = ["equal", "in_turn"]\n'
    )
    plan = make_plan(load_study(file))
    assert plan.factors == (f"{DOWN}.modelled", "allocator.kind")
    assert {case.scenario.allocator.kind for case in plan.cases} == {"equal", "time_shared"}
    assert plan.unvaried == ()


def test_tasks_have_former_names_too(monkeypatch):
    monkeypatch.setattr(Model, "former_names", {"split_layer": "cut_layer"})
    scenario = change(Scenario(name="x"), {"tasks.a.model.split_layer": 2, "tasks.b": {"model": {}}})
    assert scenario.tasks["a"].model.cut_layer == 2


def test_a_setting_asked_for_by_its_former_name_is_not_said_to_be_lost_or_by_default():
    plain = Scenario(name="x", radio={"main_downlink": {"modelled": True}})
    assert not event_switches(change(plain, {"events": [{"at_s": 1.0, "set": {f"{DOWN}.counted": False}}]}))
    changes = {"scheme.adapter_codec": {"kind": "top_k", "keep_ratio": 0.3}}
    before = Scenario(name="x")
    (codec,) = switches(before, change(before, changes), named(changes))
    assert "sparsification_ratio" not in codec.defaults


def test_a_metric_is_asked_for_by_its_former_name(old, tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(
        'base = "old.toml"\nreplications = 1\nmeasures = ["keep_ratio"]\n'
        f'[vary.grid]\n"{DOWN}.modelled" = [true, false]\n'
    )
    assert [one.name for one in load_study(file).measures] == ["sparsification_ratio"]


def test_a_change_on_the_command_line_has_the_names_of_today():
    assert parse_change(f"{DOWN}.counted=false") == (f"{DOWN}.modelled", False)
    assert parse_change("allocator={kind='in_turn'}") == ("allocator", {"kind": "time_shared"})
    assert parse_change(f"{DOWN}={{counted=true}}") == (DOWN, {"modelled": True})
    assert parse_change(f"{DOWN}.counted=") == (f"{DOWN}.modelled", None)
    with pytest.raises(ScenarioError, match=r"^--set radio.main_downlink.counted is the former name"):
        parse_change(f"{DOWN}={{counted=true, modelled=true}}")


def test_both_names_at_once_are_refused(tmp_path):
    path = tmp_path / "both.toml"
    path.write_text(f"[{DOWN}]\ncounted = true\nmodelled = false\n")
    with pytest.raises(ScenarioError, match=rf"{DOWN}.counted is the former name of modelled"):
        load(path)


def test_one_line_names_the_new_name(old, caplog):
    from cosim.scenario import former_names

    former_names.tell_name.cache_clear()
    load(old)
    assert [one.getMessage() for one in caplog.records] == [
        f"{DOWN}.counted: 'counted' is called 'modelled' now; the former name still works",
        "allocator.kind: 'in_turn' is called 'time_shared' now; the former name still works",
    ]


def test_former_names_lead_to_settings_and_hide_none():
    for table in tables():
        for former, name in table.former_names.items():
            assert name in table.model_fields, table
            assert former not in table.model_fields, table


def test_former_kinds_hide_no_kind():
    bases = {base for base in tables() if issubclass(base, Part) and "kind" not in base.model_fields}
    for base in bases - {Part}:
        try:
            parts = family(base)
        except AttributeError:  # not a family of its own
            continue
        kinds = [kind for part in parts.values() for kind in part.former_kinds]
        assert not set(kinds) & set(parts)
        assert len(kinds) == len(set(kinds))


def test_names_of_today_are_left_alone():
    assert current_path("radio.noise_figure_db") == "radio.noise_figure_db"
    assert current_path("nothing.such") == "nothing.such"
    assert current_path("tasks.counted.scheme.counted") == "tasks.counted.scheme.counted"
    assert current_kind("allocator.kind", "equal") == "equal"
    assert current_kind("radio.noise_figure_db", 3.0) == 3.0


def test_the_aggregator_qffl_is_q_fedavg_and_not_the_weights_q_ffl():
    assert current_kind("scheme.aggregator.kind", "qffl") == "q_fedavg"
    assert current_kind("scheme.weights.kind", "q_ffl") == "q_ffl"


def test_a_table_without_settings_is_what_checking_none_gives():
    alike = [table for table in tables() if not any(one.is_required() for one in table.model_fields.values())]
    alike = [table for table in alike if not isabstract(table)]
    assert len(alike) > 50
    for table in alike:
        with suppress(ValidationError):  # it needs one of several settings
            assert table() == table.default()
