"""Ferret: encoding and rebuilding an update of all parameters against the backward pass."""

from time import perf_counter

from bench.ratio import Ratio
from cosim.learning.codec import Layout
from cosim.learning.data.embedded import Embedded
from cosim.learning.execution import load_model
from cosim.learning.optimizer.sgd import Sgd
from cosim.learning.payload import adapter_layout
from cosim.learning.settings import Data, Model, TrainingSettings
from cosim.learning.task import Task
from cosim.learning.trainable.full import Full
from cosim.learning.update.ferret import Ferret, block_sizes
from cosim.rng import stream

PER_BLOCK, REPEATS = 2048, 5


def measure() -> list[Ratio]:
    """Return both, for 8 x 64 tokens through the embedded model and 2048 coordinates a block."""
    import torch

    task = Task.prepare(
        Model(),
        Full(),
        Data(source=Embedded(num_train=40, num_test=8)),
        TrainingSettings(batch_size=8, optimizer=Sgd(learning_rate=0.01)),
        num_clients=1,
        num_steps=100,
        seed=0,
    )
    layout = adapter_layout(task, task.shape.num_layers, 1)
    count = PER_BLOCK * len(block_sizes(layout))
    step = Ferret(num_coordinates=count, budget="equal")
    generator = torch.Generator().manual_seed(0)
    update = {name: torch.randn(shape, generator=generator) for name, shape in layout.shapes.items()}
    begin = perf_counter()
    applied = step.apply(update, stream(1))
    encoded = perf_counter()
    step.restore(applied.numbers, (), Layout.of(update), stream(1))
    encode_s, rebuild_s, backward_s = encoded - begin, perf_counter() - encoded, _backward_s(task)
    note = f"{layout.num_numbers:,} parameters, {count:,} coordinates, {step.encode_flop(layout):.3g} FLOP"
    return [
        Ratio("Ferret's projection / a backward pass", encode_s / backward_s, note=note),
        Ratio(
            "Ferret's reconstruction / a backward pass",
            rebuild_s / backward_s,
            note=f"{encode_s:.1f} and {rebuild_s:.1f} s against {backward_s * 1e3:.1f} ms",
        ),
    ]


def _backward_s(task: Task) -> float:
    """Return the least wall time of a backward pass, by every parameter."""
    import torch

    from cosim.learning.learner import leaves_of, mean_loss

    model, batch, times = load_model(task, 1), task.tokens.train.batch(list(range(8))).trimmed(), []
    for _ in range(REPEATS):
        leaves = leaves_of(model.initial_adapter())
        loss = mean_loss(model.whole_outputs(leaves, batch))
        begin = perf_counter()
        torch.autograd.grad(loss, list(leaves.values()))
        times.append(perf_counter() - begin)
    return min(times)
