"""Federated LoRA against an implementation of its own: transformers, PEFT, torch.optim, in a plain loop."""

import pytest
import torch
from safetensors.torch import load_file

from cosim.learning.data.draws import BatchDraws
from cosim.learning.execution import make_executor
from cosim.learning.training import Training
from cosim.record.folder import Record
from cosim.rng import stream
from cosim.runs import run
from cosim.scenario.build import prepare

NUM_CLIENTS, NUM_ROUNDS, LOCAL_STEPS, RANK = 8, 2, 2, 4
FRACTIONS = [0.2, 0.1, 0.1, 0.15, 0.1, 0.1, 0.15, 0.1]
OPTIMIZERS = {
    "sgd": ({"kind": "sgd", "learning_rate": 0.2}, lambda ours: torch.optim.SGD(ours, lr=0.2)),
    "adamw": (
        {"kind": "adamw", "learning_rate": 1e-2},
        lambda ours: torch.optim.AdamW(ours, lr=1e-2, weight_decay=0.01),
    ),
}


def mean_by_data(ends, sizes):
    return {
        name: sum(size * end[name] for size, end in zip(sizes, ends, strict=True)) / sum(sizes)
        for name in ends[0]
    }


def mean_by_flower(ends, sizes):
    """Return what Flower's own strategy makes of the clients' tensors."""
    from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.server.strategy import FedAvg

    def result(end, size):
        arrays = ndarrays_to_parameters([one.numpy() for one in end.values()])
        return None, FitRes(Status(Code.OK, ""), arrays, size, {})

    results = [result(end, size) for end, size in zip(ends, sizes, strict=True)]
    found, _ = FedAvg(min_available_clients=len(ends)).aggregate_fit(1, results, [])
    arrays = map(torch.from_numpy, parameters_to_ndarrays(found))
    return dict(zip(ends[0], arrays, strict=True))


def name_in_file(name):
    """Return the name PEFT saves a parameter under."""
    name = name.replace(".default.", ".")
    return name.removesuffix(".weight") if "magnitude" in name else name


def by_hand(task, make_optimizer, num_rounds=NUM_ROUNDS, mean=mean_by_data):
    """Return the global adapter by the names PEFT saves it under, and the losses of all steps."""
    from peft import LoraConfig, get_peft_model

    base = task.model.base.load("causal_lm", 0, "float64")
    layers = ["c_attn", "c_proj", "c_fc"]  # all of GPT-2's blocks, stored as inputs by outputs
    settings = {"lora_alpha": 8 * RANK, "use_dora": task.trainable.use_dora, "fan_in_fan_out": True}
    config = LoraConfig(r=RANK, target_modules=layers, **settings)
    model = get_peft_model(base, config).double().eval()
    mine = {name_in_file(name): one for name, one in model.named_parameters() if ".lora_" in name}
    start = Training(task, task.shape.num_layers, task.trainable.lora_rank).start("whole")
    (average,) = make_executor(task, task.trainable.lora_rank).materialise((), [start.adapter])
    assert average.keys() == mine.keys()
    optimizers = [make_optimizer(list(mine.values())) for _ in range(NUM_CLIENTS)]
    sizes = [len(share) for share in task.shares]
    losses = {}
    for round_ in range(num_rounds):
        ends = []
        for client, share in enumerate(task.shares):
            draws = BatchDraws(len(share), task.training.batch_size, stream(task.seed, "batches", client))
            with torch.no_grad():
                for name, one in mine.items():
                    one.copy_(average[name])
            for number in range(LOCAL_STEPS):
                rows = [share[row] for row in draws.rows(round_ * LOCAL_STEPS + number)]
                batch = task.tokens.train.batch(rows)
                ids, mask = torch.tensor(batch.input_ids).long(), torch.tensor(batch.attention_mask).long()
                logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
                targets = torch.tensor(batch.labels).long()[:, 1:]
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
                losses[round_ + 1, number + 1, f"client-{client}"] = loss.item()
                optimizers[client].zero_grad()
                loss.backward()
                optimizers[client].step()
            ends.append({name: one.detach().clone() for name, one in mine.items()})
        average = mean(ends, sizes)
    return average, losses


@pytest.fixture
def scenario_of(tiny_scenario):
    def scenario(optimizer, num_rounds=NUM_ROUNDS, use_dora=False):
        changes = {
            "model.dtype": "float64",
            "lora.rank": RANK,
            "lora.target_modules": ["all-linear"],
            "lora.use_dora": use_dora,
            "clients.count": NUM_CLIENTS,
            "data.partition": {"kind": "size", "fractions": FRACTIONS},
            "training.optimizer": optimizer,
            "scheme": {"kind": "federated", "num_rounds": num_rounds, "local_steps": LOCAL_STEPS},
        }
        return tiny_scenario(changes)

    return scenario


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(("kind", "use_dora"), [("sgd", False), ("adamw", False), ("adamw", True)])
def test_eight_clients_are_averaged_as_by_hand(kind, use_dora, scenario_of, tmp_path):
    settings, make_optimizer = OPTIMIZERS[kind]
    scenario = scenario_of(settings, use_dora=use_dora)
    found = load_file(run(scenario, tmp_path / "run") / "adapter" / "adapter_model.safetensors")
    expected, losses = by_hand(prepare(scenario).task, make_optimizer)
    assert found.keys() == expected.keys()
    assert max(float((found[name] - one).abs().max()) for name, one in expected.items()) <= 1e-7
    for row in Record.open(tmp_path / "run").metrics.to_pylist():
        if row["name"] == "train_loss":
            assert row["value"] == pytest.approx(
                losses[row["round"], row["local_step"], row["actor"]], abs=1e-7
            )


@pytest.mark.filterwarnings("ignore")  # other people's
def test_five_rounds_equal_those_of_flower(scenario_of, tmp_path):
    pytest.importorskip("flwr", reason="Flower is not installed: pip install 'cosim-fl[flower]'")
    settings, make_optimizer = OPTIMIZERS["sgd"]
    scenario = scenario_of(settings, num_rounds=5)
    found = load_file(run(scenario, tmp_path / "run") / "adapter" / "adapter_model.safetensors")
    expected, _ = by_hand(prepare(scenario).task, make_optimizer, 5, mean_by_flower)
    assert all(found[name].dtype == torch.float64 for name in found)
    assert max(float((found[name] - one).abs().max()) for name, one in expected.items()) <= 1e-6
