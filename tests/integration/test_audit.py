"""Audits from a file or from scenarios to their folder, played without a tensor."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from cosim.audits import TOGETHER
from cosim.audits.load import known_turns, load_audit
from cosim.audits.plan import plan_audit
from cosim.audits.run_audit import run_audit
from cosim.cli import answer
from cosim.scenario.load import to_toml

pytestmark = pytest.mark.usefixtures("here")

SHIPPED = Path(__file__).parents[2] / "scenarios" / "audits"
HEAD = """
base = "tiny.toml"
timing_only = true
engine = "events"
replications = 2
measures = ["total_s", "energy_j"]
set = { "scheme.num_rounds" = 1, "scheme.local_steps" = 1 }
"""
TWO = """
[[alternatives]]
name = "equal"

[[alternatives]]
name = "in time"
set = { "allocator.kind" = "time_shared" }
"""
NAMED = 'assumptions = ["transport", "synchronisation"]\n'


@pytest.fixture(scope="module")
def place(tiny_scenario, tmp_path_factory):
    """Return a folder with the tiny scenario and an audit of it."""
    folder = tmp_path_factory.mktemp("audits")
    (folder / "tiny.toml").write_text(to_toml(tiny_scenario({"allocator.kind": "equal"})), encoding="utf-8")
    own = '\n[[turns]]\nname = "noise"\nset = { "radio.noise_figure_db" = 12.0 }\n'
    chosen = NAMED.replace("]", ', "noise"]')
    (folder / "one.toml").write_text(HEAD + chosen + TWO + own, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def played(place):
    """Return the folder of an audit that has ended."""
    with pytest.MonkeyPatch.context() as patch:
        from here import Here

        patch.setattr("cosim.studies.run_study.Processes", Here)
        assert answer(["audit", str(place / "one.toml"), "--out", str(place / "out")]) == 0
    return place / "out"


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_an_audit_has_every_file_and_says_what_it_could_not_turn(played):
    found = json.loads((played / "audit.json").read_text())
    assert {one.name for one in played.glob("audit.*")} == {
        f"audit.{end}" for end in ("html", "json", "pdf", "png")
    }
    turned = [one["name"] for one in found["turns"]]
    assert turned[1:] == ["transport", "noise", TOGETHER]
    assert {one["turn"] for one in found["left_out"]} == {"synchronisation"}
    page = (played / "audit.html").read_text()
    assert "no such setting" in page
    moves = rows_of(played / "moves.csv")
    assert len(moves) == 2 * len(turned) * 2
    assert all(
        float(row["moved"]) > 0.0
        for row in moves
        if row["turn"] == "transport" and row["measure"] == "total_s"
    )
    assert {row["verdict"] for row in rows_of(played / "ranking.csv")} <= {
        "ahead",
        "behind",
        "undecided",
        "equal",
    }


def test_the_same_command_goes_on_and_makes_only_what_is_missing(played, place, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(played, folder)
    before = (folder / "audit.json").read_bytes()
    shutil.rmtree(next((folder / "runs").glob("in_time_transport-*")))
    run_audit(plan_audit(load_audit([place / "one.toml"])), folder)
    assert json.loads((folder / "manifest.json").read_text())["runs"]["made"] == 2
    assert (folder / "audit.json").read_bytes() == before


def test_scenarios_and_changes_are_alternatives_and_a_dry_run_makes_nothing(
    place, tiny_scenario, tmp_path, monkeypatch
):
    (tmp_path / "other.toml").write_text(to_toml(tiny_scenario({"lora.rank": 2})), encoding="utf-8")
    monkeypatch.chdir(place.parent)
    files = [f"{place.name}/tiny.toml", str(tmp_path / "other.toml")]
    audit = load_audit([Path(one) for one in files], ["allocator.kind=time_shared"], "tiny")
    assert [one.name for one in audit.alternatives] == ["tiny", "other", "allocator.kind=time_shared"]
    assert audit.proposed == "tiny"
    chosen = audit.model_copy(update={"assumptions": ("transport", "radio energy")})
    plan = plan_audit(chosen, seed=5).plan
    assert {case.scenario.seed for case in plan.cases} == {5}
    assert len(plan.cases) == 3 * 4


def test_check_says_what_an_audit_would_do(place, capsys):
    assert answer(["check", str(place / "one.toml")]) == 0
    told = capsys.readouterr().out
    assert told.startswith("one: fine, 8 case(s), 16 runs, seeds 3 to 4")
    assert "not turned synchronisation: equal, in time: radio.medium" in told


BAD = {
    "one alternative": (HEAD + TWO[: TWO.index("[[", 5)], "at least 2 entr"),
    "twice": (HEAD + TWO.replace("in time", "equal"), "two are named 'equal'"),
    "reserved": (HEAD + TWO.replace("in time", "as published"), "the audit itself calls a case"),
    "unknown proposed": (HEAD + 'proposed = "equl"\n' + TWO, "did you mean 'equal'?"),
    "unknown turn": (HEAD + 'assumptions = ["fadin"]\n' + TWO, "did you mean 'fading'?"),
    "vary": (HEAD + TWO + '[vary.grid]\n"lora.rank" = [1, 2]\n', "an audit varies its alternatives"),
    "the same": (HEAD + TWO.replace("time_shared", "equal"), "are the same run"),
    "nothing turns": (HEAD + 'assumptions = ["synchronisation"]\n' + TWO, "no assumption can be turned"),
    "a fault of one": (HEAD + TWO.replace("time_shared", "time_share"), "alternatives.in time: allocator"),
    "learned": (HEAD.replace('"energy_j"', "{ kind = 'time_to_loss', level = 2.0 }") + TWO, "timing_only"),
}


@pytest.mark.parametrize("which", BAD)
def test_a_bad_audit_is_refused_in_a_line_with_its_place(which, place, capsys):
    text, told = BAD[which]
    (place / "bad.toml").write_text(text, encoding="utf-8")
    assert answer(["audit", str(place / "bad.toml"), "--out", str(place / "none")]) == 2
    fault = capsys.readouterr().err
    assert told in fault
    assert "Traceback" not in fault
    assert not (place / "none").exists()


def test_one_scenario_alone_and_an_audit_among_scenarios_are_refused(place, capsys):
    assert answer(["audit", str(place / "tiny.toml")]) == 2
    assert "--against" in capsys.readouterr().err
    assert answer(["audit", str(place / "one.toml"), str(place / "tiny.toml")]) == 2
    assert "give it alone" in capsys.readouterr().err


def test_every_turn_that_comes_along_says_what_it_turns_and_from_where():
    assert all(one.title and one.assumption and one.source for one in known_turns())


@pytest.mark.parametrize("name", ["fedsllm", "soft_tsfa"])
def test_an_audit_that_comes_along_loads_quick_and_whole(name):
    audit = load_audit([SHIPPED / f"{name}.toml"])
    assert audit.timing_only
    assert audit.proposed in [one.name for one in audit.alternatives]
    quick = audit.quickly()
    assert quick.name == f"{name}-quick"
    assert any(one.learned for one in quick.measures)
    assert quick.alternatives == audit.alternatives


def test_the_file_on_the_page_is_an_audit(place, tiny_scenario):
    page = (Path(__file__).parents[2] / "docs/guide/audits.md").read_text(encoding="utf-8")
    (fragment,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (place / "page.toml").write_text(fragment.replace("fedsllm.toml", "base.toml"), encoding="utf-8")
    (place / "base.toml").write_text(to_toml(tiny_scenario({"allocator.kind": "time_shared"})))
    audit = load_audit([place / "page.toml"]).model_copy(update={"assumptions": ("noisy receiver",)})
    assert [one.name for one in plan_audit(audit).turns] == ["as published", "noisy receiver"]
    assert all(f"| {one.name} |" in page for one in known_turns())
