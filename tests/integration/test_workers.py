"""Clients computed in several processes: the run is the same one, byte for byte."""

import re
import tomllib
from pathlib import Path

import pytest
from test_reproducibility import assert_same_bytes

from cosim.cli.overview import overview
from cosim.errors import DivergedError
from cosim.graph.processes import can_fork
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.runs import default_folder, run
from cosim.scenario.build import check
from cosim.scenario.load import change, read_dict, run_hash

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")

NOT_OF_THE_RUN = {"wall_s", "files", "digest"}


def played(scenario, place):
    """Return the record of a run, and the names of what its store holds, which are hashes of bytes."""
    store = Store(place / "store")
    record = Record.open(run(scenario, place / "run", store=store))
    return record, {one.path.name for one in store.bundles()}


@pytest.mark.parametrize("kind", ["federated", "split_federated"])
def test_a_run_is_the_same_in_any_number_of_processes(tiny_scenario, tmp_path, kind):
    runs = []
    for workers in (1, 2):
        scenario = tiny_scenario({"scheme.kind": kind, "training.workers": workers, "lora.dropout": 0.1})
        runs.append(played(scenario, tmp_path / str(workers)))
    (one, its_bundles), (two, bundles) = runs
    assert_same_bytes(one.path, two.path)
    assert its_bundles == bundles
    told = [
        {key: value for key, value in each.manifest.items() if key not in NOT_OF_THE_RUN}
        for each in (one, two)
    ]
    assert told[0] == told[1]


def test_a_training_diverges_in_the_same_place(tiny_scenario, tmp_path):
    told = []
    for workers in (1, 2):
        scenario = tiny_scenario(
            {
                "scheme.kind": "federated",
                "training.workers": workers,
                "training.optimizer": {"kind": "sgd", "learning_rate": 1e30},
            }
        )
        with pytest.raises(DivergedError) as fault:
            run(scenario, tmp_path / str(workers))
        told.append((str(fault.value), (tmp_path / str(workers) / "metrics.parquet").read_bytes()))
    assert told[0] == told[1]


def test_the_number_is_said_and_names_no_other_run(tiny_scenario):
    plain, many = tiny_scenario(), tiny_scenario({"training.workers": 2})
    assert run_hash(plain) == run_hash(many)
    assert default_folder(plain, timing_only=False) == default_folder(many, timing_only=False)
    assert "  workers    2 process(es) of one thread compute the clients" in list(overview(many))
    assert not [line for line in overview(plain) if "workers" in line]


@pytest.mark.parametrize(("share", "number"), [("", 3), ("1", 1), ("8", 3)])
def test_a_study_divides_the_cores_among_its_processes(tiny_scenario, monkeypatch, share, number):
    monkeypatch.setenv("COSIM_CORES", share)
    many = change(tiny_scenario(), {"training.workers": 3})
    assert f"{number} process(es)" in "\n".join(overview(many))


def test_the_scenario_of_the_page_is_one():
    page = (Path(__file__).parents[2] / "docs/guide/speed.md").read_text(encoding="utf-8")
    for fragment in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        assert check(read_dict(tomllib.loads(fragment), "page")) == []
