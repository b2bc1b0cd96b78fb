"""A study has the same results whichever engine finds its times."""

import json

import pytest

from cosim.cli import answer
from cosim.errors import ScenarioError
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change, to_toml
from cosim.studies.run_study import run_study
from cosim.studies.settings import Study
from cosim.whatifs import opened, whatif

GRID = {
    "radio.seed": [1, 2],
    "radio.noise_figure_db": [5.0],
    "allocator.kind": ["equal", "fedsllm"],
}
MEASURES = [
    "total_s",
    "energy_j",
    {"kind": "energy_j", "actor": "client"},
    {"kind": "bits", "span": "gradient_download"},
]
LEARNED = [{"kind": "loss_at", "time_s": 0.05}, {"kind": "time_to_loss", "level": 5.7}, "eval_loss"]


@pytest.fixture(scope="module")
def file(tiny_scenario, tmp_path_factory):
    scenario = tiny_scenario({"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.01}})
    path = tmp_path_factory.mktemp("base") / "base.toml"
    path.write_text(to_toml(change(scenario, {"radio.main_downlink.modelled": True})))
    return path


def study_of(file, **more):
    given = {"name": "timed", "base": file, "replications": 1, "timing_only": True, "measures": MEASURES}
    return Study.model_validate({**given, "vary": {"grid": GRID}, **more})


def tables(folder):
    return [(folder / name).read_bytes() for name in ("results.parquet", "curves.parquet", "summary.csv")]


@pytest.mark.usefixtures("here")
def test_results_have_the_same_bytes_under_both_engines(file, tmp_path):
    made = {
        one: run_study(study_of(file, engine=one), tmp_path / one, workers=1) for one in ("events", "auto")
    }
    assert tables(tmp_path / "events") == tables(tmp_path / "auto")
    assert [made[one].manifest["timed"] for one in made] == [0, 4]
    timed = next(iter(sorted((tmp_path / "auto").glob("runs/*/0"))))
    assert Record.open(timed).manifest["engine"] == "tensor"
    played = tmp_path / "events" / timed.relative_to(tmp_path / "auto")
    opened(timed)
    for name in ("spans", "grants", "rounds", "metrics"):
        assert (timed / f"{name}.parquet").read_bytes() == (played / f"{name}.parquet").read_bytes()
    assert Record.open(timed).manifest["engine"] == "events"
    again = run_study(study_of(file), tmp_path / "auto", workers=1)
    assert (again.manifest["runs"]["kept"], again.manifest["timed"]) == (1, 3)
    assert tables(tmp_path / "events") == tables(tmp_path / "auto")


@pytest.mark.usefixtures("here")
def test_one_training_gives_the_losses_of_all_channels_over_their_times(file, tmp_path):
    grid = {"radio.seed": [1, 2, 3]}
    study = {
        "timing_only": False,
        "set": {"scheme.local_steps": 1},
        "measures": [*MEASURES, *LEARNED],
        "vary": {"grid": grid},
    }
    for engine in ("events", "tensor"):
        made = run_study(study_of(file, engine=engine, **study), tmp_path / engine, store=tmp_path / "store")
        assert made.manifest["timed"] == (2 if engine == "tensor" else 0)
    assert tables(tmp_path / "events") == tables(tmp_path / "tensor")


DEADLINE = {"scheme.local_steps": 1, "scheme.deadline_s": 0.002, "radio.noise_figure_db": 5.0}
UNEVEN = {"lora.target_modules": ["c_attn", "c_fc"], "scheme.adapter_codec": {"kind": "soft"}}


@pytest.mark.usefixtures("here")
def test_a_deadline_has_the_same_results_under_both_engines(file, tmp_path):
    study = {"set": DEADLINE, "vary": {"grid": {"radio.seed": [1, 2, 5]}}}
    for engine in ("events", "tensor"):
        run_study(study_of(file, engine=engine, **study), tmp_path / engine, workers=1)
    assert tables(tmp_path / "events") == tables(tmp_path / "tensor")


@pytest.mark.usefixtures("here")
def test_bits_that_values_decide_are_the_trainings_and_others_late_make_another_training(file, tmp_path):
    study = {
        "timing_only": False,
        "set": {**DEADLINE, **UNEVEN, "scheme.num_rounds": 1},
        "measures": [*MEASURES, *LEARNED, {"kind": "bits", "span": "adapter_upload"}],
        "vary": {"grid": {"radio.seed": [2, 3, 4, 6]}},
    }
    for engine in ("events", "auto"):
        made = run_study(study_of(file, engine=engine, **study), tmp_path / engine, store=tmp_path / "store")
        assert made.manifest["timed"] == (2 if engine == "auto" else 0)
    assert tables(tmp_path / "events") == tables(tmp_path / "auto")
    first, _, third, _ = sorted((tmp_path / "events").glob("runs/*/0"))
    timed = Record.open(whatif(first, {"radio.seed": 4}, out=tmp_path / "timed", engine="tensor"))
    assert timed.manifest["simulated_s"] == Record.open(third).manifest["simulated_s"]
    with pytest.raises(ScenarioError, match="other clients are late"):
        whatif(first, {"radio.seed": 6}, out=tmp_path / "late", engine="tensor")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"set": {"radio.access.kind": "reassign"}}, r"radio.access: 'reassign' re-rates transfers"),
        ({"measures": ["gap_to_bound"]}, r"measures: 'gap_to_bound' is read off more than times"),
    ],
)
def test_a_study_that_cannot_be_timed_is_refused_in_a_line_that_names_the_setting(file, tmp_path, more, told):
    study = study_of(file, engine="tensor", vary={"grid": {"radio.seed": [1, 2]}}, **more)
    with pytest.raises(ScenarioError, match=told) as refused:
        run_study(study, tmp_path / "out", workers=1)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_whatif_is_timed_when_asked_and_played_for_its_spans(file, tmp_path, tiny_scenario, capsys):
    scenario = tiny_scenario({"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.01}})
    before = run(scenario, tmp_path / "before", timing_only=True)
    changes = {"radio.seed": 5, "radio.noise_figure_db": 8.0}
    whatif(before, {"radio.seed": 6}, out=tmp_path / "first", engine="tensor")  # its clock is kept
    timed = Record.open(whatif(before, changes, out=tmp_path / "timed", engine="tensor"))
    played = Record.open(whatif(before, changes, out=tmp_path / "played"))
    assert timed.manifest["simulated_s"] == played.manifest["simulated_s"]
    assert (timed.status, timed.manifest["engine"]) == ("timed", "tensor")
    assert answer(["timeline", str(timed.path)]) == 0
    assert "played for its spans" in capsys.readouterr().err
    assert Record.open(timed.path).spans == played.spans
    command = ["whatif", str(before), "--set", "radio.seed=5", "--engine", "tensor", "--json", "--out"]
    assert answer([*command, str(tmp_path / "told")]) == 0
    lengths_s = json.loads(capsys.readouterr().out)["simulated_s"]
    assert lengths_s["before"] == Record.open(before).manifest["simulated_s"] != lengths_s["after"]
    assert answer(["whatif", str(before), "--set", "scheme.num_rounds=3", "--engine", "tensor"]) == 2
    assert "scheme: is not as in the run that was played" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_replications_that_are_added_are_timed_by_the_same_training(file, tmp_path):
    more = {"timing_only": False, "replicate": "radio.seed", "replications": 4, "max_replications": 9}
    study = {**more, "until": "half-width <= 0.001 %", "measures": ["total_s", "eval_loss"], "vary": {}}
    for engine in ("events", "tensor"):
        made = run_study(study_of(file, engine=engine, **study), tmp_path / engine, store=tmp_path / "store")
        assert made.manifest["timed"] == (8 if engine == "tensor" else 0)
    assert tables(tmp_path / "events") == tables(tmp_path / "tensor")
