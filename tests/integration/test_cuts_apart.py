"""Clients cut at different blocks: each block is trained by whoever holds it, and averaged over all."""

from collections import Counter

import pytest
import torch
from safetensors.torch import load_file

from cosim.cli.overview import overview
from cosim.graph.store import Store
from cosim.learning.data.draws import BatchDraws
from cosim.learning.model import SplitModel
from cosim.record.folder import Record
from cosim.rng import stream
from cosim.runs import run
from cosim.scenario.build import check, prepare
from cosim.units import NS_PER_S
from cosim.whatifs import whatif

CUTS = (1, 3, 2)


def groups(cuts, **settings):
    """Return one group of clients a cut, of different speeds."""
    return [
        {"count": 1, "cut_layer": cut, "clock_hz": 1e6 * (1 + number), **settings}
        for number, cut in enumerate(cuts)
    ]


@pytest.fixture
def scenario(tiny_scenario):
    """Return the tiny scenario with a model of four blocks, cut apart."""
    config = {**tiny_scenario().model.base.config, "n_layer": 4}

    def made(cuts=CUTS, **changes):
        told = {path.replace("__", "."): value for path, value in changes.items()}
        clients = {} if cuts is None else {"clients": groups(cuts)}
        return tiny_scenario({"model.base.config": config, **clients, **told})

    return made


def metrics_of(world, name):
    metrics = world.log.metrics
    rows = zip(metrics.name, metrics.actor, metrics.value, strict=True)
    return {actor: value for one, actor, value in rows if one == name}


def adapter_of(folder):
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def furthest(left, right):
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


# What is learned


def test_the_same_cut_for_each_group_is_the_common_cut(scenario, play):
    worlds = [
        play(scenario((2, 2, 2))),
        play(scenario(None, clients=groups((None,) * 3), model__cut_layer=2)),
    ]
    for world in worlds:
        world.log.spans.settle()
    apart, common = (world.log.spans for world in worlds)
    assert apart.node == common.node
    assert apart.end_ns == common.end_ns


@pytest.mark.parametrize("cuts", [(1, 3, 2), (3, 1, 1), (2, 3, 3)])
def test_with_one_plain_step_a_round_every_block_takes_the_step_of_centralised_training(
    scenario, tmp_path, cuts
):
    """What each holder steps along adds up to the gradient over all clients, whoever holds the block."""
    told = {
        "model__dtype": "float64",
        "scheme__num_rounds": 3,
        "scheme__local_steps": 1,
        "training__optimizer": {"kind": "sgd", "learning_rate": 0.3},
    }
    apart = run(scenario(cuts, **told), tmp_path / "apart")
    scheme = {"kind": "centralized", "num_rounds": 3, "local_steps": 1}
    whole = run(scenario(None, **{**told, "scheme": scheme}), tmp_path / "whole")
    assert furthest(adapter_of(apart), adapter_of(whole)) <= 1e-12


class ByHand:
    """The same training with nothing cut: each client's model is put together of blocks."""

    def __init__(self, task, cuts, local_steps):
        self.task, self.cuts, self.local_steps = task, cuts, local_steps
        base, lora, seed = task.model.base, task.trainable, stream(task.seed, "adapter").torch_seed()
        self.model = SplitModel.load(base, lora, dtype="float64", seed=seed)
        self.optimizer = task.training.optimizer
        self.whole = self.model.initial_adapter()
        self.draws = [
            BatchDraws(len(share), task.training.batch_size, stream(task.seed, "batches", client))
            for client, share in enumerate(task.shares)
        ]
        behind = self.model.server_names(min(cuts))
        self.memory = [
            self.optimizer.start({n: self.whole[n] for n in self.model.client_names(cut)}) for cut in cuts
        ]
        self.server_memory = self.optimizer.start({name: self.whole[name] for name in behind})

    def gradient(self, client, adapter, step):
        share = self.task.shares[client]
        rows = [share[row] for row in self.draws[client].rows(step).tolist()]
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in adapter.items()}
        outputs = self.model.whole_outputs(leaves, self.task.tokens.train.batch(rows))
        loss = outputs.loss_sum.sum() / outputs.num_targets.sum()
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    def round(self, number):
        weights, step_of = self.task.weights, self.optimizer.step
        server = {name: self.whole[name] for name in self.model.server_names(min(self.cuts))}
        own = [{name: self.whole[name] for name in self.model.client_names(cut)} for cut in self.cuts]
        for local in range(self.local_steps):
            step = number * self.local_steps + local
            gradients = [self.gradient(k, {**server, **mine}, step) for k, mine in enumerate(own)]
            down = {}
            for name in server:
                asking = [k for k, mine in enumerate(own) if name not in mine]
                if asking:
                    total = sum(weights[k] for k in asking)
                    down[name] = sum(gradients[k][name] * weights[k] for k in asking) / total
            for k, mine in enumerate(own):
                mine_down = {name: gradients[k][name] for name in mine}
                own[k], self.memory[k] = step_of(mine, mine_down, self.memory[k], step, 0)
            stepped = {name: server[name] for name in down}
            stepped, self.server_memory = step_of(stepped, down, self.server_memory, step, 0)
            server |= stepped
        self.whole = {
            name: sum(w * mine.get(name, server.get(name)) for w, mine in zip(weights, own, strict=True))
            for name in self.whole
        }


@pytest.mark.parametrize("executor", ["sequential", "batched"])
@pytest.mark.parametrize(
    "optimizer", [{"kind": "sgd", "momentum": 0.9}, {"kind": "adamw", "learning_rate": 1e-2}]
)
@pytest.mark.parametrize("cuts", [(1, 3, 2), (3, 2, 3)])
def test_a_training_cut_apart_is_that_of_models_put_together_by_hand(
    scenario, tmp_path, cuts, optimizer, executor
):
    made = scenario(
        cuts,
        model__dtype="float64",
        scheme__local_steps=2,
        training__optimizer=optimizer,
        training__executor=executor,
        data__partition={"kind": "size", "fractions": [0.5, 0.2, 0.3]},
    )
    folder = run(made, tmp_path / "run")
    by_hand = ByHand(prepare(made).task, cuts, 2)
    for number in range(2):
        by_hand.round(number)
    assert furthest(adapter_of(folder), by_hand.whole) <= 1e-11
    assert Record.open(folder).manifest["executor_fallback"] is None


def test_who_serves_the_clients_and_over_which_air_changes_nothing_that_is_learned(scenario, tmp_path):
    store = Store(tmp_path / "store")
    folder = run(scenario(), tmp_path / "run", store=store)
    learned = Record.open(folder).manifest["fingerprints"]["learning"]
    for number, changes in enumerate(
        (
            {"radio.main_uplink.bandwidth_hz": 40e6},
            {"allocator.kind": "random"},
            {"allocator.kind": "time_shared"},
        )
    ):
        other = Record.open(whatif(folder, changes, out=tmp_path / f"{number}", store=store))
        assert other.manifest["works"]["computed"] == 0
        assert other.manifest["fingerprints"]["learning"] == learned
    each = Record.open(run(scenario(scheme__server_batch="per_client"), tmp_path / "each"))
    assert furthest(adapter_of(folder), adapter_of(each.path)) == 0.0


def test_a_run_cut_apart_resumes_to_the_same_bytes(scenario, tmp_path):
    whole = run(scenario(), tmp_path / "whole")
    store = Store(tmp_path / "store")
    run(scenario(scheme__num_rounds=1), tmp_path / "begun", store=store)
    resumed = Record.open(run(scenario(), tmp_path / "resumed", store=store))
    assert resumed.manifest["works"]["recalled"] > 0
    for name in ("spans.parquet", "metrics.parquet", "adapter/adapter_model.safetensors"):
        assert (resumed.path / name).read_bytes() == (whole / name).read_bytes()


def test_a_late_client_s_blocks_are_averaged_without_it(scenario, tmp_path):
    """The slowest client keeps most blocks; without it the server's version of them counts alone."""
    clients = groups((1, 1, 3))
    clients[2]["clock_hz"] = 1e3
    folder = run(scenario(None, clients=clients, scheme__deadline_s=3.0), tmp_path / "run")
    rows = Record.open(folder).metrics.to_pylist()
    assert {row["value"] for row in rows if row["name"] == "num_clients_in_time"} == {2.0}
    assert all(torch.isfinite(tensor).all() for tensor in adapter_of(folder).values())


# What it takes


def all_counted(scenario):
    radio = scenario().radio.model_dump(mode="json")
    radio["main_downlink"]["modelled"] = radio["federated_downlink"]["modelled"] = True
    return radio


def test_each_client_computes_and_sends_what_it_would_behind_a_common_cut(scenario, play):
    apart, common = Counter(), {cut: Counter() for cut in CUTS}
    worlds = {None: (play(scenario(radio=all_counted(scenario))), apart)}
    for cut, counted in common.items():
        worlds[cut] = (play(scenario((cut,) * 3, radio=all_counted(scenario))), counted)
    for world, counted in worlds.values():
        spans = world.log.spans
        spans.settle()
        for name, actor, peer, bits, flop in zip(
            spans.name, spans.actor, spans.peer, spans.bits, spans.flop, strict=True
        ):
            client = next((one for one in (actor, peer) if one.startswith("client-")), "server")
            counted[name, client] += bits + flop
    for client, cut in enumerate(CUTS):
        who = f"client-{client}"
        mine = {name: amount for (name, one), amount in apart.items() if one == who}
        assert mine == {name: amount for (name, one), amount in common[cut].items() if one == who}
    served = apart["server_forward_backward", "server"]
    assert 3 * served == sum(common[cut]["server_forward_backward", "server"] for cut in CUTS)


@pytest.mark.parametrize("cuts", [(1, 3, 2), (3, 1, 2), (1, 1, 3)])
@pytest.mark.parametrize("kind", ["equal", "nested", "fedsllm_2024"])
def test_a_round_lasts_as_long_as_predicted_to_the_nanosecond(scenario, play, cuts, kind):
    world = play(scenario(cuts, allocator={"kind": kind}, radio=all_counted(scenario)))
    predicted_s = metrics_of(world, "predicted_round_s")["main-server"]
    assert metrics_of(world, "cut_layer") == {
        "main-server": min(cuts),
        **{f"client-{client}": cut for client, cut in enumerate(cuts)},
    }
    assert world.clock.now == 2 * round(predicted_s * NS_PER_S)
    plan = world.plan()
    assert plan["no_bound"] is None
    assert plan["gap_to_bound"] >= -1e-9


@pytest.mark.parametrize("kind", ["nested", "fedsllm"])
def test_an_allocator_that_may_cut_apart_is_no_slower_and_foresees_it(scenario, play, kind):
    slow = [{"count": 1, "clock_hz": hz} for hz in (1e5, 3e6, 3e7)]
    took = []
    for cut_per_client in (False, True):
        allocator = {"kind": kind, "cut_per_client": cut_per_client}
        world = play(scenario(None, clients=slow, allocator=allocator))
        assert world.clock.now / 2e9 == pytest.approx(
            metrics_of(world, "predicted_round_s")["main-server"], abs=1e-7
        )
        took.append(world.clock.now)
    assert took[1] <= took[0]
    assert len(metrics_of(world, "cut_layer")) in (1, 4)


def test_clients_without_an_adapter_beside_others_only_forward_and_upload(scenario, play, tmp_path):
    made = scenario((1, 2, 1), lora__blocks=[2, 3])
    world = play(made)
    world.log.spans.settle()
    ends = zip(world.log.spans.name, world.log.spans.actor, world.log.spans.peer, strict=True)
    names = Counter(name for name, *ends in ends if "client-0" in ends)
    assert set(names) == {"client_forward", "activation_upload"}
    assert set(adapter_of(run(made, tmp_path / "run"))) == {
        name for name in adapter_of(run(scenario(None, lora__blocks=[2, 3]), tmp_path / "whole"))
    }


@pytest.mark.parametrize(
    "codec", [{"kind": "top_k", "sparsification_ratio": 0.2}, {"kind": "bfloat16"}, {"kind": "qsgd"}]
)
def test_what_clients_cut_apart_send_may_be_encoded(scenario, tmp_path, codec):
    told = {f"scheme__{name}_codec": codec for name in ("activation", "gradient", "adapter")}
    if codec["kind"] == "bfloat16":
        told["scheme__deadline_s"] = 100.0
    whole = Record.open(run(scenario(), tmp_path / "whole", timing_only=True)).spans.to_pylist()
    store = Store(tmp_path / "store")
    record = Record.open(run(scenario(**told), tmp_path / "run", store=store))
    before = {
        (row["round"], row["local_step"], row["name"], row["actor"], row["peer"]): row["bits"]
        for row in whole
    }
    for row in record.spans.to_pylist():
        sent = before[row["round"], row["local_step"], row["name"], row["actor"], row["peer"]]
        is_encoded = row["name"] in ("activation_upload", "gradient_download", "adapter_upload")
        assert 0 < row["bits"] < sent if is_encoded else row["bits"] == sent
    wider = {"radio.main_uplink.bandwidth_hz": 40e6}
    wider = Record.open(whatif(record.path, wider, out=tmp_path / "wider", store=store))
    assert wider.manifest["works"]["computed"] == 0
    assert wider.manifest["fingerprints"]["learning"] == record.manifest["fingerprints"]["learning"]


# What is refused, and told


def test_a_cut_behind_the_last_block_is_told_by_its_setting(scenario):
    (fault,) = check(scenario((1, 4, 2)))
    assert fault.startswith("clients.cut_layer: 4 leaves nothing for the main server; ")
    assert fault.endswith("can be cut at 1 to 3.")


def test_an_aggregator_that_needs_equal_adapters_is_refused(scenario):
    (fault,) = check(scenario(scheme__aggregator={"kind": "flora"}))
    assert fault == (
        "clients.cut_layer: 1 to 3 are given, and the scheme 'split_federated' as it is set cuts all clients "
        "at the same block; give one for all, or take 'split_federated' with the aggregator "
        "'fedavg', weights by 'data', the server_optimizer 'none' and a codec without unsent = 'masked'."
    )
    (fault,) = check(scenario(scheme__adapter_codec={"kind": "soft", "unsent": "masked"}))
    assert "a codec without unsent = 'masked'" in fault
    assert check(scenario((2, 2, 2), scheme__aggregator={"kind": "flora"})) == []


def test_schemes_that_cut_nothing_care_for_no_cut(scenario):
    for kind in ("centralized", "federated"):
        assert check(scenario(scheme={"kind": kind})) == []


def test_memory_is_held_against_each_client_s_own_cut_and_the_server_s_smallest(scenario):
    task = prepare(scenario()).task
    needs = [task.client_memory_bytes(cut, task.trainable.lora_rank) for cut in CUTS]
    clients = groups(CUTS)
    for client, (settings, need) in enumerate(zip(clients, needs, strict=True)):
        settings["memory_bytes"] = float(need - (client == 1))
    (fault,) = check(scenario(None, clients=clients))
    assert fault.startswith("client-1: ")
    assert "cut_layer 3" in fault
    common = task.server_memory_bytes(1, task.trainable.lora_rank, 3)
    (fault,) = check(scenario(main_server__memory_bytes=1000.0))
    assert fault.startswith("main-server: ")
    assert check(scenario(main_server__memory_bytes=float(common - 1))) == []  # some come in further behind


def test_an_overview_tells_the_cut_of_each_client(scenario):
    text = "\n".join(overview(scenario()))
    assert "cut after block 1, 3, 2 client by client" in text
