import json
from itertools import product

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from cosim.errors import RecordError
from cosim.report.study import write_paper, write_report
from cosim.report.study.content import study_content
from cosim.report.study.figure import box_lines, panels_of
from cosim.report.study.record import StudyRecord
from cosim.rng import stream
from cosim.studies.statistics import summarise, summary_csv

BAND, KIND = "radio.main_uplink.bandwidth_hz", "allocator.kind"


def write_study(folder, settings, values, *, baselines=None, curves=(), roles=None, text="", **manifest):
    """Write a study's folder: settings by case, and what was measured by (case, measure)."""
    folder.mkdir(parents=True, exist_ok=True)
    measures = list(dict.fromkeys(measure for _, measure in values))
    count = max(map(len, values.values()))
    rows = [
        {"case": case, "replication": number, "seed": 7 + number, "measure": measure}
        | {"value": float(values[case, measure][number]), **one}
        for case, one in settings.items()
        for number in range(count)
        for measure in measures
        if (case, measure) in values and number < len(values[case, measure])
    ]
    results = pyarrow.Table.from_pylist(rows)
    baselines = baselines or {}
    parquet.write_table(results, folder / "results.parquet")
    names = ("case", "replication", "simulated_s", "round", "eval_loss")
    kinds = (pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.int64(), pyarrow.float64())
    table = pyarrow.Table.from_pylist(
        [dict(zip(names, row, strict=True)) for row in curves],
        schema=pyarrow.schema(list(zip(names, kinds, strict=True))),
    )
    parquet.write_table(table, folder / "curves.parquet")
    (folder / "summary.csv").write_bytes(summary_csv(summarise(results, baselines=baselines)))
    units = {"total_s": ("s", "less"), "energy_j": ("J", "less"), "eval_accuracy": ("", "neither")}
    told = {
        "kind": "study",
        "format": 1,
        "name": folder.name,
        "status": "complete",
        "confidence": 0.95,
        "interval": "t",
        "versions": {"cosim": "0.1.0"},
        "measures": [
            dict(zip(("name", "unit", "better"), (one, *units.get(one, ("", "neither"))), strict=True))
            for one in measures
        ],
        "cases": [
            {"name": case, "folder": case, "baseline": baselines.get(case)}
            | dict(zip(("role", "row"), (roles or {}).get(case, ("", -1)), strict=True))
            for case in settings
        ],
        "failed": [],
        **manifest,
    }
    (folder / "manifest.json").write_text(json.dumps(told))
    (folder / "study.toml").write_text(text or 'description = "Why?"\nbase = "a/quickstart.toml"\n')
    return folder


def grid(levels, effect, *, repetitions=5, measures=("total_s",), noise=0.1):
    """Return cases and values of a full crossing, with a shift each replication has in all cases."""
    generator = stream(1, "report").generator()
    shift = 5.0 * generator.normal(size=repetitions)
    cases, values = {}, {}
    for setting in product(*levels.values()):
        name = ", ".join(map(str, setting))
        cases[name] = dict(zip(levels, setting, strict=True))
        for number, measure in enumerate(measures):
            own = noise * generator.normal(size=repetitions)
            values[name, measure] = (1.0 - 2.0 * (number % 2)) * effect(*setting) + 100.0 + shift + own
    return cases, values


def effect(band, kind):
    return -band / 1e6 + (3.0 if kind == "random" else 0.0)


@pytest.fixture
def bandwidth(tmp_path):
    """Return a study of four bands and two allocators, each compared with the first of them."""
    levels = {BAND: (5e6, 1e7, 2e7, 4e7), KIND: ("equal", "random")}
    cases, values = grid(levels, effect, measures=("total_s", "energy_j"))
    baselines = {name: f"{one[BAND]}, equal" for name, one in cases.items()}
    curves = [
        (name, replication, float(at), at, 4.0 / (1.0 + at) + 0.01 * replication)
        for name in cases
        for replication in range(5)
        for at in range(4)
    ]
    return write_study(tmp_path / "bandwidth", cases, values, baselines=baselines, curves=curves)


def content_of(folder):
    return study_content(StudyRecord.open(folder))


def titles(content):
    return [title for _, title, _ in panels_of(content)]


def told(content, what):
    return dict(content["credibility"]).get(what, "")


def test_a_grid_is_drawn_as_lines_over_its_numbers_for_each_of_its_names(bandwidth):
    content = content_of(bandwidth)
    response = content["measures"][0]["response"]
    assert content["design"] == "grid"
    assert content["factors"][response["across"]]["levels"] == ["5 MHz", "10 MHz", "20 MHz", "40 MHz"]
    assert content["factors"][response["by"]]["levels"] == ["equal", "random"]
    assert np.diff(response["lines"][0]["mean"]) == pytest.approx([-5.0, -10.0, -20.0], abs=0.5)
    assert np.array(response["lines"][1]["mean"]) - response["lines"][0]["mean"] == pytest.approx(
        3.0, abs=0.5
    )


def test_each_case_is_called_by_its_levels_and_compared_with_its_baseline(bandwidth):
    content = content_of(bandwidth)
    assert [one["label"] for one in content["cases"]][:2] == ["5 MHz, equal", "5 MHz, random"]
    assert [one["baseline"] for one in content["cases"]] == [None, 0, None, 2, None, 4, None, 6]
    assert content["against"] == "equal"
    row = content["measures"][0]["cases"][1]
    assert row["detectable"] == "yes"
    assert row["difference"] == pytest.approx(3.0, abs=0.5)


def test_what_the_pairs_were_worth_is_told(bandwidth):
    content = content_of(bandwidth)
    assert "their variance would have been" in told(content, "pairs")
    assert "for total delay" in told(content, "pairs")
    assert told(content, "replications") == "5 of each case, seeds 7 to 11"
    assert "Student's t" in told(content, "intervals")
    assert "of 8 comparisons" in told(content, "intervals")


def test_the_figure_has_a_panel_for_all_there_is(bandwidth):
    content = content_of(bandwidth)
    assert titles(content) == [
        "total delay",
        "energy",
        "total delay, paired differences",
        "energy, paired differences",
        "interaction, total delay",
        "trade-off",
        "convergence",
        "sensitivity",
    ]
    assert max(map(len, box_lines(content))) < 200


def test_indices_of_a_grid_are_those_of_its_effects(bandwidth):
    indices = content_of(bandwidth)["measures"][0]["indices"]
    band, kind = np.var([5.0, 10.0, 20.0, 40.0]), np.var([0.0, 3.0])
    assert indices["first"]["value"] == pytest.approx(np.array([band, kind]) / (band + kind), abs=0.01)


def test_the_front_holds_what_nothing_beats_in_both(bandwidth):
    """Delay falls with the band and energy rises, so that the quickest is on it, and others."""
    content = content_of(bandwidth)
    (front,) = content["fronts"]
    assert content["cases"][front["cases"][0]]["label"] == "40 MHz, equal"
    assert len(front["cases"]) > 1


def test_a_report_is_the_same_bytes_each_time(bandwidth):
    page, figure = write_report(bandwidth)
    assert (page.name, figure.name) == ("report.html", "report.png")
    first = page.read_bytes(), figure.read_bytes()
    write_report(bandwidth)
    assert (page.read_bytes(), figure.read_bytes()) == first


def test_a_paper_has_each_panel_as_pdf_and_svg_and_tables_with_intervals(bandwidth, tmp_path, monkeypatch):
    monkeypatch.setattr("cosim.report.study.figure.panels_of", lambda content: panels_of(content)[:1])
    (tmp_path / "paper").mkdir()
    written = write_paper(bandwidth, tmp_path / "paper")
    names = {path.name for path in written}
    assert {"total_delay.pdf", "total_delay.svg", "means.tex", "differences.tex"} <= names
    assert all(path.stat().st_size for path in written)
    means = (tmp_path / "paper" / "means.tex").read_text()
    assert means.count(r"\\") == 1 + len(StudyRecord.open(bandwidth).cases)
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", "$ $["):
        assert rule in means
    with pytest.raises(RecordError, match="exists already"):
        write_paper(bandwidth, tmp_path / "paper")


def test_no_text_of_a_study_becomes_markup(tmp_path):
    nasty = "</script><script>alert(1)</script>"
    cases = {nasty: {"allocator.kind": nasty}, "b": {"allocator.kind": "b"}}
    values = {(name, "total_s"): [1.0, 2.0, 3.5] for name in cases}
    folder = write_study(tmp_path / "nasty", cases, values, baselines={"b": nasty})
    page, _ = write_report(folder)
    assert nasty not in page.read_text()


def test_curves_have_a_band_over_the_replications(bandwidth):
    course = content_of(bandwidth)["convergence"]
    assert len(course["cases"]) == 8
    assert len(course["shown"]) == 6
    one = course["cases"][0]
    assert one["n"] == 5
    assert one["mean"][0] == pytest.approx(4.02)
    assert one["low"][0] < one["mean"][0] < one["high"][0]


def test_very_many_cases_are_shown_by_some_from_the_quickest_to_the_slowest(tmp_path):
    levels = tuple(float(at) for at in range(150))
    cases, values = grid({"radio.a": levels}, lambda a: a, repetitions=2)
    curves = [(name, 0, at * float(name), at, 4.0 - at) for name in cases for at in (1, 2)]
    baselines = dict.fromkeys(cases, "7.0")
    content = content_of(
        write_study(tmp_path / "many", cases, values, baselines=baselines, curves=curves, status="stopped")
    )
    course = content["convergence"]
    assert (len(course["cases"]), course["of"]) == (60, 150)
    assert [course["cases"][at]["case"] for at in course["shown"]][::5] == [0, 149]
    assert 7 in [course["cases"][at]["case"] for at in course["shown"]]
    assert "the study is stopped" in told(content, "cases")
    write_report(tmp_path / "many")


def test_a_target_some_missed_is_told_and_has_no_indices(tmp_path):
    cases, values = grid({"radio.a": (1.0, 2.0), "radio.b": (1.0, 2.0)}, lambda a, b: a + b)
    values["1.0, 2.0", "total_s"][2] = np.nan
    content = content_of(
        write_study(tmp_path / "missed", cases, values, baselines=dict.fromkeys(cases, "1.0, 1.0"))
    )
    (measure,) = content["measures"]
    assert measure["cases"][1]["detectable"] == "censored"
    assert measure["indices"] is None
    assert "missed" in measure["noIndices"]
    assert "total delay in 1 of 20 runs" in told(content, "targets missed")
    assert measure["response"] is None


def test_one_replication_is_shown_without_intervals(tmp_path):
    cases, values = grid({"radio.a": (1.0, 2.0, 3.0)}, lambda a: a, repetitions=1)
    folder = write_study(tmp_path / "one", cases, values, baselines=dict.fromkeys(cases, "1.0"))
    content = content_of(folder)
    assert content["measures"][0]["response"]["lines"][0]["low"] == [None] * 3
    assert "One factor" in content["measures"][0]["noIndices"]
    write_report(folder)


def test_settings_that_are_zipped_are_one_factor(tmp_path):
    cases = {str(at): {"radio.a": float(at), "radio.b": float(-at)} for at in range(3)}
    values = {(name, "total_s"): np.arange(4.0) + float(name) for name in cases}
    text = "base = 'x.toml'\n[vary.zip]\n'radio.a' = [0, 1, 2]\n'radio.b' = [0, -1, -2]\n"
    (factor,) = content_of(write_study(tmp_path / "zip", cases, values, text=text))["factors"]
    assert factor["paths"] == ["radio.a", "radio.b"]
    assert factor["levels"] == ["0", "1", "2"]


def test_named_cases_are_one_factor_whose_levels_are_their_names(tmp_path):
    fading = {"none": "none", "line of sight": "rician", "scatter": "rician"}
    factor_k = {"none": None, "line of sight": 10.0, "scatter": 0.5}
    sets = {
        name: {"radio.fading.kind": kind}
        | ({"radio.fading.k_factor": factor_k[name]} if factor_k[name] else {})
        for name, kind in fading.items()
    }
    cases = {
        f"n={count}, {name}": {"clients.count": float(count), "radio.fading.kind": kind}
        | {"radio.fading.k_factor": factor_k[name]}
        for count in (2, 4)
        for name, kind in fading.items()
    }
    told = [
        {"name": case, "folder": case, "settings": {"clients.count": one["clients.count"], **sets[case[5:]]}}
        for case, one in cases.items()
    ]
    text = "base = 'x.toml'\n[vary.grid]\n'clients.count' = [2, 4]\n" + "".join(
        f"[[vary.cases]]\nname = '{name}'\n[vary.cases.set]\n"
        + "".join(f"'{path}' = {value!r}\n" for path, value in one.items())
        for name, one in sets.items()
    )
    values = {(case, "total_s"): np.arange(3.0) + at for at, case in enumerate(cases)}
    content = content_of(write_study(tmp_path / "named", cases, values, text=text, cases=told))
    assert [one["label"] for one in content["factors"]] == ["clients count", "case"]
    assert content["factors"][1]["levels"] == ["none", "line of sight", "scatter"]
    assert content["design"] == "grid"


def test_cases_drawn_from_ranges_are_points_with_fitted_indices(tmp_path):
    drawn = stream(2, "drawn").generator().uniform(size=(64, 2))
    cases = {f"lhs-{at}": {"radio.a": float(a), "radio.b": float(b)} for at, (a, b) in enumerate(drawn)}
    values = {
        (name, "total_s"): 10.0 + 3.0 * one["radio.a"] + one["radio.b"] + np.array([0.0, 1.0, 2.0])
        for name, one in cases.items()
    }
    content = content_of(write_study(tmp_path / "ranges", cases, values))
    indices = content["measures"][0]["indices"]
    assert content["design"] == "ranges"
    assert indices["first"]["value"] == pytest.approx([0.9, 0.1], abs=0.03)
    assert indices["explained"] > 0.99
    assert titles(content) == ["total delay over a", "total delay over b", "sensitivity"]


def test_a_sobol_design_has_the_indices_of_pick_and_freeze(tmp_path):
    drawn = stream(3, "sobol").generator().uniform(size=(64, 4))
    cases, roles = {}, {}
    for role, columns in {"a": (0, 1), "b": (2, 3), "ab0": (2, 1), "ab1": (0, 3)}.items():
        for row, point in enumerate(drawn[:, columns]):
            cases[f"{role}-{row}"] = {"radio.a": float(point[0]), "radio.b": float(point[1])}
            roles[f"{role}-{row}"] = (role, row)
    values = {(name, "total_s"): [3.0 * one["radio.a"] + one["radio.b"]] for name, one in cases.items()}
    content = content_of(write_study(tmp_path / "sobol", cases, values, roles=roles))
    indices = content["measures"][0]["indices"]
    assert "pick and freeze over 64 points" in indices["told"]
    assert content["design"] == "ranges"  # so that each case is drawn over each factor
    assert [one["label"] for one in content["cases"]][:2] == ["a-0", "a-1"]
    assert indices["total"]["value"] == pytest.approx([0.9, 0.1], abs=0.2)
    assert indices["total"]["low"][0] < 0.9 < indices["total"]["high"][0]


def test_failed_runs_are_told_and_in_no_number(tmp_path):
    cases, values = grid({"radio.a": (1.0, 2.0)}, lambda a: a)
    failed = [{"case": "3.0", "replication": 1, "reason": "no rate"}]
    content = content_of(write_study(tmp_path / "failed", cases, values, failed=failed))
    assert content["failed"] == [{"case": "3.0", "replication": "1", "reason": "no rate"}]
    assert "1 run(s) failed" in told(content, "cases")
    assert any("no rate" in line for line in box_lines(content))


def test_measures_that_are_the_same_everywhere_are_not_drawn(tmp_path):
    cases, values = grid({"radio.a": (1.0, 2.0)}, lambda a: a, measures=("total_s",))
    values |= {(name, "bits"): [8.0] * 5 for name in cases}
    content = content_of(write_study(tmp_path / "same", cases, values))
    assert [one["differs"] for one in content["measures"]] == [True, False]
    assert content["fronts"] == []


def test_three_factors_have_an_effect_each_and_a_heat_map_for_the_strongest_pair(tmp_path):
    levels = {"radio.a": (1.0, 2.0, 3.0), "radio.b": (1.0, 2.0), "radio.c": (1.0, 2.0)}
    cases, values = grid(levels, lambda a, b, c: a + 4.0 * b * c)
    content = content_of(write_study(tmp_path / "three", cases, values))
    assert len(content["measures"][0]["heat"]) == 3
    assert [title for title in titles(content) if " over " in title] == [
        f"total delay over {one}" for one in "abc"
    ]
    write_report(tmp_path / "three")


@pytest.mark.parametrize(("repetitions", "is_warned"), [(5, True), (12, False)])
def test_a_bootstrap_of_few_replications_is_told_to_be_too_narrow(tmp_path, repetitions, is_warned):
    levels = {"radio.x": (1.0, 2.0), "allocator.kind": ("equal", "random")}
    cases, values = grid(levels, lambda x, kind: x, repetitions=repetitions)
    folder = write_study(tmp_path / "few", cases, values, interval="bootstrap")
    told = dict(content_of(folder)["credibility"])["intervals"]
    assert ("too narrow" in told) == is_warned


def test_a_rule_to_stop_by_and_whether_it_was_met_are_told(tmp_path):
    cases, values = grid({"radio.a": (1.0, 2.0)}, lambda a: a)
    text = 'base = "x.toml"\nuntil = "half-width <= 2 %"\n'
    content = content_of(write_study(tmp_path / "until", cases, values, text=text, tight=False))
    assert told(content, "stopping").startswith(
        "until half-width <= 2 % of total delay; not met in every case"
    )


@pytest.mark.parametrize("missing", ["manifest.json", "results.parquet", "curves.parquet", "summary.csv"])
def test_a_folder_without_one_of_its_files_is_told(bandwidth, missing):
    (bandwidth / missing).unlink()
    with pytest.raises(RecordError, match=missing):
        write_report(bandwidth)
