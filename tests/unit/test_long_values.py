"""No message repeats a long value in full, whichever setting it was given for."""

import pytest
import tomli_w

from cosim.cli import answer
from cosim.errors import ScenarioError
from cosim.record.folder import Record
from cosim.scenario.catalogue import json_schema
from cosim.scenario.load import change, to_dict
from cosim.studies.load import load_study

LONG, LONGEST_LINE = "x/" * 5_000, 900


def leaves(value, path=()):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    yield ".".join(path)


def longest_line(refused):
    """Return the length of the longest line of a refusal; 0 where nothing is refused."""
    try:
        refused()
    except ScenarioError as fault:
        return max(map(len, str(fault).splitlines()))
    return 0


@pytest.mark.parametrize(
    "value", [LONG, [LONG] * 3, {"kind": LONG}, {LONG: LONG}], ids=["text", "list", "kind", "name"]
)
def test_no_setting_repeats_a_long_value(value, tiny_scenario):
    scenario = tiny_scenario()
    paths = list(filter(None, leaves(to_dict(scenario))))
    longest = [longest_line(lambda path=path: change(scenario, {path: value})) for path in paths]
    assert max(longest) < LONGEST_LINE, paths[longest.index(max(longest))]
    assert sum(map(bool, longest)) > 20


def test_no_setting_of_a_study_repeats_a_long_value(tmp_path):
    file = tmp_path / "study.toml"
    for name in json_schema_names():
        study = {"base": "base.toml", "vary": {"grid": {"lora.rank": [1, 2]}}, name: LONG}
        file.write_text(tomli_w.dumps(study), encoding="utf-8")
        assert longest_line(lambda: load_study(file)) < LONGEST_LINE, name


def json_schema_names():
    from cosim.studies.settings import Study

    return list(json_schema(Study, "cosim study")["properties"])


def test_a_run_into_the_current_folder_and_into_names_too_long(tmp_path, tiny_scenario, monkeypatch, capsys):
    file, folder = tmp_path / "tiny.toml", tmp_path / "empty"
    file.write_text(tomli_w.dumps(to_dict(tiny_scenario({"scheme.num_rounds": 1}))), encoding="utf-8")
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert answer(["run", str(file), "--timing-only", "--out", "."]) == 0
    assert Record.open(folder).status == "complete"
    assert answer(["run", str(file), "--timing-only", "--out", "."]) == 2
    capsys.readouterr()
    for arguments in (
        ["run", str(file), "--timing-only", "--out", "y" * 300],
        ["timeline", ".", "--html", "y" * 300],
    ):
        assert answer(arguments) == 2
        *_, line = capsys.readouterr().err.splitlines()
        assert "this should not happen" not in line
        assert "File name too long" in line
