"""A package of one's own to begin from, for every family."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from cosim.cli import answer
from cosim.cli.listing import every_family
from cosim.cli.new_part import package, write_package
from cosim.errors import ScenarioError
from cosim.parts import Part, family
from cosim.scenario.load import load
from cosim.testing import PART, contract

FAMILIES = {one.place: one for one in every_family()}
PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("place", FAMILIES)
def test_every_part_can_be_begun_from(place):
    family = FAMILIES[place]
    own = [part for part in family.parts.values() if part.__module__.startswith("cosim.")]
    assert own
    for original in own:
        files = package(original, "one-of-mine")
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
        compile(files["tests/test_one_of_mine.py"], "test_one_of_mine.py", "exec")


def test_a_package_is_written_once(tmp_path):
    told = write_package("fading", "my-fading", "rayleigh_block", tmp_path / "my-fading")
    assert "a copy of 'rayleigh_block'" in told[0]
    written = {
        str(path.relative_to(tmp_path / "my-fading")) for path in tmp_path.rglob("*") if path.is_file()
    }
    assert written == {
        *(
            "pyproject.toml",
            "README.md",
            "my_fading/__init__.py",
            "my_fading/part.py",
            "tests/test_my_fading.py",
        )
    }


@pytest.fixture
def register(monkeypatch):
    """Return what makes a part known as an installed package does, while a test lasts."""

    def registered(source, name):
        module = ModuleType("mine_alone.part")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(source, "part.py", "exec"), module.__dict__)
        family.cache_clear()
        return getattr(module, name)

    yield registered
    monkeypatch.undo()
    family.cache_clear()


@pytest.mark.parametrize("place", {one.base: place for place, one in FAMILIES.items()}.values())
def test_the_contract_of_its_family_is_taken_for_one_part_alone(place, register):
    smallest = FAMILIES[place].parts[min(FAMILIES[place].parts)]
    part = register(package(smallest, "mine-alone")["mine_alone/part.py"], "MineAlone")
    found = contract(part)
    assert found[PART] is part
    assert any(name.lower().startswith("test") for name in found)
    ids = [
        one.id
        for test in found.values()
        for mark in getattr(test, "pytestmark", ())
        if mark.name == "parametrize"
        for one in mark.args[1]
        if hasattr(one, "id")
    ]
    assert all(one.startswith("mine_alone-") for one in ids if one)
    assert contract(FAMILIES[place].base).keys() <= found.keys()


def test_a_part_that_no_scenario_finds_is_refused_with_its_file():
    class Lost(FAMILIES["radio.fading"].parts["none"]):
        """Claims the kind of another one."""

    with pytest.raises(ValueError, match=r"Lost' of .*test_new_part.py.*: scenarios do not find it"):
        contract(Lost)


@pytest.mark.slow
def test_the_package_of_every_family_passes_as_generated_and_a_part_that_fails_is_named(tmp_path):
    """As pip would install them, in a process of their own; one of them is then broken."""
    site = tmp_path / "site"
    names = {place: f"mine-{place.replace('.', '-').replace('_', '-')}" for place in FAMILIES}
    for place, name in names.items():
        write_package(place, name, None, tmp_path / name)
        kind = name.replace("-", "_")
        (site / f"{kind}-0.1.dist-info").mkdir(parents=True)
        (tmp_path / name / kind).rename(site / kind)
        entries = tomllib.loads((tmp_path / name / "pyproject.toml").read_text())["project"]["entry-points"]
        lines = "\n".join(f"{key} = {value}" for key, value in entries["cosim.parts"].items())
        (site / f"{kind}-0.1.dist-info" / "entry_points.txt").write_text(f"[cosim.parts]\n{lines}\n")
        (site / f"{kind}-0.1.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n"
        )

    def tested(*folders):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, folders)],
            env={**os.environ, "PYTHONPATH": str(site)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    status, out = tested(*(tmp_path / name for name in names.values()))
    assert status == 0, out[-6000:]
    part = site / "mine_radio_rate" / "part.py"
    part.write_text(part.read_text().replace("return np.asarray(", "return -np.asarray("))
    status, out = tested(tmp_path / "mine-radio-rate")
    assert status == 1, out[-6000:]
    assert f"part 'mine_radio_rate' of package mine-radio-rate 0.1 ({part})" in out


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
