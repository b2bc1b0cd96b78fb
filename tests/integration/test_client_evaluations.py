"""Clients evaluated by themselves, each on its own share of the held-out examples."""

import pytest

from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.studies.measures.metric import Metric

DOMAINS = {
    "data.source": {"kind": "embedded", "domains": ["film", "job", "hotel"], "num_train": 8, "num_test": 3},
    "data.partition": {"kind": "group", "by": "domain", "one_group_per_client": True},
    "model.dtype": "float64",
}


@pytest.mark.parametrize(
    "scheme",
    [
        {"kind": "federated"},
        {"kind": "federated", "aggregator": {"kind": "fedsa"}},
        {"kind": "split_federated"},
        {"kind": "split_federated", "aggregator": {"kind": "fedsa"}},
        {"kind": "centralized"},
        {"kind": "asynchronous"},
    ],
    ids=str,
)
def test_losses_of_clients_make_up_that_of_all_and_change_nothing(scheme, tiny_scenario, tmp_path):
    changes = {"scheme": {**scheme, "num_rounds": 2, "local_steps": 1}, **DOMAINS}
    if scheme["kind"] == "asynchronous":
        changes["allocator.kind"] = "equal"
    plain = tiny_scenario(changes)
    each = tiny_scenario({**changes, "training.evaluate_clients": True})
    store = Store(tmp_path / "store")
    record, without = (
        Record.open(run(one, tmp_path / name, store=store))
        for one, name in ((each, "each"), (plain, "plain"))
    )
    assert record.manifest["fingerprints"] == without.manifest["fingerprints"]
    rows = record.metrics.to_pylist()
    own = {(row["round"], row["actor"]): row["value"] for row in rows if row["name"] == "client_eval_loss"}
    whole = {row["round"]: row["value"] for row in rows if row["name"] == "eval_loss"}
    clients = ["client-0", "client-1", "client-2"]
    assert set(own) == {(round_, client) for round_ in whole for client in clients}
    task = prepare(each).task
    num_targets = [
        int((task.tokens.test.batch(list(held)).labels[:, 1:] >= 0).sum()) for held in task.held_out
    ]
    if "aggregator" not in scheme:
        for round_, loss in whole.items():
            losses = [own[round_, client] for client in clients]
            mean = sum(map(float.__mul__, losses, map(float, num_targets))) / sum(num_targets)
            assert mean == pytest.approx(loss, rel=1e-12)
    last = [own[max(whole), client] for client in clients]
    assert Metric(metric="client_eval_loss", across="max").of(record) == max(last)
    assert Metric(metric="client_eval_loss", across="min").of(record) == min(last)
