"""Ten small Flower applications, and Flower's own simulation of them in this process."""

import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg as LegacyFedAvg
from flwr.server.superlink.fleet.vce.backend import Backend
from flwr.serverapp import ServerApp
from flwr.serverapp import strategy as strategies
from flwr.simulation import run_simulation

NUM_CLIENTS = 3
ALL = {f"min_{what}_nodes": NUM_CLIENTS for what in ("available", "train", "evaluate")}
"""Wait for every node: in Flower's simulation the last may register after a round has begun."""


def share(partition):
    """Return the examples of a client; the same whenever it is asked for."""
    generator = torch.Generator().manual_seed(int(partition))
    points = torch.randn(24 + 8 * int(partition), 6, generator=generator)
    return points, (points @ torch.arange(6.0)[:, None]) * 0.3 + 0.1 * torch.randn(
        len(points), 1, generator=generator
    )


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def fit(model, partition, proximal_mu=0.0, num_steps=3):
    points, targets = share(partition)
    start = [one.detach().clone() for one in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(points), targets)
        near = sum((one - other).square().sum() for one, other in zip(model.parameters(), start, strict=True))
        (loss + proximal_mu / 2 * near).backward()
        optimizer.step()
    return float(loss.detach()), len(points)


def client_app(mods=None, num_steps=3):
    app = ClientApp(mods=mods)

    @app.train()
    def train(message, context):
        model = network()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        mu = message.content["config"].get("proximal-mu", 0.0)
        loss, count = fit(model, context.node_config["partition-id"], mu, num_steps)
        metrics = MetricRecord({"train_loss": loss, "num-examples": count})
        return Message(
            RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message
        )

    @app.evaluate()
    def evaluate(message, context):
        model = network()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        points, targets = share(context.node_config["partition-id"])
        with torch.no_grad():
            loss = float(torch.nn.functional.mse_loss(model(points), targets))
        metrics = MetricRecord({"eval_loss": loss, "num-examples": len(points)})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


@dataclass
class App:
    """An application, and what it has learned when it has run: numbers in a fixed order."""

    server_app: ServerApp
    client_app: ClientApp
    learned: list


def with_strategy(make, mods=None, num_rounds=2, num_steps=3):
    learned = []
    app = ServerApp()

    @app.main()
    def main(grid, context):
        result = make().start(
            grid=grid,
            initial_arrays=ArrayRecord(network().state_dict()),
            num_rounds=num_rounds,
            train_config=ConfigRecord({"lr": 0.05}),
        )
        learned.extend(np.concatenate([one.ravel() for one in result.arrays.to_numpy_ndarrays()]).tolist())
        learned.extend(one["eval_loss"] for one in result.evaluate_metrics_clientapp.values())

    return App(app, client_app(mods, num_steps), learned)


class HalfWay(strategies.FedAvg):
    """A strategy of a user's own: half a step towards the average."""

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        before = getattr(self, "held", None)
        arrays, metrics = super().aggregate_train(server_round, replies)
        if before is not None:
            pairs = zip(before.to_numpy_ndarrays(), arrays.to_numpy_ndarrays(), strict=True)
            names = list(arrays)
            halves = [torch.from_numpy((one + other) / 2) for one, other in pairs]
            arrays = ArrayRecord(dict(zip(names, halves, strict=True)))
        self.held = arrays
        return arrays, metrics


def counting_mod(message, context, call_next):
    """Count calls in the state of the client, and send the count along."""
    calls = context.state.config_records.setdefault("calls", ConfigRecord({"count": 0}))
    calls["count"] += 1
    reply = call_next(message, context)
    reply.content["metrics"]["calls"] = calls["count"]
    return reply


class Old(NumPyClient):
    """The API of before."""

    def __init__(self, partition):
        self.partition, self.model = partition, network()

    def _set(self, parameters):
        state = zip(self.model.state_dict(), map(torch.from_numpy, parameters), strict=True)
        self.model.load_state_dict({name: one.clone() for name, one in state})

    def fit(self, parameters, config):
        self._set(parameters)
        loss, count = fit(self.model, self.partition)
        return [one.numpy() for one in self.model.state_dict().values()], count, {"train_loss": loss}

    def evaluate(self, parameters, config):
        self._set(parameters)
        points, targets = share(self.partition)
        with torch.no_grad():
            loss = float(torch.nn.functional.mse_loss(self.model(points), targets))
        return loss, len(points), {}

    def get_parameters(self, config):
        return [one.numpy() for one in self.model.state_dict().values()]


def legacy():
    learned = []

    class Remembers(LegacyFedAvg):
        def aggregate_evaluate(self, server_round, results, failures):
            loss, metrics = super().aggregate_evaluate(server_round, results, failures)
            learned.append(loss)
            return loss, metrics

    def server_fn(context):
        return ServerAppComponents(
            strategy=Remembers(
                min_available_clients=NUM_CLIENTS,
                min_fit_clients=NUM_CLIENTS,
                min_evaluate_clients=NUM_CLIENTS,
            ),
            config=ServerConfig(num_rounds=2),
        )

    client = ClientApp(client_fn=lambda context: Old(context.node_config["partition-id"]).to_client())
    return App(ServerApp(server_fn=server_fn), client, learned)


def _clipped():
    return strategies.DifferentialPrivacyClientSideFixedClipping(
        strategies.FedAvg(**ALL),
        noise_multiplier=0.0,
        clipping_norm=0.5,
        num_sampled_clients=NUM_CLIENTS,
    )


def _of(kind, **settings):
    return lambda: with_strategy(lambda: kind(**ALL, **settings))


TEN = {
    "fedavg": _of(strategies.FedAvg),
    "fedprox": _of(strategies.FedProx, proximal_mu=0.1),
    "fedadam": _of(strategies.FedAdam),
    "fedyogi": _of(strategies.FedYogi),
    "fedavgm": _of(strategies.FedAvgM, server_momentum=0.5),
    "fedadagrad": _of(strategies.FedAdagrad),
    "fedmedian": _of(strategies.FedMedian),
    "fedtrimmedavg": _of(strategies.FedTrimmedAvg, beta=0.34),
    "own strategy, mods": lambda: with_strategy(lambda: HalfWay(**ALL), mods=[counting_mod]),
    "numpy client": legacy,
}


def heavier(num_rounds):
    """Return FedAvg with hundreds of steps a round, for timing."""
    return with_strategy(lambda: strategies.FedAvg(**ALL), num_rounds=num_rounds, num_steps=200)


CLIPPED = lambda: with_strategy(_clipped, mods=[fixedclipping_mod])  # noqa: E731


class InProcess(Backend):
    """Flower's simulation runs clients in workers of Ray; this one runs them here, one after the other."""

    def build(self, app_fn):
        self.app = app_fn()

    num_workers = 1

    def is_worker_idle(self):
        return True

    def terminate(self):
        pass

    def process_message(self, message, context):
        return self.app(message, context), context


def simulate(app):
    """Run an application in Flower's own simulation: its engine, its link state, its in-memory grid."""
    ray = ModuleType("ray")  # is looked for, and then not used
    ray.__spec__ = ModuleSpec("ray", None)
    backend = ModuleType("raybackend")
    backend.RayBackend = InProcess
    replaced = {"ray": ray, "flwr.server.superlink.fleet.vce.backend.raybackend": backend}
    with patch.dict(sys.modules, replaced):
        run_simulation(app.server_app, app.client_app, NUM_CLIENTS)
