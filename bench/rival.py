"""The loop a PyTorch user would write for a job of :mod:`bench.overhead`, in a process of its own.

Transformers and PEFT with their defaults: fused attention, OpenMP waiting as it comes. The rows,
the order they are drawn in, and their padding are those of cosim. Each line read asks for a round;
each line written has its seconds, wall and CPU, and the loss of its last step.

    python -m bench.rival JOB full|longest
"""

import sys
from collections.abc import Iterator
from time import perf_counter, process_time
from typing import Any
from warnings import simplefilter

from cosim.learning.data.batch import Batch
from cosim.learning.data.draws import BatchDraws
from cosim.learning.model import SplitModel
from cosim.learning.task import Task
from cosim.rng import stream
from cosim.scenario.build import prepare
from cosim.scenario.settings import Scenario


class Loop:
    """Federated averaging of LoRA adapters over some clients; ``trims`` leaves out padding of all rows."""

    def __init__(self, scenario: Scenario, *, trims: bool) -> None:
        import torch
        import transformers
        from peft import LoraConfig, get_peft_model

        transformers.logging.set_verbosity_error()
        simplefilter("ignore")  # peft asks transformers under a name that newer releases have renamed
        self._task, self._trims = prepare(scenario).task, trims
        self._steps = scenario.scheme.local_steps
        base = scenario.model.base.load("causal_lm", 0, "float32")
        base.set_attn_implementation("sdpa")  # the default, which cosim's own loading does not take
        settings = scenario.lora.peft_settings(self._task.shape, base.name_or_path)
        self._model = get_peft_model(base, LoraConfig(**settings)).eval()  # as cosim: no dropout
        seed = stream(self._task.seed, "adapter").torch_seed()
        start = SplitModel.load(scenario.model.base, scenario.lora, seed=seed).initial_adapter()
        trained = {name: one for name, one in self._model.named_parameters() if one.requires_grad}
        self._mine = list(trained.values())
        self._global = [start[name.replace(".default.", ".")] for name in trained]
        rate = scenario.training.optimizer.learning_rate
        self._optimizers = [torch.optim.AdamW(self._mine, lr=rate) for _ in self._task.shares]
        self._draws = [_draws(self._task, client) for client in range(self._task.num_clients)]
        self._round = 0

    def round(self) -> float:
        """Play a round and return the loss of its last step."""
        import torch

        sums = [torch.zeros_like(one) for one in self._global]
        for client, optimizer in enumerate(self._optimizers):
            with torch.no_grad():
                for mine, given in zip(self._mine, self._global, strict=True):
                    mine.copy_(given)
            for batch in self._batches(client):
                loss = self._model(
                    input_ids=torch.tensor(batch.input_ids),
                    attention_mask=torch.tensor(batch.attention_mask).long(),
                    labels=torch.tensor(batch.labels),
                ).loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                for total, mine in zip(sums, self._mine, strict=True):
                    total.add_(mine, alpha=self._task.weights[client])
        self._global = sums
        self._round += 1
        return float(loss.item())

    def _batches(self, client: int) -> Iterator[Batch]:
        share = self._task.shares[client]
        for step in range(self._round * self._steps, (self._round + 1) * self._steps):
            rows = [share[row] for row in self._draws[client].rows(step).tolist()]
            batch = self._task.tokens.train.batch(rows)
            yield batch.trimmed() if self._trims else batch


def _draws(task: Task, client: int) -> BatchDraws:
    size = task.training.batch_size
    return BatchDraws(len(task.shares[client]), size, stream(task.seed, "batches", client))


def main(arguments: list[str]) -> None:
    """Play a round for each line."""
    from bench.overhead import JOBS

    job, padding = arguments
    loop: Any = Loop(JOBS[job].scenario(), trims=padding == "longest")
    for _ in sys.stdin:
        begin, begin_cpu = perf_counter(), process_time()
        loss = loop.round()
        print(perf_counter() - begin, process_time() - begin_cpu, loss, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
