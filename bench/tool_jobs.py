"""A federated job as users of Flower and of pfl-research write it, in a process of its own.

Nothing of cosim is imported here: :mod:`bench.tools` leaves a base, a PEFT adapter and rows of tokens in
a folder. Each job prints the CPU time of processes that nobody waits for and the held-out loss of what it
has learned. To the advantage of both, rows are tokenised already, and a process loads its model once.

    python -c "from bench.tool_jobs import flower; flower('FOLDER')"
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

transformers.logging.set_verbosity_error()


class Job:
    """What the folder of a job holds, and its model."""

    def __init__(self, folder: str) -> None:
        self.settings = json.loads((Path(folder) / "job.json").read_text(encoding="utf-8"))
        self._arrays = dict(np.load(Path(folder) / "rows.npz"))
        base = transformers.AutoModelForCausalLM.from_pretrained(self.settings["base"])
        self.model = PeftModel.from_pretrained(base, str(Path(folder) / "adapter"), is_trainable=True)

    def rows(self, client: int, round_: int) -> dict[str, Tensor]:
        """Return the rows of a client's round, mini-batch after mini-batch; rounds count from 0."""
        drawn = self._arrays["drawn"][client, round_].reshape(-1)
        return {name: one[drawn] for name, one in self._part("train").items()}

    def batches(self, client: int, round_: int) -> list[dict[str, Tensor]]:
        """Return the mini-batches of a client's round."""
        rows, size = self.rows(client, round_), self.settings["batch_size"]
        count = len(rows["labels"])
        return [{name: one[at : at + size] for name, one in rows.items()} for at in range(0, count, size)]

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Return the mean loss of a held-out target, nats."""
        return float(self.model(**self._part("test")).loss)

    def _part(self, part: str) -> dict[str, Tensor]:
        names = ("input_ids", "attention_mask", "labels")
        return {name: torch.from_numpy(self._arrays[f"{part}_{name}"]) for name in names}


@cache
def opened(folder: str) -> Job:
    """Return the job of a folder, loaded once in a process; Ray finds it in a worker by this name."""
    return Job(folder)


def flower(folder: str) -> None:
    """Play the job in Flower's simulation, its clients in workers of Ray with a core each.

    To its advantage, ``run_simulation`` plays in this process what ``flwr run`` sends to a SuperLink.
    """
    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    settings = json.loads((Path(folder) / "job.json").read_text(encoding="utf-8"))
    num_clients = settings["num_clients"]
    client_app, server_app, said = ClientApp(), ServerApp(), []

    @client_app.train()
    def train(message: Any, context: Any) -> Any:
        job = opened(folder)
        set_peft_model_state_dict(job.model, message.content["arrays"].to_torch_state_dict())
        optimizer = torch.optim.SGD(job.model.parameters(), lr=settings["learning_rate"])
        round_ = message.content["config"]["server-round"] - 1
        for batch in job.batches(context.node_config["partition-id"], round_):
            optimizer.zero_grad()
            loss = job.model(**batch).loss
            loss.backward()
            optimizer.step()
        metrics = MetricRecord({"train_loss": loss.item(), "num-examples": 1})
        arrays = ArrayRecord(get_peft_model_state_dict(job.model))
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    @server_app.main()
    def main(grid: Any, context: Any) -> None:
        from psutil import Process  # Ray, imported by now, brings it along

        job = opened(folder)
        wait = {"min_available_nodes": num_clients, "min_train_nodes": num_clients}
        result = FedAvg(**wait, fraction_evaluate=0.0).start(
            grid=grid,
            initial_arrays=ArrayRecord(get_peft_model_state_dict(job.model)),
            num_rounds=settings["num_rounds"],
            train_config=ConfigRecord({}),
        )
        set_peft_model_state_dict(job.model, result.arrays.to_torch_state_dict())
        times = [one.cpu_times() for child in Process().children() for one in child.children(recursive=True)]
        said.extend([sum(one.user + one.system for one in times), job.held_out_loss()])

    cores = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server_app, client_app, num_clients, backend_config=cores)
    print(*said)


class _Net(torch.nn.Module):
    """A model as pfl-research wants it."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def loss(self, **batch: Tensor) -> Any:
        return self.model(**batch).loss

    def metrics(self, **batch: Tensor) -> dict[str, Any]:
        from pfl.metrics import Weighted

        count = len(batch["labels"])
        return {"loss": Weighted(float(self.loss(**batch)) * count, count)}


def pfl(folder: str) -> None:
    """Play the job in pfl-research's simulation."""
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam.base import NNTrainHyperParams
    from pfl.model.pytorch import PyTorchModel

    job = opened(folder)
    num_clients, num_rounds = job.settings["num_clients"], job.settings["num_rounds"]
    played = dict.fromkeys(range(num_clients), 0)

    def dataset(client: int) -> Any:
        played[client] += 1
        return PyTorchTensorDataset(job.rows(client, played[client] - 1), user_id=str(client))

    net = _Net(job.model)
    central = torch.optim.SGD([one for one in net.parameters() if one.requires_grad], lr=1.0)
    data = FederatedDataset(dataset, get_user_sampler("minimize_reuse", list(played)))
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=num_rounds,
            evaluation_frequency=num_rounds + 1,
            train_cohort_size=num_clients,
            val_cohort_size=0,
        ),
        SimulatedBackend(data, data, postprocessors=[WeightByDatapoints()]),
        PyTorchModel(net, torch.optim.SGD, central),
        NNTrainHyperParams(
            local_num_epochs=1,
            local_learning_rate=job.settings["learning_rate"],
            local_batch_size=job.settings["batch_size"],
        ),
    )
    print(0.0, job.held_out_loss())
