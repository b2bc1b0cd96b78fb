"""A package of one's own to begin from, for every family."""

import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from cosim.cli import answer
from cosim.cli.listing import every_family
from cosim.cli.new_part import package, write_package
from cosim.errors import ScenarioError
from cosim.parts import Part
from cosim.scenario.load import load

FAMILIES = {one.place: one for one in every_family()}


@pytest.mark.parametrize("place", FAMILIES)
def test_every_part_can_be_begun_from(place):
    family = FAMILIES[place]
    own = [part for part in family.parts.values() if part.__module__.startswith("cosim.")]
    assert own
    for original in own:
        files = package(family.base, original, "one-of-mine")
        entry = tomllib.loads(files["pyproject.toml"])["project"]["entry-points"]["cosim.parts"]
        assert entry == {"one_of_mine": "one_of_mine.part:OneOfMine"}
        module = ModuleType("one_of_mine.part")  # never among sys.modules, so that no family takes it
        exec(compile(files["one_of_mine/part.py"], "part.py", "exec"), module.__dict__)
        part = module.OneOfMine
        assert issubclass(part, family.base)
        assert issubclass(part, Part)
        assert part.model_fields["kind"].default == "one_of_mine"
        assert part.model_fields.keys() == original.model_fields.keys()
        assert not part.former_kinds
        compile(files["tests/test_part.py"], "test_part.py", "exec")


def test_a_package_is_written_once(tmp_path):
    told = write_package("fading", "my-fading", "rayleigh_block", tmp_path / "my-fading")
    assert "a copy of 'rayleigh_block'" in told[0]
    written = {
        str(path.relative_to(tmp_path / "my-fading")) for path in tmp_path.rglob("*") if path.is_file()
    }
    assert written == {
        *("pyproject.toml", "README.md", "my_fading/__init__.py", "my_fading/part.py", "tests/test_part.py")
    }


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("fade", "mine", None), "no family 'fade'; known: scheme"),
        (("fading", "mine", "ricean"), "--like 'ricean': the family radio.fading has cdl, jakes"),
        (("fading", "My Fading", None), "named by small letters"),
        (("fading", "rician", None), "has a kind 'rician' already"),
        (("fading", "json", None), "the name of another package"),
    ],
)
def test_a_wrong_wish_is_one_line(asked, told, tmp_path):
    with pytest.raises(ScenarioError, match=told) as caught:
        write_package(*asked, tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_new_scenario_can_run_and_every_shipped_one_states_which_downlinks_are_free(tmp_path, capsys):
    made = tmp_path / "mine.toml"
    assert answer(["new", "scenario", "mine", "--out", str(tmp_path / "mine")]) == 0
    assert answer(["check", str(made)]) == 0
    told = capsys.readouterr().out
    for line in (
        "federated_downlink: free",
        "path loss macro_3gpp",
        "log_normal (std_db 8",
        "rate: Shannon",
    ):
        assert line in told
    assert answer(["new", "scenario", "mine", "--out", str(made)]) == 2
    shipped = sorted((Path(__file__).parents[2] / "scenarios").glob("*.toml"))
    for file in (made, *shipped):
        scenario, stated = load(file), tomllib.loads(file.read_text(encoding="utf-8"))["radio"]
        used = {link.name for one in scenario.by_task.values() for link in one.scheme.links}
        unsaid = [
            name for name in used if name.endswith("downlink") and "modelled" not in stated.get(name, {})
        ]
        assert not unsaid, f"{file.name}: {unsaid}"
