"""Asynchronous training: merges in order of arrival, weighted by staleness, and no barrier anywhere."""

import pytest
import torch
from safetensors.torch import load_file

from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.runs import run
from cosim.schemes.asynchronous import Asynchronous

SCHEME = {"kind": "asynchronous", "num_rounds": 8, "local_steps": 2}
UNEVEN = {"clients.clock_hz": {"kind": "uniform", "low": 1e5, "high": 2e6}, "seed": 5}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def trained(tiny_scenario, tmp_path, store):
    """Run the tiny scenario with these changes; return its record."""
    count = 0

    def train(changes):
        nonlocal count
        count += 1
        return Record.open(run(tiny_scenario(changes), tmp_path / f"run-{count}", store=store))

    return train


def adapter_of(record):
    return load_file(record.path / "adapter" / "adapter_model.safetensors")


def rows_of(record, name):
    return [row for row in record.spans.to_pylist() if row["name"] == name]


def measured(record, name):
    """Return a metric's values by round, in the order in which they were recorded."""
    rows = record.metrics.to_pylist()
    return {row["round"]: row["value"] for row in rows if row["name"] == name}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_one_client_without_staleness_is_sequential_training_bit_for_bit(trained, dropout):
    changes = {"clients.count": 1, "lora.dropout": dropout, "training.optimizer.schedule": "linear"}
    alone = trained({**changes, "scheme": {**SCHEME, "num_rounds": 3, "mixing": 1.0}})
    reference = trained({**changes, "scheme": {**SCHEME, "num_rounds": 3, "kind": "centralized"}})
    assert set(measured(alone, "staleness").values()) == {0.0}
    assert measured(alone, "eval_loss") == measured(reference, "eval_loss")
    ours, theirs = adapter_of(alone), adapter_of(reference)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_uploads_are_merged_in_the_order_in_which_they_arrive(trained):
    record = trained({"scheme": SCHEME, **UNEVEN})
    uploads = sorted(rows_of(record, "adapter_upload"), key=lambda one: one["end_ns"])
    merges = sorted(rows_of(record, "aggregate"), key=lambda one: (one["start_ns"], one["id"]))
    assert [one["round"] for one in merges] == [one["round"] for one in uploads]
    assert sorted(one["round"] for one in merges) == list(range(1, 9))
    assert [one["round"] for one in merges] != sorted(one["round"] for one in merges)  # rounds overlap
    begun = {}  # the merge each client's next local update builds on
    for number, upload in enumerate(uploads):
        before = begun.get(upload["actor"], 0)
        assert measured(record, "staleness")[upload["round"]] == number - before
        begun[upload["actor"]] = number + 1
    weights, staleness = measured(record, "mixing_weight"), measured(record, "staleness")
    assert all(weights[one] == Asynchronous().mixing_weight(int(staleness[one])) for one in weights)


def test_nobody_waits_for_anybody(trained):
    record = trained({"scheme": SCHEME, **UNEVEN})
    spans = {one["id"]: one for one in record.spans.to_pylist()}
    for one in spans.values():
        assert one["start_ns"] == max((spans[parent]["end_ns"] for parent in one["parents"]), default=0)
        if one["kind"] == "compute" and one["actor"] != "federated-server":
            assert {spans[parent]["actor"] for parent in one["parents"]} <= {one["actor"], "federated-server"}


def test_a_wider_band_changes_the_order_of_merges_and_with_it_the_keys(trained):
    narrow = trained({"scheme": SCHEME, **UNEVEN, "radio.federated_uplink.bandwidth_hz": 2e4})
    wide = trained({"scheme": SCHEME, **UNEVEN, "radio.federated_uplink.bandwidth_hz": 2e6})
    orders = [
        [one["peer"] or one["work"] for one in rows_of(record, "aggregate")] for record in (narrow, wide)
    ]
    assert orders[0] != orders[1]
    assert measured(narrow, "eval_loss")[8] != measured(wide, "eval_loss")[8]
    assert narrow.manifest["fingerprints"]["learning"] != wide.manifest["fingerprints"]["learning"]


def test_the_same_order_of_merges_has_the_same_keys_on_another_channel(trained):
    one = trained({"scheme": SCHEME, **UNEVEN})
    other = trained({"scheme": SCHEME, **UNEVEN, "radio.noise_figure_db": 9.5})
    assert [row["end_ns"] for row in one.spans.to_pylist()] != [
        row["end_ns"] for row in other.spans.to_pylist()
    ]
    assert [row["round"] for row in rows_of(one, "aggregate")] == [
        row["round"] for row in rows_of(other, "aggregate")
    ]
    assert one.manifest["fingerprints"]["learning"] == other.manifest["fingerprints"]["learning"]
    assert other.manifest["works"]["computed"] == 0


@pytest.mark.parametrize("kind", ["top_k", "qsgd", "soft"])
def test_uploads_go_through_codecs(trained, kind):
    record = trained({"scheme": {**SCHEME, "num_rounds": 4, "adapter_codec": {"kind": kind}}, **UNEVEN})
    plain = trained({"scheme": {**SCHEME, "num_rounds": 4}, **UNEVEN})
    assert sum(one["bits"] for one in rows_of(record, "adapter_upload")) < sum(
        one["bits"] for one in rows_of(plain, "adapter_upload")
    )
    assert measured(record, "eval_loss")[4] != measured(plain, "eval_loss")[4]


def test_times_alone_have_the_order_that_a_training_has(trained, tiny_scenario, tmp_path):
    record = trained({"scheme": SCHEME, **UNEVEN})
    timed = Record.open(
        run(tiny_scenario({"scheme": SCHEME, **UNEVEN}), tmp_path / "times", timing_only=True)
    )
    assert timed.manifest["fingerprints"]["timeline"] == record.manifest["fingerprints"]["timeline"]
