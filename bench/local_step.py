"""A local step of each trainable, as a run computes it, against a bare loop of the same arithmetic."""

from collections.abc import Callable
from time import perf_counter

from bench.ratio import Ratio, paired
from cosim.learning.data.embedded import Embedded
from cosim.learning.execution import load_model, make_executor
from cosim.learning.optimizer.sgd import Sgd
from cosim.learning.settings import Data, Model, TrainingSettings
from cosim.learning.task import Task
from cosim.learning.train_state import TrainState
from cosim.learning.trainable import Trainable
from cosim.learning.trainable.full import Full
from cosim.learning.trainable.lora import Lora
from cosim.learning.trainable.prefix import Prefix
from cosim.learning.trainable.sparse import Sparse
from cosim.learning.training import Training
from cosim.learning.whole_nodes import local_round

MOST, PAIRS, STEPS, RATE = 1.10, 12, 4, 0.01
TRAINABLES: tuple[Trainable, ...] = (Lora(rank=4), Full(), Prefix(num_tokens=20), Sparse())


def measure() -> list[Ratio]:
    """Return the ratio of each, 8 x 64 tokens through the embedded model, median of pairs that take turns."""
    return [_ratio(one) for one in TRAINABLES]


def _ratio(trainable: Trainable) -> Ratio:
    task = Task.prepare(
        Model(),
        trainable,
        Data(source=Embedded(num_train=40, num_test=8)),
        TrainingSettings(batch_size=8, optimizer=Sgd(learning_rate=RATE)),
        num_clients=1,
        num_steps=1000,
        seed=0,
    )
    ours, bare = _ours(task), _bare(task)
    times = [(_time(ours), _time(bare)) for _ in range(PAIRS + 1)][1:]
    found = paired(*zip(*times, strict=True))
    return Ratio(
        f"local step / bare loop, {trainable.kind}",
        found.median,
        MOST,
        note=f"{found}; {min(times)[0] / STEPS * 1e3:.1f} ms a step",
    )


def _ours(task: Task) -> Callable[[], None]:
    """Return what takes some steps as a run does."""
    executor = make_executor(task, task.trainable.lora_rank)
    training = Training(task, task.shape.num_layers, task.trainable.lora_rank)
    state: tuple[TrainState, int] = (training.start("whole"), 0)

    def play() -> None:
        nonlocal state
        side, first = state
        learned = local_round(training, 0, side, range(first, first + STEPS))
        executor.materialise(
            [learned.after.adapter, learned.after.optimizer], [one.loss for one in learned.steps]
        )
        state = learned.after, first + STEPS

    return play


def _bare(task: Task) -> Callable[[], None]:
    """Return what takes as many steps on the same mini-batches in a plain loop."""
    import torch

    from cosim.learning.learner import leaves_of, mean_loss

    model = load_model(task, task.trainable.lora_rank)
    training = Training(task, task.shape.num_layers, task.trainable.lora_rank)
    tensors = leaves_of(model.initial_adapter())
    optimizer = torch.optim.SGD(list(tensors.values()), lr=RATE)
    count = 0

    def play() -> None:
        nonlocal count
        for step in range(count, count + STEPS):
            batch = task.tokens.train.batch(training.batch(0, step)["rows"]).trimmed()
            optimizer.zero_grad()
            loss = mean_loss(model.whole_outputs(tensors, batch))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()
        count += STEPS

    return play


def _time(action: Callable[[], None]) -> float:
    begin = perf_counter()
    action()
    return perf_counter() - begin
