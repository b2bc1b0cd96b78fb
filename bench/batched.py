"""Clients computed together against one after the other; alone: ``python -m bench.batched --device cuda``."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command line has it

import argparse
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Literal

from bench.ratio import Ratio
from cosim.graph.executor import Executor
from cosim.learning.data import embedded
from cosim.learning.execution import make_executor
from cosim.learning.settings import Data, Model, TrainingSettings
from cosim.learning.split_nodes import server_update, split_step
from cosim.learning.task import Task
from cosim.learning.trainable.lora import Lora
from cosim.learning.training import Training

CUT_LAYER, RANK, LOCAL_STEPS, REPEATS = 1, 4, 2, 5

Device = Literal["cpu", "cuda"]


def measure() -> list[Ratio]:
    """Return how many times faster a round is; on a GPU too, where there is one."""
    import torch

    devices: list[Device] = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return [ratio for device in devices for ratio in ratios(device)]


def ratios(
    device: Device, num_clients: Sequence[int] = (8, 32), batch_sizes: Sequence[int] = (1, 4)
) -> Iterator[Ratio]:
    """Return wall time of rounds computed client by client over that of the same rounds computed together."""
    aim = 2.0 if device == "cpu" else 10.0
    for clients in num_clients:
        for size in batch_sizes:
            alone, together = rounds_s(device, clients, size)
            name = f"sequential / batched, {device}, {clients} clients, batch {size} (4x128 GPT-2, 64 tokens)"
            each = 1e3 / (clients * LOCAL_STEPS)
            note = f"{alone * each:.2f} against {together * each:.2f} ms a mini-batch; aim {aim:g}"
            yield Ratio(name, alone / together, note=note)


def rounds_s(device: Device, num_clients: int, batch_size: int) -> tuple[float, float]:
    """Return the wall time of a round, sequential and batched: the least of several, taken in turns."""
    sides = [Rounds(device, num_clients, batch_size, one) for one in ("sequential", "batched")]
    times = [[side.play_s() for side in sides] for _ in range(REPEATS)]
    return min(one for one, _ in times), min(one for _, one in times)


class Rounds:
    """A split federated training without radio or clock: its nodes added and computed, round by round."""

    def __init__(
        self,
        device: Device,
        num_clients: int,
        batch_size: int,
        executor: Literal["sequential", "batched"],
    ) -> None:
        task = Task.prepare(
            Model(device=device),
            Lora(rank=RANK),
            Data(source=embedded.Embedded(num_train=20 * num_clients, num_test=8)),
            TrainingSettings(batch_size=batch_size, executor=executor),
            num_clients=num_clients,
            num_steps=1000,
            seed=0,
        )
        self._executor: Executor = make_executor(task, RANK)
        self._training = Training(task, CUT_LAYER, RANK)
        self._clients = [self._training.start("client")] * num_clients
        self._server = self._training.start("server")
        self._step = 0
        self.play_s()  # loads the model, and pays for whatever is only paid once

    def play_s(self) -> float:
        """Play a round and return how long it took."""
        begin = perf_counter()
        training, clients, server = self._training, self._clients, self._server
        losses = []
        for _ in range(LOCAL_STEPS):
            exchanges = [
                split_step(training, client, side, server, self._step) for client, side in enumerate(clients)
            ]
            server = server_update(training, server, exchanges, self._step)
            clients = [one.after for one in exchanges]
            losses += [one.loss for one in exchanges]
            self._step += 1
        average = training.mean({number: side.adapter for number, side in enumerate(clients)}).ref("adapter")
        keep = [average, server.adapter, server.optimizer, *(side.optimizer for side in clients)]
        self._executor.materialise(keep, losses)
        self._server = server
        self._clients = [side._replace(adapter=average) for side in clients]
        return perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4])
    told = parser.parse_args()
    for ratio in ratios(told.device, told.clients, told.batch_sizes):
        print(ratio, flush=True)


if __name__ == "__main__":
    main()
