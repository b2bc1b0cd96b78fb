"""A package of one's own to begin from, for every family."""

import tomllib
from types import ModuleType

import pytest

from cosim.cli.listing import every_family
from cosim.cli.new_part import package, write_package
from cosim.errors import ScenarioError
from cosim.parts import Part

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
