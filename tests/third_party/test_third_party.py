"""A distribution of another project with one part of every family: installed, it is as good as cosim's own.

The parts are in ``far_parts``; nothing in the tests or in cosim names them.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cosim.cli.listing import every_family

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
BROKEN = "far_broken"
KINDS = set(PROJECT["entry-points"]["cosim.parts"]) - {BROKEN}

SCENARIO = """
task_policy = {{ kind = "far_newest" }}
model = {{ base = {{ kind = "far_scaled", tokenizer_path = {tokenizer!r} }} }}
data = {{ sequence_length = 48, source = {{ kind = "far_sums" }}, partition = {{ kind = "far_in_order" }} }}
clients = {{ count = 3 }}
allocator = {{ kind = "far_contiguous" }}

[training]
batch_size = 2
gradients = {{ kind = "far_unit_length" }}
optimizer = {{ kind = "far_sign_descent", learning_rate = 1e-2 }}

[scheme]
kind = "federated"
num_rounds = 2
local_steps = 2
aggregator = {{ kind = "far_median" }}
adapter_codec = {{ kind = "far_sign" }}
regularizer = {{ kind = "far_shrink" }}
local_rule = {{ kind = "far_tether" }}
weights = {{ kind = "far_rooted" }}

[radio]
access = {{ kind = "far_alone" }}
base_stations = {{ kind = "far_pair" }}
csi = {{ kind = "far_wary" }}
duplex = {{ kind = "far_alternate" }}
fading = {{ kind = "far_blocked", coherence_time_s = 0.01 }}
interference = {{ kind = "far_jammer" }}
medium = {{ kind = "far_pilots" }}
mobility = {{ kind = "far_drift" }}
path_loss = {{ kind = "far_dual_slope" }}
placement = {{ kind = "far_street" }}
rate = {{ kind = "far_truncated" }}
shadowing = {{ kind = "far_indoor" }}
surface = {{ kind = "far_mirror" }}
"""
STEPS = (
    *("--set", "scheme.adapter_codec.kind=none"),
    *("--set", "scheme.aggregator.kind=fedavg"),
    *("--set", "scheme.update=[{ kind = 'far_rounded' }]"),
    *("--set", "scheme.server_optimizer.kind=far_lagging"),
)
CONTRACT = """
from {module} import {name}

from cosim.testing import contract

globals().update(contract({name}))
"""
STUDY = """
base = "far.toml"
timing_only = true
replications = 2
measures = ["far_longest"]

[vary.grid]
"clients.count" = [3, 4]
"""
PROGRAM = """
import gc, io, json, sys
gc.disable()  # what is loaded stays
from contextlib import redirect_stderr, redirect_stdout

import pytest

from cosim.cli import answer

asked, answers = json.load(sys.stdin), {}
for name, command in asked["commands"].items():
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = answer(command)
    answers[name] = status, out.getvalue(), err.getvalue()
from cosim.cli.listing import every_family

families = {one.place: list(one.parts) for one in every_family()}
status = int(pytest.main(asked["pytest"]))
with open(asked["answer"], "w") as file:
    json.dump({"answers": answers, "families": families, "pytest": status}, file)
"""


def install(site: Path) -> None:
    """Put the distribution into a folder of packages, as pip would leave it there."""
    shutil.copytree(HERE / "far_parts", site / "far_parts", ignore=shutil.ignore_patterns("__pycache__"))
    name, version = PROJECT["name"], PROJECT["version"]
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    parts = PROJECT["entry-points"]["cosim.parts"].items()
    lines = "".join(f"{part} = {place}\n" for part, place in parts)
    (info / "entry_points.txt").write_text(f"[cosim.parts]\n{lines}")


@pytest.fixture(scope="module")
def found(tmp_path_factory, tokenizer_path):
    """Return what commands answer and what contract tests say where the distribution is installed."""
    folder = tmp_path_factory.mktemp("third party")
    site = folder / "site"
    site.mkdir()
    install(site)
    file, tail = folder / "far.toml", "trainable={ kind = 'far_tail' }"
    scheme = "scheme={ kind = 'far_relay', num_rounds = 2, local_steps = 2 }"
    relay = ["--set", scheme, "--set", "task_policy="]  # it takes no turns
    file.write_text(SCENARIO.format(tokenizer=str(tokenizer_path)))
    (folder / "study.toml").write_text(STUDY)
    report, contracts = folder / "report.xml", folder / "contracts"
    contracts.mkdir()
    for kind in KINDS:
        module, _, name = PROJECT["entry-points"]["cosim.parts"][kind].partition(":")
        (contracts / f"test_{kind}.py").write_text(CONTRACT.format(module=module, name=name))
    asked = {
        "commands": {
            "check": ["check", str(file)],
            "run": ["run", str(file), "--out", str(folder / "run")],
            "relay": ["run", str(file), *relay, "--timing-only", "--out", str(folder / "relay")],
            "steps": ["run", str(file), *STEPS, "--out", str(folder / "steps")],
            "tail": ["run", str(file), *relay, "--set", tail, "--out", str(folder / "tail")],
            "study": ["check", str(folder / "study.toml")],
        },
        "pytest": [
            *(str(contracts), str(HERE.parent / "contracts" / "test_every_plane.py")),
            *("-c", str(HERE.parents[1] / "pyproject.toml"), f"--junitxml={report}"),
            *("-q", "-k", "far_", "-p", "no:cacheprovider"),
            *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
        ],
        "answer": str(folder / "answer.json"),
    }
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": path},
        cwd=HERE.parent.parent,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(Path(asked["answer"]).read_text())
    assert told["pytest"] == 0, done.stdout
    return told | {"passed": list(passed_tests(report)), "folder": folder}


def passed_tests(report: Path) -> Iterator[str]:
    """Return the names of the tests that ran and passed."""
    for case in ElementTree.parse(report).iter("testcase"):
        if not len(case):
            yield case.attrib["name"]


def the_distribution_has_a_part_of_every_family(found):
    assert found["families"].keys() == {one.place for one in every_family()}
    missing = [place for place, kinds in found["families"].items() if not KINDS.intersection(kinds)]
    assert not missing, f"write a part of another package for {', '.join(missing)}, in tests/third_party"
    assert {kind for kinds in found["families"].values() for kind in kinds} >= KINDS


def the_contract_tests_of_its_family_run_on_every_part(found):
    unmet = {kind for kind in KINDS if not any(f"{kind}-" in name for name in found["passed"])}
    assert not unmet, f"no contract test met {', '.join(sorted(unmet))}"


def a_scenario_of_such_parts_is_checked_and_run(found):
    answers = found["answers"]
    assert {name: status for name, (status, *_) in answers.items()} == dict.fromkeys(answers, 0), answers
    assert (found["folder"] / "run" / "adapter" / "adapter_model.safetensors").is_file()
    assert (found["folder"] / "tail" / "model" / "tail.safetensors").is_file()
    assert (found["folder"] / "relay" / "spans.parquet").is_file()


def the_part_that_does_not_load_is_named_with_its_package_and_the_others_go_on(found):
    (line,) = {
        line for _, _, err in found["answers"].values() for line in err.splitlines() if "left out" in line
    }
    assert line.startswith(f"warning: part {BROKEN!r} of package far-parts 2.1 (")
    assert "does not load: ModuleNotFoundError: No module named 'far_library_that_nobody_has'" in line


def test_installed_parts_of_every_family_keep_its_contract(found):
    """One test, so that one worker installs and runs them once."""
    the_distribution_has_a_part_of_every_family(found)
    the_contract_tests_of_its_family_run_on_every_part(found)
    a_scenario_of_such_parts_is_checked_and_run(found)
    the_part_that_does_not_load_is_named_with_its_package_and_the_others_go_on(found)
