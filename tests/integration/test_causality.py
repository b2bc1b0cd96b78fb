"""What a controller decides by has been computed, sent and received before, in simulated time."""

import pytest

from cosim.control.allocators import Allocator
from cosim.errors import AllocationError
from cosim.parts import make
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare

RANK_PAIRS = {
    "scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 2, "adapter_codec": {"kind": "soft"}}
}
KINDS = ("tsfa", "round_deadline")


@pytest.fixture(scope="module", params=KINDS)
def record(request, tiny_scenario, tmp_path_factory):
    allocator = {"kind": request.param, "latency_limit_s": 0.05}
    folder = tmp_path_factory.mktemp(request.param)
    return Record.open(run(tiny_scenario({**RANK_PAIRS, "allocator": allocator}), folder / "run"))


def rows(record, name):
    return [row for row in record.spans.to_pylist() if row["name"] == name]


def decided_ns(record, round_):
    (at,) = {
        row["time_ns"]
        for row in record.metrics.to_pylist()
        if row["name"] == "sparsification_ratio" and row["round"] == round_
    }
    return at


@pytest.mark.parametrize("round_", [1, 2])
def test_a_decision_waits_for_the_training_and_the_reports_of_its_round(record, round_):
    at = decided_ns(record, round_)
    reports = [row for row in rows(record, "report") if row["round"] == round_]
    trained = {
        row["id"]: row["end_ns"] for row in rows(record, "client_forward_backward") if row["round"] == round_
    }
    assert at == max(row["end_ns"] for row in reports)
    assert all(trained[row["parents"][0]] <= row["start_ns"] for row in reports)
    uploads = [row for row in rows(record, "adapter_upload") if row["round"] == round_]
    assert {row["asked_ns"] for row in uploads} == {at}
    assert {row["id"] for row in reports} <= {parent for row in uploads for parent in row["parents"]}


def test_reports_travel_under_equal_shares_whatever_was_decided_last(record):
    lengths = {row["actor"]: set() for row in rows(record, "report")}
    for row in rows(record, "report"):
        lengths[row["actor"]].add(row["end_ns"] - row["start_ns"])
    assert all(len(one) == 1 for one in lengths.values())


def test_an_allocator_that_wants_what_nobody_reports_is_refused(tiny_scenario):
    """The scheme is asked what its clients report: nothing, of one that is split."""
    allocator = make(Allocator, {"kind": "tsfa", "latency_limit_s": 1.0})
    prepared = prepare(tiny_scenario({}))
    decisions = prepared.decisions()
    with pytest.raises(
        AllocationError, match="wants 'energies' reported, and clients of the scheme report nothing"
    ):
        decisions.change(prepared.conditions._replace(allocator=allocator))
