"""What every scheme keeps, run over each part's examples on a tiny scenario."""

from math import ceil

import pytest

from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.schemes import Scheme
from cosim.testing.selection import examples_of


@pytest.fixture(scope="module", params=examples_of(Scheme))
def scheme(request):
    return {"num_rounds": 3, "local_steps": 2, **request.param}


@pytest.fixture(scope="module")
def scenario(scheme, tiny_scenario):
    return tiny_scenario({"scheme": scheme, "training.optimizer.learning_rate": 2e-2})


@pytest.fixture(scope="module")
def record(scenario, tmp_path_factory):
    return Record.open(run(scenario, tmp_path_factory.mktemp("scheme") / "run"))


def learned(record, name):
    return [row for row in record.metrics.to_pylist() if row["name"] == name]


def test_it_plays_all_its_rounds_and_steps(scenario, record):
    rows = record.spans.to_pylist()
    assert record.status == "complete"
    assert {row["round"] for row in rows} == set(range(1, scenario.scheme.num_rounds + 1))
    assert {row["local_step"] for row in rows} - {0} == set(range(1, scenario.scheme.local_steps + 1))


def test_rounds_follow_each_other(scenario, record):
    if not scenario.scheme.is_synchronous:
        pytest.skip("its rounds overlap")
    rows = record.spans.to_pylist()
    ends = {}
    for row in rows:
        ends[row["round"]] = max(ends.get(row["round"], 0), row["end_ns"])
    for row in rows:
        assert row["round"] == 1 or row["asked_ns"] >= ends[row["round"] - 1]


def test_every_span_after_the_first_has_a_cause(record):
    for row in record.spans.to_pylist():
        assert row["parents"] or row["asked_ns"] == 0
        assert all(parent < row["id"] for parent in row["parents"])


def test_compute_has_flop_and_no_peer_and_transfers_have_bits_and_one(record):
    for row in record.spans.to_pylist():
        if row["kind"] == "compute":
            assert (row["bits"], row["peer"]) == (0, "")
            assert row["flop"] >= 0
        else:
            assert row["kind"] == "transfer"
            assert row["bits"] > 0
            assert row["flop"] == 0
            assert row["peer"] != row["actor"]
        assert len(row["node"]) == 32


def test_it_sends_over_the_links_it_names_and_no_others(scenario, record):
    def link(row):
        up = row["actor"].startswith("client-")
        server = (row["peer"] if up else row["actor"]).removesuffix("-server")
        return f"{server}_{'uplink' if up else 'downlink'}"

    used = {link(row) for row in record.spans.to_pylist() if row["kind"] == "transfer"}
    assert used <= {one.name for one in scenario.scheme.links}


def test_every_mini_batch_has_a_loss(scenario, record):
    at = {(row["round"], row["local_step"], row["actor"]) for row in learned(record, "train_loss")}
    num_clients = ceil(getattr(scenario.scheme, "participation", 1.0) * scenario.num_clients)
    if not scenario.scheme.is_synchronous:  # a round is of the clients whose uploads are in it
        senders = {
            (row["round"], row["actor"]) for row in record.spans.to_pylist() if row["kind"] == "transfer"
        }
        num_clients = (
            len({one for one in senders if one[1].startswith("client-")}) / scenario.scheme.num_rounds
        )
    assert len(at) == scenario.scheme.num_rounds * scenario.scheme.local_steps * num_clients


def test_it_is_evaluated_before_and_after_and_learns(scenario, record):
    losses = {row["round"]: row["value"] for row in learned(record, "eval_loss")}
    assert {0, scenario.scheme.num_rounds} <= losses.keys()
    assert losses[scenario.scheme.num_rounds] < losses[0] - 1e-3


def test_what_it_learns_is_saved(record):
    assert (record.path / "adapter" / "adapter_model.safetensors").is_file()


def test_timing_alone_gives_the_same_spans(scenario, record, tmp_path):
    timed = run(scenario, tmp_path / "run", timing_only=True)
    assert (timed / "spans.parquet").read_bytes() == (record.path / "spans.parquet").read_bytes()


def test_its_memory_grows_with_the_rank(scenario):
    task = prepare(scenario).task
    small, large = (scenario.scheme.memory_bytes(task, 1, rank) for rank in (2, 16))
    assert small.keys() == large.keys() <= {"client", "main-server"}
    assert small
    assert all(0 < small[who] < large[who] for who in small)
