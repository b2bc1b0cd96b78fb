"""Sequential and parallel split learning, and participation behind a cut."""

from itertools import pairwise

import pytest

from cosim.record.folder import Record
from cosim.runs import run

ONE = {"clients.count": 1, "training.optimizer.schedule": "linear"}
SGD = {"training.optimizer": {"kind": "sgd", "learning_rate": 0.5}, "model.dtype": "float64"}


@pytest.fixture(scope="module")
def played(tiny_scenario, tmp_path_factory):
    def record(scheme, changes=(), **options):
        scenario = tiny_scenario({"scheme": {"num_rounds": 2, "local_steps": 2, **scheme}, **dict(changes)})
        return Record.open(run(scenario, tmp_path_factory.mktemp("runs") / "run", **options))

    return record


def measured(record, name):
    return [one["value"] for one in record.metrics.to_pylist() if one["name"] == name]


@pytest.mark.parametrize("kind", ["sequential_split", "parallel_split"])
def test_with_one_client_it_is_centralised_training_bit_for_bit(kind, played):
    split, central = played({"kind": kind}, ONE), played({"kind": "centralized"}, ONE)
    for name in ("eval_loss", "train_loss"):
        assert measured(split, name) == measured(central, name)


def test_what_goes_from_hand_to_hand_learns_the_same_wherever_it_is_cut(played):
    first, second = (played({"kind": "sequential_split"}, {**SGD, "model.cut_layer": cut}) for cut in (1, 2))
    assert measured(first, "train_loss") == pytest.approx(measured(second, "train_loss"), rel=1e-12)


def test_clients_work_one_after_the_other_and_hand_on_what_they_trained(played):
    rows = sorted(
        played({"kind": "sequential_split"}, timing_only=True).spans.to_pylist(), key=lambda one: one["id"]
    )
    assert all(after["start_ns"] >= before["end_ns"] for before, after in pairwise(rows))
    handed = [(one["actor"], one["peer"]) for one in rows if one["name"].startswith("adapter_")]
    ups = [ends for ends in handed if ends[1] == "federated-server"]
    assert [actor for actor, _ in ups] == ["client-0", "client-1", "client-2"] * 2
    downs = [peer for _, peer in handed if peer != "federated-server"]
    assert downs == [f"client-{number}" for number in (1, 2, 0, 1, 2)]


def test_clients_that_keep_what_they_train_send_no_adapter(played):
    record = played({"kind": "parallel_split"}, timing_only=True)
    assert {one["name"] for one in record.spans.to_pylist() if one["kind"] == "transfer"} == {
        "activation_upload",
        "gradient_download",
    }
    (predicted,) = measured(record, "predicted_round_s")
    assert record.manifest["simulated_s"] == pytest.approx(2 * predicted, abs=1e-7)


def test_who_is_not_drawn_computes_nothing_and_starts_from_the_average(played):
    record = played({"kind": "split_federated", "participation": 0.5, "num_rounds": 4})
    rows = record.spans.to_pylist()
    for round_ in range(1, 5):
        own = [one for one in rows if one["round"] == round_]
        computing = {one["actor"] for one in own if one["name"] == "client_forward"}
        assert len(computing) == 2
        assert {one["actor"] for one in own if one["name"] == "adapter_upload"} == computing
        assert len([one for one in own if one["name"] == "adapter_download"]) == 3
    drawn = {
        tuple(sorted({one["actor"] for one in rows if one["round"] == r and one["flop"]}))
        for r in range(1, 5)
    }
    assert len(drawn) > 1
