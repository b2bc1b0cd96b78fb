"""The store never answers for code that has changed since."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cosim
from cosim.graph import code_identity
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import check
from cosim.scenario.load import to_toml

PACKAGE = Path(cosim.__file__).parent


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Return a copy of the code, which keys are of in the place of the code that is loaded."""
    for file in (*(PACKAGE / "learning").rglob("*.py"), *(PACKAGE / "graph").rglob("*.py")):
        copy = tmp_path / "cosim" / file.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    for file in PACKAGE.glob("*.py"):
        shutil.copyfile(file, tmp_path / "cosim" / file.name)
    original, cached = code_identity.find_spec, (code_identity._spec, code_identity._follows)

    def elsewhere(name):
        found = code_identity.PathFinder.find_spec
        return found(name, [str(tmp_path)]) if name == "cosim" else original(name)

    monkeypatch.setattr(code_identity, "find_spec", elsewhere)
    for one in cached:
        one.cache_clear()
    yield tmp_path / "cosim"
    for one in cached:
        one.cache_clear()


def test_an_edited_helper_is_computed_again_and_an_edited_docstring_is_not(checkout, tmp_path, tiny_scenario):
    scenario = tiny_scenario({"scheme.num_rounds": 1, "scheme.aggregator": {"kind": "product_svd"}})
    sums, svd = (checkout / "learning/aggregator" / f"{name}.py" for name in ("sums", "product_svd"))
    edits = {
        "first": None,
        "again": None,
        "docstring of a helper": (sums, '"""Return', '"""It is said to return'),
        "comment": (sums, "\n\n\ndef ", "\n\n\n# a remark\ndef "),
        "part": (svd, "return ", "return 0 or "),
        "helper": (sums, "return ", "return 0 or "),
    }
    computed = {}
    for name, edit in edits.items():
        if edit is not None:
            path, old, new = edit
            assert old in path.read_text()
            path.write_text(path.read_text().replace(old, new))
        folder = run(scenario, tmp_path / name, store=Store(tmp_path / "store"))
        computed[name] = Record.open(folder).manifest["works"]["computed"]
    everything = computed.pop("first")
    assert everything > 0
    assert computed.pop("helper") == everything
    assert 0 < computed.pop("part") <= everything
    assert set(computed.values()) == {0}


def test_an_edited_trainable_is_computed_again(checkout, tmp_path, tiny_scenario):
    changes = {"scheme": {"kind": "federated", "num_rounds": 1, "local_steps": 1}, "trainable.kind": "full"}
    scenario, path, computed = tiny_scenario(changes), checkout / "learning/trainable/full.py", []
    for name in ("first", "again", "edited"):
        if name == "edited":
            assert "return parameters_of" in path.read_text()
            path.write_text(path.read_text().replace("return parameters_of", "return 0 or parameters_of"))
        folder = run(scenario, tmp_path / name, store=Store(tmp_path / "store"))
        computed.append(Record.open(folder).manifest["works"]["computed"])
    assert computed[0] == computed[2] > 0 == computed[1]


def test_a_check_reads_no_code(tiny_scenario, monkeypatch):
    monkeypatch.setattr(code_identity, "_read", None)
    assert check(tiny_scenario()) == []


PART = '''
from typing import ClassVar, Literal

from {name}_helper import middle

from cosim.learning.aggregator import Aggregator, Average


class Middle(Aggregator):
    """Each number in the middle of those that were sent."""

    kind: Literal["middle"] = "middle"
    examples: ClassVar = ({{}},)

    @property
    def needs(self):
        return "individual"

    def aggregate(self, uploads, weights, server):
        return Average({{name: middle([one[name] for one in uploads]) for name in uploads[0]}}, {{}})
'''
HELPER = '''
import torch


def middle(tensors):
    """Return the median."""
    return torch.stack(tensors).median(0).values
'''


@pytest.mark.slow
def test_a_part_of_another_package_that_was_edited_trains_again_to_other_losses(tmp_path, tiny_scenario):
    place = tmp_path / "checkout"
    info = place / "middle-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: middle\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[cosim.parts]\nmiddle = middle_part:Middle\n")
    (place / "middle_part.py").write_text(PART.format(name="middle"))
    helper = place / "middle_helper.py"
    helper.write_text(HELPER)
    text = to_toml(tiny_scenario({"scheme.num_rounds": 1}))
    file = tmp_path / "middle.toml"
    file.write_text(text.replace('kind = "fedavg"', 'kind = "middle"'))

    def trained(name):
        program = "from cosim.cli import main; main()"
        command = [sys.executable, "-c", program, "run", str(file), "--out", str(tmp_path / name)]
        path = os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": path, "COSIM_STORE": str(tmp_path / "store")}
        subprocess.run(command, check=True, capture_output=True, env=environment, cwd=PACKAGE.parent)
        return json.loads((tmp_path / name / "manifest.json").read_text())

    first, again = trained("first"), trained("again")
    helper.write_text(HELPER.replace("Return the median", "Return what is in the middle"))
    told = trained("docstring")
    helper.write_text(HELPER.replace("median(0).values", "amin(0)"))
    edited = trained("edited")
    assert [one["works"]["computed"] for one in (again, told)] == [0, 0]
    assert first["works"]["computed"] > 0
    assert edited["works"]["computed"] > 0
    assert edited["fingerprints"]["learning"] != first["fingerprints"]["learning"]
    (part,) = first["parts"]
    assert (part["kind"], part["package"], part["version"]) == ("middle", "middle", "1.5")
    assert edited["parts"][0]["code"] != part["code"] == told["parts"][0]["code"]
