"""What ``import cosim`` offers to scripts and notebooks."""

import subprocess
import sys

import matplotlib as mpl
import pytest

import cosim
from cosim.errors import ScenarioError
from cosim.scenario.load import to_toml

mpl.use("agg")


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_scenario):
    """Return a folder with a scenario file, a store and the run of the scenario."""
    folder = tmp_path_factory.mktemp("interface")
    radio = {"kind": "rayleigh_block", "coherence_time_s": 0.01}
    (folder / "tiny.toml").write_text(to_toml(tiny_scenario({"radio.fading": radio})))
    cosim.run(str(folder / "tiny.toml"), folder / "first", store=folder / "store")
    return folder


def test_a_run_is_read_back_and_played_again(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("COSIM_STORE", str(place / "store"))
    run = cosim.open_run("first")
    wider = cosim.whatif(run, {"radio.main_uplink.bandwidth_hz": 40e6})
    assert wider.manifest["works"]["computed"] == 0
    assert wider.manifest["fingerprints"]["learning"] == run.manifest["fingerprints"]["learning"]
    again = cosim.whatif("first", {"radio.main_uplink.bandwidth_hz": 40e6})
    assert again.path == wider.path
    table = cosim.compare(run, wider)
    assert table.loc[str(wider.path), "simulated_s"] < table.loc["first", "simulated_s"]
    assert table["eval_loss"].nunique() == 1
    assert "bandwidth_hz" in table["differs"].iloc[1]
    timed = cosim.run(cosim.load("tiny.toml"), timing_only=True, changes={"scheme.num_rounds": 1})
    assert cosim.run("tiny.toml", timing_only=True, changes={"scheme.num_rounds": 1}).path == timed.path
    assert set(timed.frame("spans")["round"]) == {1}


def test_an_engine_that_is_none_is_refused(place):
    with pytest.raises(ScenarioError, match="engine: 'fast' is none of 'auto', 'events', 'tensor'"):
        cosim.whatif(place / "first", {"radio.seed": 2}, engine="fast")


def test_figures_are_axes_of_ones_own_or_new_ones(place):
    from matplotlib import pyplot

    run = cosim.open_run(place / "first")
    _, axes = pyplot.subplots(3)
    assert cosim.plot.timeline(run, rounds=(1, 2), ax=axes[0]) is axes[0]
    assert [label.get_text() for label in axes[0].get_yticklabels()][:1] == ["client-0"]
    assert cosim.plot.loss(run, ax=axes[1]).lines
    shares = [bar.get_width() for bar in cosim.plot.attribution(run, ax=axes[2]).patches]
    assert sum(shares) == pytest.approx(100.0)
    assert cosim.plot.attribution(str(run.path), by="actor").get_figure() is not axes[0].get_figure()
    pyplot.close("all")


def test_a_study_is_a_frame_and_a_figure(place):
    (place / "study.toml").write_text(
        'base = "tiny.toml"\nreplications = 2\ntiming_only = true\nmeasures = ["total_s"]\n'
        '[vary.grid]\n"radio.main_uplink.bandwidth_hz" = [5e6, 20e6]\n'
    )
    results = cosim.study(place / "study.toml", place / "study", workers=1)
    assert len(cosim.open_study(str(place / "study")).frame()) == len(results.frame()) == 4
    axes = cosim.plot.study(results)
    assert axes.get_title(loc="left") == "total delay"
    with pytest.raises(cosim.CosimError, match="has no panel 'cost'; it has 'total delay'"):
        cosim.plot.study(place / "study", "cost")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda place: cosim.load(place / "none.toml"), "there is no such file"),
        (lambda place: cosim.load(place / "tiny.toml", {"scheme.rounds": 3}), "^changes: scheme.rounds"),
        (lambda place: cosim.run(place / "tiny.toml", place / "first"), "^out: .*first is a run already"),
        (lambda place: cosim.compare(place / "first"), "at least two runs, got 1"),
        (lambda place: cosim.open_study(place / "first"), "study"),
    ],
)
def test_a_fault_is_one_line_about_an_argument(call, told, place):
    with pytest.raises(cosim.CosimError, match=told) as caught:
        call(place)
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value)


def test_the_package_is_imported_without_what_it_does_not_need():
    script = (
        "import sys; bare = set(sys.modules); import cosim; dir(cosim); new = sys.modules.keys() - bare; "
        "print(sorted(one for one in new if one.split('.')[0] not in sys.stdlib_module_names)); "
        "cosim.load; print({'torch', 'matplotlib', 'pandas'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", script]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert printed == ["['cosim']", "set()"]
