"""Designs, ranges and plans of studies."""

from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cosim.errors import ScenarioError
from cosim.scenario.load import to_toml
from cosim.studies.design import num_points, points
from cosim.studies.load import load_study, study_toml
from cosim.studies.paths import short_names
from cosim.studies.plan import make_plan, training_key
from cosim.studies.ranges import Range, Steps
from cosim.studies.run_queue import Pace, Run, RunQueue
from cosim.studies.settings import Study, Vary
from cosim.words import shown

NOISE, WIDTH = "radio.noise_figure_db", "radio.main_uplink.bandwidth_hz"


@pytest.fixture
def study(tiny_scenario, tmp_path):
    """Return what makes a study of the tiny scenario."""
    base = tmp_path / "tiny.toml"
    base.write_text(to_toml(tiny_scenario()), encoding="utf-8")

    def made(**given):
        return Study.model_validate({"name": "a study", "base": base, "timing_only": True, **given})

    return made


def vary(**given):
    return Vary.model_validate(given)


# Designs


def test_a_grid_has_every_combination_once_in_the_order_of_the_file():
    found = list(points(vary(grid={NOISE: [3.0, 6.0], "allocator.kind": ["equal", "time_shared"]}), seed=0))
    assert [one.name for one in found] == [
        "noise_figure_db=3, allocator=equal",
        "noise_figure_db=3, allocator=time_shared",
        "noise_figure_db=6, allocator=equal",
        "noise_figure_db=6, allocator=time_shared",
    ]
    assert found[1].settings == {NOISE: 3.0, "allocator.kind": "time_shared"}


def test_paths_without_quotes_are_the_same_paths():
    spelt = vary(grid={"radio": {"noise_figure_db": [3.0], "main_uplink": {"bandwidth_hz": [1e6]}}})
    assert list(spelt.grid) == [NOISE, WIDTH]


def test_a_table_is_a_value_where_it_stands_in_a_list():
    fading = [{"kind": "none"}, {"kind": "rician", "k_factor": 3.0, "coherence_time_s": 0.01}]
    found = list(points(vary(grid={"radio.fading": fading}), seed=0))
    assert [one.settings["radio.fading"]["kind"] for one in found] == ["none", "rician"]
    assert found[1].name == "fading=rician(k_factor=3, coherence_time_s=0.01)"


def test_a_zip_takes_values_together():
    found = list(points(vary(zip={NOISE: [3.0, 6.0], WIDTH: [1e6, 2e6]}), seed=0))
    assert [one.settings for one in found] == [{NOISE: 3.0, WIDTH: 1e6}, {NOISE: 6.0, WIDTH: 2e6}]


def test_designs_together_are_crossed():
    both = vary(
        grid={WIDTH: [1e6, 2e6]},
        cases=[{"name": "good", "set": {NOISE: 3.0}}, {"name": "bad", "set": {NOISE: 20.0}}],
        latin_hypercube={"samples": 3, "ranges": {"radio.snr_gap_db": {"low": 0.0, "high": 6.0}}},
    )
    found = list(points(both, seed=0))
    assert len(found) == num_points(both) == 12
    assert len({one.name for one in found}) == 12


@given(st.integers(2, 40), st.integers(1, 4), st.integers(0, 5))
@settings(deadline=None, max_examples=20)
def test_a_latin_hypercube_has_one_sample_in_each_stratum_of_each_factor(samples, num_factors, seed):
    ranges = {f"radio.x{number}": {"low": 0.0, "high": 1.0} for number in range(num_factors)}
    found = list(points(vary(latin_hypercube={"samples": samples, "ranges": ranges}), seed))
    shares = np.array([list(one.settings.values()) for one in found])
    strata = np.sort((shares * samples).astype(int), axis=0)
    assert (strata == np.arange(samples)[:, None]).all()


def test_a_sobol_design_holds_two_samples_and_the_first_with_each_factor_of_the_second():
    ranges = {"a.x": {"low": 0.0, "high": 1.0}, "a.y": {"low": 1.0, "high": 100.0, "scale": "log"}}
    design = vary(sobol={"samples": 8, "ranges": ranges})
    found = list(points(design, seed=1))
    assert len(found) == num_points(design) == 8 * 4
    by_role = {(one.role, one.row): one.settings for one in found}
    for row in range(8):
        first, second = by_role["a", row], by_role["b", row]
        assert by_role["ab0", row] == {"a.x": second["a.x"], "a.y": first["a.y"]}
        assert by_role["ab1", row] == {"a.x": first["a.x"], "a.y": second["a.y"]}


def test_what_is_drawn_hangs_on_the_seed_alone():
    design = vary(latin_hypercube={"samples": 5, "ranges": {"a.x": {"low": 0.0, "high": 1.0}}})
    assert list(points(design, seed=1)) == list(points(design, seed=1))
    assert list(points(design, seed=1)) != list(points(design, seed=2))


# Ranges


@given(st.sampled_from(["linear", "log", "db"]), st.floats(0.1, 50.0), st.floats(0.1, 50.0), st.floats(0, 1))
@settings(deadline=None)
def test_a_value_lies_within_its_range_and_rises_with_its_share(scale, low, wide, share):
    one = Range(low=low, high=low + wide, scale=scale)
    ends = one.value(0.0), one.value(1.0)
    assert ends[0] <= one.value(share) <= ends[1]
    assert ends[0] <= one.value(share / 2.0) <= one.value(share)


def test_a_decibel_range_gives_linear_power_ratios():
    assert Steps(low=-10.0, high=20.0, scale="db", points=4).values() == (0.1, 1.0, 10.0, 100.0)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"low": 2.0, "high": 1.0}, "low must be below high"),
        ({"low": 0.0, "high": 1.0, "scale": "log"}, "needs a low above 0"),
        ({"low": 0.5, "high": 3.0, "integer": True}, "whole ends"),
        ({"low": 0.0, "high": 1e6, "scale": "db"}, "takes decibels"),
    ],
)
def test_a_range_that_is_none_is_refused(given, told):
    with pytest.raises(ValidationError, match=told):
        Range.model_validate(given)


# Names


def test_a_short_name_is_as_long_as_it_takes_to_tell_it_from_others():
    assert list(short_names(["a.b.x", "c.b.x", "c.y"]).values()) == ["a.b.x", "c.b.x", "y"]


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(deadline=None)
def test_a_number_shown_is_the_number(value):
    assert float(shown(value)) == value


# The plan


def test_every_case_is_a_scenario_with_its_own_folder(study):
    plan = make_plan(study(vary={"grid": {NOISE: [3.0, 6.0]}}))
    assert [case.scenario.radio.noise_figure_db for case in plan.cases] == [3.0, 6.0]
    assert len({case.folder for case in plan.cases}) == 2
    assert [plan.factor(case, NOISE) for case in plan.cases] == [3.0, 6.0]


def test_the_folder_of_a_case_hangs_on_its_settings_and_not_on_its_neighbours(study):
    alone, among = (make_plan(study(vary={"grid": {NOISE: one}})) for one in ([3.0], [9.0, 3.0]))
    assert alone.cases[0].folder == among.cases[1].folder


def test_replications_differ_in_their_seed_alone(study):
    (case,) = make_plan(study(seed=7)).cases
    assert [case.replication(number).seed for number in range(3)] == [7, 8, 9]
    assert case.replication(2).model_copy(update={"seed": 7}) == case.scenario


def test_a_baseline_by_settings_is_the_case_that_is_otherwise_the_same(study):
    grid = {NOISE: [3.0, 6.0], "allocator.kind": ["equal", "time_shared"]}
    plan = make_plan(study(vary={"grid": grid}, baseline={"allocator.kind": "equal"}))
    assert [case.baseline for case in plan.cases] == [
        "noise_figure_db=3, allocator=equal",
        "noise_figure_db=3, allocator=equal",
        "noise_figure_db=6, allocator=equal",
        "noise_figure_db=6, allocator=equal",
    ]


def test_a_whole_number_names_the_same_baseline_as_a_decimal(study):
    plan = make_plan(study(vary={"grid": {NOISE: [3, 6]}}, baseline={NOISE: 3.0}))
    assert {case.baseline for case in plan.cases} == {"noise_figure_db=3"}


def test_a_factor_that_a_case_does_not_set_has_the_value_of_the_base(study):
    cases = [{"name": "plain"}, {"name": "noisy", "set": {NOISE: 20.0}}]
    plan = make_plan(study(vary={"cases": cases}, set={NOISE: 5.0}))
    assert [plan.factor(case, NOISE) for case in plan.cases] == [5.0, 20.0]


def test_a_grid_has_an_optional_setting_and_does_not_have_it(study, tmp_path):
    deadline, left_out = "scheme.deadline_s", {"left_out": True}
    made = study(
        vary={"grid": {deadline: [3.0, left_out], NOISE: [1.0, left_out]}}, baseline={deadline: left_out}
    )
    plan = make_plan(made)
    assert [case.scenario.scheme.deadline_s for case in plan.cases] == [3.0, 3.0, None, None]
    assert [plan.factor(case, deadline) for case in plan.cases] == [3.0, 3.0, "left out", "left out"]
    assert [plan.factor(case, NOISE) for case in plan.cases] == [1.0, 9.0, 1.0, 9.0]  # the default
    assert plan.cases[0].baseline == "deadline_s=left out, noise_figure_db=1"
    (tmp_path / "again.toml").write_text(study_toml(made), encoding="utf-8")
    assert load_study(tmp_path / "again.toml").vary == made.vary
    with pytest.raises(ValidationError, match=r"scheme.deadline_s: a value without the setting is"):
        study(set={deadline: {"left_out": False}})


def test_a_study_written_out_is_the_same_study(study, tmp_path):
    one = study(
        vary={
            "grid": {WIDTH: {"low": 1e6, "high": 4e6, "points": 3}},
            "cases": [{"name": "a", "set": {"radio.fading": {"kind": "none"}}}],
        },
        baseline={WIDTH: 1e6},
        until="half-width <= 0.5 %",
        measures=["total_s", {"kind": "energy_j", "actor": "client"}, "gap_to_bound"],
    )
    path = tmp_path / "again.toml"
    path.write_text(study_toml(one), encoding="utf-8")
    assert load_study(path) == one.model_copy(update={"paths_from": tmp_path})
    again = tmp_path / "elsewhere" / "again.toml"
    again.parent.mkdir()
    again.write_text(study_toml(load_study(path)), encoding="utf-8")
    assert load_study(again) == load_study(path)
    assert [case.folder for case in make_plan(load_study(path)).cases] == [
        case.folder for case in make_plan(one).cases
    ]


def test_paths_among_settings_count_from_the_study_file(study, tmp_path):
    texts = {"kind": "file", "test_fraction": 0.5, "target_column": "text"}
    path = tmp_path / "paths.toml"
    varied = study(vary={"grid": {"data.source": [{**texts, "train_path": f"{name}.csv"} for name in "ab"]}})
    path.write_text(study_toml(varied), encoding="utf-8")
    plan = make_plan(load_study(path))
    assert [case.scenario.data.source.train_path for case in plan.cases] == [
        tmp_path / "a.csv",
        tmp_path / "b.csv",
    ]


def test_what_only_the_channel_tells_apart_shares_a_training(study):
    grid = {NOISE: [3.0, 6.0], "lora.rank": [2, 4]}
    plan = make_plan(study(vary={"grid": grid}))
    keys = [training_key(case.scenario, timing_only=False) for case in plan.cases]
    assert keys[0] == keys[2] != keys[1] == keys[3]
    assert len({training_key(plan.cases[0].replication(number), False) for number in range(3)}) == 3


# The queue of runs


def test_of_runs_that_share_a_training_one_goes_first_and_the_others_when_it_has_ended():
    runs = [Run(case, replication, str(replication)) for replication in range(2) for case in range(3)]
    queue = RunQueue(runs)
    first = [queue.take(), queue.take()]
    assert [run.case for run in first] == [0, 0]
    assert queue.take() is None
    queue.ended(first[1])
    assert queue.take() == Run(1, 1, "1")
    assert queue.take() == Run(2, 1, "1")
    assert queue.take() is None
    queue.ended(first[0])
    assert queue.take() == Run(1, 0, "0")


def test_what_is_left_is_told_by_trainings_and_by_runs_that_recall():
    runs = [Run(case, seed, f"seed {seed}") for case in range(10) for seed in range(3)]
    pace = Pace(runs)
    assert isnan(pace.left_s(2))
    pace.ended(0, 0, 20.0)
    assert pace.left_s(2) == 20.0  # two trainings, side by side; what recalling takes nobody knows yet
    pace.ended(1, 0, 0.5)
    assert pace.left_s(2) == 20.0 + 26 * 0.5 / 2
    for seed in (1, 2):
        pace.ended(0, seed, 20.0)
    assert pace.left_s(1) == 26 * 0.5
    channel = Pace([Run(case, 0, "") for case in range(4)])
    channel.ended(3, 0, 2.0)
    assert channel.left_s(1) == 6.0


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "a", "b"])), unique=True), st.data())
@settings(deadline=None)
def test_every_run_is_taken_once(numbers, data):
    runs = [Run(number, 0, training) for number, training in numbers]
    queue, taken, at_work = RunQueue(runs), [], []
    while True:
        while (run := queue.take()) is not None:
            taken.append(run)
            at_work.append(run)
        if not at_work:
            break
        queue.ended(at_work.pop(data.draw(st.integers(0, len(at_work) - 1))))
    assert sorted(taken, key=repr) == sorted(runs, key=repr)


# Faults


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"vary": {"grid": {"radio.main_uplnk.bandwidth_hz": [1e6]}}}, "did you mean 'main_uplink'"),
        ({"vary": {"grid": {NOISE: [3.0, -1000.0]}}}, "radio.noise_figure_db: .* got -1000"),
        ({"vary": {"grid": {"seed": [1, 2]}}}, "seed: is what replications differ in"),
        ({"vary": {"grid": {"name": ["a"]}}}, "name: changes nothing"),
        (
            {"vary": {"grid": {NOISE: {"low": 0.0, "high": 9.0, "points": 1_000_000}}}, "replications": 1},
            "1 000 000 runs, more than 10 000; give cosim study the option --yes",
        ),
        ({"baseline": "nobody", "vary": {"grid": {NOISE: [3.0]}}}, "no case is named 'nobody'"),
        ({"baseline": {WIDTH: 1e6}, "vary": {"grid": {NOISE: [3.0]}}}, "bandwidth_hz does not vary"),
        ({"baseline": {NOISE: 4.0}, "vary": {"grid": {NOISE: [3.0]}}}, "no case has radio.noise_figure_db"),
        (
            {"vary": {"cases": [{"name": "noise_figure_db=3"}], "grid": {NOISE: [3.0]}}, "set": {NOISE: "x"}},
            "a study: set: radio.noise_figure_db",
        ),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused_in_a_line(study, given, told):
    with pytest.raises(ScenarioError, match=told):
        make_plan(study(**given))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("[vary.grid]\n", "vary.grid: is empty; name what varies"),
        ('[vary.grid]\n"a.x" = []', "vary.grid.a.x: must have at least 1 entry"),
        ('[vary.grid]\n"a.x" = [1, 1]', "vary.grid.a.x: has 1 twice"),
        ('[vary.grid]\n"a.x" = 1', r"vary.grid.a.x: must be a list, got 1"),
        ('[vary.grid]\n"a.x" = { low = 1, high = 2 }', "vary.grid.a.x.points: must be given"),
        ('[vary.zip]\n"a.x" = [1]\n"a.y" = [1, 2]', "vary.zip: its lists must be equally long"),
        ('[[vary.cases]]\nname = "a"\n[[vary.cases]]\nname = "a"', "vary.cases: two cases are named 'a'"),
        ('[vary.grid]\n"a.x" = [1]\n[vary.zip]\n"a.x" = [1]', "vary: a.x is varied by grid and by zip"),
        ('[vary.sobol]\nsamples = 6\nranges."a.x" = { low = 0, high = 1 }', "vary.sobol.samples: .* take 8"),
        (
            '[vary.sobol]\nsampels = 6\nranges."a.x" = { low = 0, high = 1 }',
            "(.*\n)*.*did you mean 'samples'",
        ),
        ('until = "soon"', 'until: must be such as "half-width'),
        ('until = "half-width <= 0 %"', "until: the half-width must be above 0"),
        ('until = "half-width <= 2 %"\nmax_replications = 3', "max_replications: 3 leaves no room"),
        ('measures = ["total_s", "total_s"]', "measures: 'total_s' is asked for twice"),
        ('measures = [{ kind = "total" }]', "measures.0: no kind 'total'; known: .*did you mean 'total_s'"),
        (
            'timing_only = true\nmeasures = [{ kind = "loss_at", time_s = 1 }]',
            "measures: 'loss_at 1 s' depends on what is learned",
        ),
        (
            'timing_only = true\nmeasures = ["total_s", "eval_loss"]',
            "measures: 'eval_loss' depends on what is learned",
        ),
        ('measures = ["totl_s"]', r"measures.0: there is no measure 'totl_s'; did you mean 'total_s'\?"),
        ('measures = ["time_to_loss"]', "measures.0.level: must be given"),
        ("replication = 3", "replication: no such setting; did you mean 'replications'"),
        ('interval = "normal"', "interval: should be 't' or 'bootstrap', got 'normal'"),
    ],
)
def test_a_study_file_at_fault_is_told_with_its_place(tmp_path, lines, told):
    path = tmp_path / "bad.toml"
    path.write_text(f'base = "x.toml"\n{lines}\n', encoding="utf-8")
    with pytest.raises(ScenarioError, match=f"^{path}: {told}"):
        load_study(path)


def test_a_study_without_its_base_is_told(tmp_path):
    (tmp_path / "a.toml").write_text('base = "none.toml"\n', encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"none.toml: there is no such file"):
        make_plan(load_study(tmp_path / "a.toml"))
