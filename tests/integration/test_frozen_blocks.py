"""Blocks without adapters: what nobody trains sends nothing, waits for nothing and is not computed twice."""

import json
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file

from cosim.graph.store import Store
from cosim.learning.execution import make_executor
from cosim.learning.families.gpt2 import GPT2Body
from cosim.learning.prefixes import Prefixes
from cosim.learning.results import evaluate
from cosim.learning.split_nodes import server_update, split_step
from cosim.learning.training import Training
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import check, prepare
from cosim.whatifs import whatif

FROZEN = {"lora.blocks": [2, 3]}
LATER = ("client_backward", "gradient_download", "adapter_upload", "aggregate", "adapter_download")


def names_of(world):
    world.log.spans.settle()
    return Counter(world.log.spans.name)


@pytest.mark.parametrize(
    "changes", [{}, {"scheme.server_batch": "per_client"}, {"scheme.deadline_s": 5.0}], ids=str
)
def test_a_client_without_an_adapter_only_forwards_and_uploads(tiny_scenario, play, changes):
    downlinks = {"radio.main_downlink.modelled": True, "radio.federated_downlink.modelled": True}
    world = play(tiny_scenario({**FROZEN, **changes, **downlinks}))
    names = names_of(world)
    assert names["client_forward"] == names["activation_upload"] == 3 * 2 * 2
    assert names["server_forward_backward"] == (12 if "scheme.server_batch" in changes else 4)
    assert not any(names[name] for name in LATER)
    whole = names_of(play(tiny_scenario({**changes, **downlinks})))
    assert all(whole[name] for name in LATER)


def test_a_cut_behind_the_first_adapter_leaves_everything_as_it_was(tiny_scenario, play):
    changes = {**FROZEN, "model.cut_layer": 2}
    names = names_of(play(tiny_scenario(changes)))
    assert all(names[name] for name in LATER)
    training = Training(prepare(tiny_scenario(changes)).task, cut_layer=2, lora_rank=4)
    every = Training(prepare(tiny_scenario({"model.cut_layer": 2})).task, cut_layer=2, lora_rank=4)
    assert 2 * training.amounts.split(0, 1).adapter_bits == every.amounts.split(0, 1).adapter_bits
    assert (
        0 < training.amounts.split(0, 1).client_backward_flop < every.amounts.split(0, 1).client_backward_flop
    )
    assert training.amounts.split(0, 1).gradient_bits == training.amounts.split(0, 1).activation_bits


def test_a_round_without_a_way_back_lasts_as_long_as_predicted(tiny_scenario, play):
    """Whoever decides, and with a cut among the candidates behind the first adapter too."""
    counted = {"radio.main_downlink.modelled": True, "radio.federated_downlink.modelled": True}
    for kind in ("equal", "random", "fedsllm_2024", "nested", "fedsllm", "refined", "exact"):
        world = play(tiny_scenario({**FROZEN, **counted, "allocator": {"kind": kind}}))
        assert world.plan()["no_bound"] is None
        assert world.plan()["gap_to_bound"] >= 0.0
        metrics = dict(zip(world.log.metrics.name, world.log.metrics.value, strict=True))
        assert abs(world.clock.now - 2e9 * metrics["predicted_round_s"]) <= 40  # a nanosecond a span in turn


@pytest.mark.parametrize("blocks", [[2], [2, 3], [3]])
@pytest.mark.parametrize("cut_layer", [1, 2])
def test_one_client_learns_what_centralised_training_does_bit_for_bit(
    tiny_scenario, tmp_path, cut_layer, blocks
):
    changes = {
        "model.dtype": "float64",
        "lora.blocks": blocks,
        "model.cut_layer": cut_layer,
        "clients.count": 1,
    }
    scheme = {"kind": "centralized", "num_rounds": 2, "local_steps": 2}
    records = [
        Record.open(run(tiny_scenario({**changes, **others}), tmp_path / name))
        for name, others in (("split", {}), ("whole", {"scheme": scheme}))
    ]
    split, whole = (load_file(one.path / "adapter" / "adapter_model.safetensors") for one in records)
    assert split.keys() == whole.keys()
    assert {int(name.split(".h.")[1].split(".")[0]) + 1 for name in split} == set(blocks)
    assert all(torch.equal(split[name], whole[name]) for name in split)
    learned = [
        {
            (row["round"], row["name"]): row["value"]
            for row in one.metrics.to_pylist()
            if "_loss" in row["name"]
        }
        for one in records
    ]
    assert learned[0] == learned[1]


def test_the_exported_adapter_says_where_it_goes(tiny_scenario, tmp_path):
    folder = run(tiny_scenario(FROZEN), tmp_path / "run")
    told = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert told["layers_to_transform"] == [1, 2]


def test_a_mini_batch_met_again_in_a_round_is_computed_once(tiny_scenario, tmp_path):
    """Each client holds one row: its mini-batches are all the same, and what a frozen base makes of them."""
    few = {"data.source.num_train": 3, "scheme.local_steps": 5, "training.batch_size": 1}
    computed = {}
    for name, changes in (("frozen", FROZEN), ("trained", {"lora.blocks": [1, 2, 3]})):
        record = Record.open(run(tiny_scenario({**few, **changes}), tmp_path / name))
        spans = Counter(row["name"] for row in record.spans.to_pylist())
        computed[name] = record.manifest["works"]["computed"], spans["client_forward"]
    described = 3 * 5 * 2
    assert computed["frozen"][1] == computed["trained"][1] == described
    # forward, server and backward of each, an update of the server a step, an average a round, and
    # the same evaluations, starts and export on either side
    others = computed["trained"][0] - 3 * described - 2
    assert computed["frozen"][0] == 3 * 2 + described + others


@pytest.mark.parametrize("executor", ["sequential", "batched"])
def test_what_is_computed_once_is_what_would_be_computed_again(
    tiny_scenario, tmp_path, monkeypatch, executor
):
    few = {"data.source.num_train": 4, "scheme.local_steps": 4, "training.executor": executor, **FROZEN}
    once = Record.open(run(tiny_scenario(few), tmp_path / "once"))
    monkeypatch.setattr(Prefixes, "get", lambda self, key, compute: compute())
    again = Record.open(run(tiny_scenario(few), tmp_path / "again"))
    assert once.manifest["fingerprints"] == again.manifest["fingerprints"]


def test_the_base_s_activations_hang_on_rows_and_base_alone(tiny_scenario):
    def key(changes):
        task = prepare(tiny_scenario({**FROZEN, **changes})).task
        training = Training(task, task.model.cut_layer, task.trainable.lora_rank)
        return split_step(training, 0, training.start("client"), training.start("server"), 1).forward.key

    same = ({"lora.rank": 2}, {"training.optimizer.learning_rate": 0.1}, {"lora.dropout": 0.2})
    assert all(key(changes) == key({}) for changes in ({"lora.blocks": [3]}, *same))
    other = ({"model.base.seed": 9}, {"model.dtype": "float64"}, {"training.batch_size": 3}, {"seed": 5})
    keys = {key(changes) for changes in (*other, {"training.executor": "batched"}, {})}
    assert len(keys) == len(other) + 2


def test_evaluations_run_frozen_blocks_once(tiny_scenario, monkeypatch):
    runs = Counter()
    run_block = GPT2Body.run_block

    def counted(self, block, *rest):
        runs[list(self.blocks).index(block) + 1] += 1
        return run_block(self, block, *rest)

    monkeypatch.setattr(GPT2Body, "run_block", counted)
    task = prepare(tiny_scenario({**FROZEN, "training.evaluation_batch_size": 4})).task
    training = Training(task, 1, 2)
    executor = make_executor(task, 2)
    client, server = training.start("client"), training.start("server")
    for step in range(3):
        exchange = split_step(training, 0, client, server, step)
        update = server_update(training, server, [exchange], step)
        executor.materialise([update.adapter, update.optimizer], ())
        server = update
        before = Counter(runs)
        executor.materialise((), [evaluate(training, client.adapter, server.adapter).ref("loss")])
        # two batches of four held-out examples; the client's initial adapter, which is empty, costs nothing
        assert runs - before == Counter({1: 2, 2: 2, 3: 2} if step == 0 else {2: 2, 3: 2})


def test_a_channel_s_whatif_computes_nothing_with_frozen_clients_too(tiny_scenario, tmp_path):
    store = Store(tmp_path / "store")
    folder = run(tiny_scenario(FROZEN), tmp_path / "run", store=store)
    wider = Record.open(
        whatif(folder, {"radio.main_uplink.bandwidth_hz": 40e6}, out=tmp_path / "wider", store=store)
    )
    assert wider.manifest["works"]["computed"] == 0
    fresh = Record.open(
        run(tiny_scenario({**FROZEN, "radio.main_uplink.bandwidth_hz": 40e6}), tmp_path / "fresh")
    )
    for name in ("spans.parquet", "metrics.parquet", "adapter/adapter_model.safetensors"):
        assert (wider.path / name).read_bytes() == (fresh.path / name).read_bytes()


def test_a_block_the_model_does_not_have_is_told(tiny_scenario):
    (fault,) = check(tiny_scenario({"lora.blocks": [2, 9]}))
    assert fault == "lora.blocks: the model has no block 9; its blocks are 1 to 3."


def test_prefixes_hold_no_more_than_they_may_and_forget_the_oldest():
    held, made = Prefixes(max_bytes=40), []

    def get(key):
        return held.get(key, lambda: made.append(key) or torch.full((4,), float(key)))

    for key in (1, 2, 1, 3, 1, 2):  # 16 bytes each: two fit
        assert get(key)[0] == key
        assert held.num_bytes <= 40
    assert made == [1, 2, 3, 2]
    assert held.get("large", lambda: torch.zeros(100)).numel() == 100
    assert held.num_bytes == 32
