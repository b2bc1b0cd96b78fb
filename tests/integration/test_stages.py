"""Trainings in stages, as SLoRA's: sparse changes of the weights, then adapters that take over."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cosim.cli.overview import num_spans
from cosim.errors import CosimError, ScenarioError
from cosim.graph.store import Store
from cosim.learning.flop import client_memory_bytes
from cosim.learning.handover import Handover
from cosim.learning.model import SplitModel
from cosim.learning.outputs import Outputs
from cosim.learning.trainable import Trainable
from cosim.parts import make
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare

DENSITY = 0.1
STAGE = {
    "num_rounds": 2,
    "trainable": {"kind": "sparse", "density": DENSITY},
    "optimizer": {"kind": "sgd", "learning_rate": 0.5},
}
SPANS = ("seed_download", "adapter_upload", "hand_over", "adapter_download")


def kept(keep_residual):
    return {"handover": {"kind": "svd", "keep_residual": keep_residual}}


@pytest.fixture(scope="module")
def staged(tiny_scenario):
    """Return the tiny scenario in two stages, in float64."""

    def made(stage=None, **changes):
        scheme = {
            "kind": "federated",
            "num_rounds": 4,
            "local_steps": 2,
            "stages": [{**STAGE, **(stage or {})}],
        }
        more = {"training.optimizer.learning_rate": 2e-2, "federated_server.clock_hz": 1e6, **changes}
        return tiny_scenario({"scheme": scheme, "model.dtype": "float64", **more})

    return made


@pytest.fixture(scope="module")
def records(staged, tmp_path_factory):
    """Return the records of the literal run and of the one that keeps the residual, from one store."""
    place = tmp_path_factory.mktemp("stages")
    store = Store(place / "store")
    return [Record.open(run(staged(kept(keep)), place / f"{keep}", store=store)) for keep in (False, True)]


def rows(record, name):
    return [row for row in record.spans.to_pylist() if row["name"] == name]


def figures(record, name):
    return {row["round"]: row["value"] for row in record.metrics.to_pylist() if row["name"] == name}


def test_the_mask_travels_as_a_seed_and_each_stage_sends_what_it_trains(records, staged):
    prepared = prepare(staged())
    task = prepared.task
    assert num_spans(prepared) == records[0].spans.num_rows
    sparse, dense = (sum(one.numbers for one in of.trainable.parameters(of.shape)) for of in task.by_stage)
    weights = sum(one.d_in * one.d_out for one in task.trainable.matrices(task.shape, 3))
    assert sparse == pytest.approx(DENSITY * weights, abs=3)
    record = records[0]
    seeds = rows(record, "seed_download")
    assert [(row["round"], row["bits"]) for row in seeds] == [(1, 32)] * 3
    for name in ("adapter_upload", "adapter_download"):
        bits = {
            round_: {row["bits"] for row in rows(record, name) if row["round"] == round_}
            for round_ in range(1, 5)
        }
        assert bits == {1: {64 * sparse}, 2: {64 * sparse}, 3: {64 * dense}, 4: {64 * dense}}
    assert len([row for row in rows(record, "adapter_download") if row["round"] == 3]) == 6  # to begin, too
    (switch,) = rows(record, "hand_over")
    assert switch["flop"] == make(Handover, {"kind": "svd"}).flop(task.trainable.matrices(task.shape, 3)) > 0
    assert switch["end_ns"] - switch["start_ns"] > 0


def test_with_the_residual_the_switch_changes_no_model_and_without_it_does(records):
    literal, with_residual = records
    before = figures(literal, "eval_loss")
    assert before[2] < before[0]
    assert figures(with_residual, "eval_loss")[2] == before[2]  # the first stage is the same
    assert figures(with_residual, "handover_eval_loss")[3] == pytest.approx(before[2], abs=1e-12)
    assert abs(figures(literal, "handover_eval_loss")[3] - before[2]) > 1e-4
    for record in records:
        assert 0.0 < figures(record, "handover_kept_energy")[3] < 1.0
        assert figures(record, "eval_loss")[4] < figures(record, "handover_eval_loss")[3]
    names = {one.name for one in (with_residual.path / "adapter").iterdir()}
    assert "base_residual.safetensors" in names
    assert not (literal.path / "adapter" / "base_residual.safetensors").exists()


def test_factors_are_the_best_of_their_rank(staged):
    task = prepare(staged()).task
    shape, lora = task.shape, task.trainable
    rng = np.random.default_rng(3)
    sparse = task.by_stage[0].trainable
    tensors = {one.name: torch.from_numpy(rng.normal(size=one.shape)) for one in sparse.parameters(shape)}
    changes = sparse.changes(tensors, {}, shape)
    names = lora.layers(shape)
    fresh = {one.name: torch.zeros(one.shape, dtype=torch.float64) for one in lora.parameters(shape)}
    svd = make(Handover, {"kind": "svd", "keep_residual": True})
    begun = svd.begin({names[layer]: change for layer, change in changes.items()}, fresh, lora.scaling)
    left = total = 0.0
    for layer, change in changes.items():
        assert int((change != 0.0).sum()) == round(DENSITY * change.numel())
        values = np.linalg.svd(change.numpy(), compute_uv=False)
        a = begun.adapter[names[layer]]
        b = begun.adapter[names[layer].replace("lora_A", "lora_B")]
        residual = change - lora.scaling * b @ a
        assert torch.allclose(residual, begun.residual[names[layer]], atol=1e-12)
        assert float(residual.norm()) == pytest.approx(np.sqrt((values[4:] ** 2).sum()), rel=1e-9)
        assert torch.allclose(a @ a.T, torch.eye(4, dtype=torch.float64), atol=1e-10)
        left, total = left + (values[4:] ** 2).sum(), total + (values**2).sum()
    assert begun.kept_energy == pytest.approx(1.0 - left / total, rel=1e-9)


def test_a_seed_goes_to_all_at_once_where_the_downlink_is_multicast(staged, tmp_path):
    scenario = staged({}, **{"scheme.downlink": "multicast", "scheme.num_rounds": 3})
    (seed,) = rows(Record.open(run(scenario, tmp_path / "run", timing_only=True)), "seed_download")
    assert len(seed["participants"]) == 3


def test_a_name_that_only_a_later_stage_trains_is_told_with_the_stage(staged):
    with pytest.raises(
        ScenarioError, match=r"scheme\.stages\.0: scheme\.aggregator\.private: 'lora_B' is a part"
    ):
        prepare(staged({}, **{"scheme.aggregator": {"kind": "personal"}}))


def test_an_adapter_hands_over_to_one_of_the_same_rank_without_loss(staged, tmp_path):
    """Its product has this rank, so nothing is left to merge."""
    told = staged({"num_rounds": 2, "trainable": {"kind": "lora", "rank": 4}, "optimizer": None})
    record = Record.open(run(told, tmp_path / "run"))
    assert figures(record, "handover_kept_energy")[3] == pytest.approx(1.0, abs=1e-12)
    losses = figures(record, "eval_loss")
    assert figures(record, "handover_eval_loss")[3] == pytest.approx(losses[2], abs=1e-12)
    assert not rows(record, "seed_download")


def test_a_gradient_is_the_models_own_at_the_places(tiny_scenario):
    tasks = [
        prepare(
            tiny_scenario({"trainable": told, "scheme": {"kind": "federated"}, "model.dtype": "float64"})
        ).task
        for told in ({"kind": "full"}, {"kind": "sparse", "density": 0.3, "mask_seed": 7})
    ]
    batch = tasks[0].tokens.train.batch([0, 1]).trimmed()
    gradients = []
    for task in tasks:
        model = SplitModel.load(task.model.base, task.trainable, dtype="float64")
        leaves = {name: tensor.requires_grad_() for name, tensor in model.initial_adapter().items()}
        outputs: Outputs = model.whole_outputs(leaves, batch)
        loss = outputs.loss_sum.sum()
        gradients.append(dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True)))
    full, sparse = gradients
    places = tasks[1].trainable.places(tasks[1].shape)
    assert sorted(sparse) == sorted(f"{layer}.changes" for layer in places)
    for layer, chosen in places.items():
        whole = full[f"{layer}.weight"].T.flatten()  # GPT-2 stores (inputs, outputs)
        assert torch.allclose(
            sparse[f"{layer}.changes"], whole[torch.from_numpy(chosen)], rtol=1e-12, atol=1e-14
        )


def test_the_mask_is_of_the_seed_and_the_memory_of_the_gradients_is_not_sparse(tiny_scenario):
    told = {"scheme": {"kind": "federated"}, "trainable": {"kind": "sparse", "density": 0.01}}
    one, other = (prepare(tiny_scenario({**told, "seed": seed})).task for seed in (3, 4))
    masks = [task.trainable.places(task.shape) for task in (one, other, one)]
    first = next(iter(masks[0]))
    assert (masks[0][first] == masks[2][first]).all()
    assert not (masks[0][first] == masks[1][first]).all()
    sizes = (one.shape, one.trainable, 3, 2, 48)
    thin, dense = (
        client_memory_bytes(shape, part, *rest, moments_per_weight=0)
        for shape, part, *rest in (
            sizes,
            (one.shape, make(Trainable, {"kind": "sparse", "density": 1.0}), 3, 2, 48),
        )
    )
    assert thin == dense


def test_a_run_without_a_store_and_the_batched_executor_agree(staged, records, tmp_path):
    literal = records[0]
    batched = {"training.executor": "batched"}
    together = Record.open(run(staged(kept(False), **batched), tmp_path / "batched"))
    again = Record.open(run(staged(kept(False)), tmp_path / "again"))
    for name in ("eval_loss", "handover_eval_loss"):
        assert figures(again, name) == figures(literal, name)
        for round_, loss in figures(together, name).items():
            assert loss == pytest.approx(figures(literal, name)[round_], abs=1e-9)
    saved, other = (load_file(one.path / "adapter" / "adapter_model.safetensors") for one in (again, literal))
    assert all(torch.equal(saved[name], other[name]) for name in other)


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ({"num_rounds": 4}, {}, "stages: take 4 rounds, and leave none of num_rounds 4"),
        (
            {"trainable": {"kind": "full"}},
            {},
            "scheme.stages.0.trainable: 'full' changes more than linear layers",
        ),
        ({}, {"trainable": {"kind": "full"}}, "scheme.stages.0.trainable: 'sparse' is handed over to LoRA"),
        ({}, {"lora.blocks": [1]}, "changes 'transformer.h.1.attn.c_attn', which has no adapter afterwards"),
        (
            {"trainable": {"kind": "sparse", "density": 1e-9}},
            {},
            "scheme.stages.0: trainable.density: 1e-09 of the 768 weights of 'attn.c_attn' is none",
        ),
        (
            {"trainable": {"kind": "sparse", "target_modules": ["c_none"]}},
            {},
            "scheme.stages.0: .*c_none",
        ),
        ({}, {"scheme.adapter_codec": {"kind": "soft"}}, "'soft' is about the factors of LoRA adapters"),
    ],
)
def test_stages_that_do_not_fit_are_refused_in_one_line(staged, stage, changes, message):
    with pytest.raises(CosimError, match=message) as refused:
        prepare(staged(stage, **changes))
    assert all("scheme" in line or "stages" in line for line in str(refused.value).splitlines())
