"""Products in bfloat16: nearly the same losses under keys of their own, and the rest in float32."""

import pytest
import torch
from pydantic import ValidationError

from cosim.graph.store import Store
from cosim.learning.settings import Model, TrainingSettings
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare


def played(scenario, place, store):
    record = Record.open(run(scenario, place, store=store))
    losses = [row["value"] for row in record.metrics.to_pylist() if row["name"] == "eval_loss"]
    return record, losses


@pytest.mark.parametrize("kind", ["federated", "split_federated"])
def test_losses_are_nearly_those_of_float32_and_no_key_is(tiny_scenario, tmp_path, kind):
    store = Store(tmp_path / "store")
    common = {"scheme.kind": kind, "scheme.num_rounds": 1, "scheme.local_steps": 1}
    _, plain = played(tiny_scenario(common), tmp_path / "plain", store)
    mixed = {"model.autocast": "bfloat16"}
    record, found = played(tiny_scenario(common | mixed), tmp_path / "mixed", store)
    assert record.manifest["works"]["recalled"] <= 2  # the start is the same
    assert found != plain
    assert found == pytest.approx(plain, rel=2**-7)  # a product has 8 bits


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_what_travels_and_what_is_trained_stay_float32(tiny_scenario, device):
    from cosim.learning.execution import load_model

    task = prepare(tiny_scenario({"model.autocast": "bfloat16", "model.device": device})).task
    model, batch = load_model(task, 4), task.tokens.train.batch([0, 1])
    adapter = {name: one.requires_grad_() for name, one in model.initial_adapter().items()}
    sent = model.client_forward(adapter, batch, 1)
    leaf = sent.detach().requires_grad_()
    loss = model.server_outputs(adapter, leaf, batch, 1).loss_sum.sum()
    server = [adapter[name] for name in model.server_names(1)]
    found = torch.autograd.grad(loss, [leaf, *server])
    assert {one.dtype for one in (sent, loss, *adapter.values(), *found)} == {torch.float32}
    assert all(torch.isfinite(one).all() for one in found)


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(ValidationError, match="autocast: 'bfloat16' is for dtype = 'float32'"):
        Model(autocast="bfloat16", dtype="float64")
    with pytest.raises(ValidationError, match="executor = 'batched' several in one call; leave one out"):
        TrainingSettings(executor="batched", workers=2)
