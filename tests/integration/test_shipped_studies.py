"""The studies that come along: each is checked, and played in small."""

from pathlib import Path

import pytest

from cosim.cli import answer
from cosim.control.decision import Plan
from cosim.report.study.content import study_content
from cosim.report.study.record import StudyRecord
from cosim.studies.load import load_study
from cosim.studies.plan import make_plan
from cosim.studies.results import Results
from cosim.studies.run_study import run_study

pytestmark = pytest.mark.usefixtures("here", "without_bounds")

FOLDER = Path(__file__).parents[2] / "scenarios" / "studies"
STUDIES = sorted(path.stem for path in FOLDER.glob("*.toml"))
QUESTIONS = (
    *("bandwidth", "rician_k", "coherence_time", "doppler", "shadowing", "cell_radius", "receiver"),
    *("blockage", "clients", "constant_bandwidth", "what_matters", "latency_limit", "thousand_channels"),
)


@pytest.fixture
def without_bounds(monkeypatch) -> None:
    """Prove no bounds on what is played: they take longer than the rest, and no study here asks for one."""

    def as_it_is(state: object, allocation: object, plan: Plan, allocator: object) -> Plan:
        return plan

    monkeypatch.setattr("cosim.control.bounding.with_bound", as_it_is)


def test_every_question_about_the_channel_has_a_study():
    assert sorted(QUESTIONS) == STUDIES


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_that_comes_along_is_fine(name, capsys):
    assert answer(["check", str(FOLDER / f"{name}.toml")]) == 0
    assert capsys.readouterr().out.startswith(f"{name}: fine")


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_says_what_it_asks_and_compares_or_ranks(name):
    plan = make_plan(load_study(FOLDER / f"{name}.toml"))
    assert "?" in plan.study.description
    assert plan.study.replications > 1
    assert plan.study.vary.latin_hypercube or any(case.baseline for case in plan.cases)


def small(name, tmp_path, changes, cases=None):
    """Return what a study shows, played with one short round and without tensors."""
    study = load_study(FOLDER / f"{name}.toml")
    shared = {**study.set, "scheme.num_rounds": 1, "scheme.local_steps": 2}
    measures = tuple(one for one in study.measures if not one.learned and one.name != "eval_loss")
    given = {"set": shared, "timing_only": True, "measures": measures, **changes}
    results = run_study(study.model_copy(update=given), tmp_path / name, workers=1)
    assert results.manifest["failed"] == []
    return study_content(StudyRecord.open(results.path))


def test_a_wider_band_is_quicker_for_every_allocator(tmp_path):
    content = small("bandwidth", tmp_path, {"replications": 2})
    for line in content["measures"][0]["response"]["lines"]:
        assert line["mean"] == sorted(line["mean"], reverse=True)


def test_the_longer_a_round_may_last_the_more_gets_through(tmp_path):
    changes = {"replications": 2, "set": {"scheme.num_rounds": 2, "scheme.local_steps": 2}}
    content = small("latency_limit", tmp_path, changes)
    bits, total, _ = content["measures"]
    for line in bits["response"]["lines"]:
        assert line["mean"] == sorted(line["mean"])
    for case, row in zip(content["cases"], total["cases"], strict=True):
        if "round_deadline" in case["name"]:
            limit_s = float(case["name"].partition("latency_limit_s=")[2].partition(",")[0])
            assert row["mean"] <= 2 * limit_s * 1.05  # the air may change in the middle of a round


def test_channels_of_one_training_differ_in_their_air_alone(tmp_path):
    small("thousand_channels", tmp_path, {"replications": 4})
    table = Results.open(tmp_path / "thousand_channels").table.to_pylist()
    total_s = [row["value"] for row in table if row["measure"] == "total_s"]
    assert len(set(total_s)) == len(total_s) == 8
    plan = make_plan(load_study(FOLDER / "thousand_channels.toml"))
    assert [plan.cases[0].replication(number).radio.seed for number in range(3)] == [1, 2, 3]
    assert plan.cases[0].replication(2).seed == plan.cases[0].scenario.seed


def test_a_db_of_the_receiver_is_a_db_of_the_gap(tmp_path):
    """Uplinks and downlinks have one noise figure and one rate model: both only divide the SNR."""
    few = {"scheme.num_rounds": 1, "scheme.local_steps": 1, "clients.count": 2}
    shared = {**load_study(FOLDER / "receiver.toml").set, **few}
    content = small("receiver", tmp_path, {"replications": 2, "set": shared})
    (heat,) = content["measures"][0]["heat"]
    means = heat["mean"]
    for row in range(3):
        assert means[row][1:] == pytest.approx(means[row + 1][:-1], rel=1e-6)


def test_a_blockage_costs_more_the_deeper_and_the_longer_it_is_and_never_more_than_its_time(tmp_path):
    shared = {"replications": 2, "set": {**load_study(FOLDER / "blockage.toml").set, "scheme.num_rounds": 3}}
    rows = {}
    content = small("blockage", tmp_path, shared)
    for case, row in zip(content["cases"], content["measures"][0]["cases"], strict=True):
        rows[case["label"]] = row["difference"]
    for allocator in ("equal", "time_shared"):
        costs = [rows[f"{allocator}, {depth} dB for {length} s"] for depth in (10, 20) for length in (2, 8)]
        assert 0.0 <= costs[0] <= costs[2] <= 2.0 + 1e-9
        assert costs[0] <= costs[1] <= costs[3] <= 8.0 + 1e-9


def test_a_constant_rate_sees_no_band_and_hides_the_spread(tmp_path):
    content = small("constant_bandwidth", tmp_path, {"replications": 3})
    cases = dict(
        zip((one["label"] for one in content["cases"]), content["measures"][0]["cases"], strict=True)
    )
    constant = [row["mean"] for label, row in cases.items() if "each" in label]
    real = [row["mean"] for label, row in cases.items() if "real" in label]
    assert constant == pytest.approx([constant[0]] * 4)
    assert real == sorted(real, reverse=True)
    width = {label: row["high"] - row["low"] for label, row in cases.items() if "10 MHz" in label}
    assert (
        max(width["10 MHz, 16 Mbit/s each"], width["10 MHz, 6 bit/s per Hz"]) < 0.25 * width["10 MHz, real"]
    )
