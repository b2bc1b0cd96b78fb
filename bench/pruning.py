"""A local step of a client that leaves out half of the heads and columns, against one of the whole model."""

from time import process_time

import torch

from bench.ratio import Ratio, paired
from cosim.learning.execution import load_model
from cosim.learning.learner import leaves_of, mean_loss
from cosim.learning.model import Adapter, SplitModel
from cosim.learning.narrowing import choose, narrow, narrow_model
from cosim.learning.settings import Data, Model, TrainingSettings
from cosim.learning.task import Task
from cosim.learning.trainable import Trainable
from cosim.learning.trainable.full import Full
from cosim.learning.trainable.lora import Lora
from cosim.learning.units import axes_of, kept_units

TRAINABLES: tuple[Trainable, ...] = (
    Lora(rank=4, target_modules=("all-linear",)),
    Full(only=("attention", "mlp")),
)
BATCH_SIZE, PAIRS = 16, 12


def measure() -> list[Ratio]:
    """Return CPU time of passes there and back, pruned over whole, and of making the pruned model."""
    return [ratio for trainable in TRAINABLES for ratio in _ratios(trainable)]


def _ratios(trainable: Trainable) -> list[Ratio]:
    settings = TrainingSettings(batch_size=BATCH_SIZE)
    task = Task.prepare(Model(), trainable, Data(), settings, num_clients=1, num_steps=1, seed=0)
    model = load_model(task, trainable.lora_rank)
    adapter = model.initial_adapter()
    kept = kept_units(model.shape, 0.5, [(True, True)] * model.shape.num_layers)
    units, axes = choose(model, adapter, kept), axes_of(model.shape, adapter)
    began_s = process_time()
    small, part = narrow_model(model, units), narrow(adapter, axes, units)
    made_s = process_time() - began_s
    sides = ((small, part), (model, adapter))
    times = [[_step_s(task, *side) for side in sides] for _ in range(PAIRS + 1)][1:]
    pruned, whole = ([one[side] for one in times] for side in (0, 1))
    ratio = paired(pruned, whole)
    weights = [one.shape.num_weights / 1e6 for one in (small, model)]
    name = f"pruned at one half / whole step, {trainable.kind}, 4x128 GPT-2, {BATCH_SIZE} texts"
    spent = f"{min(pruned) * 1e3:.1f} against {min(whole) * 1e3:.1f} ms"
    note = f"{ratio}; {spent}; {weights[0]:.2f} of {weights[1]:.2f} M weights"
    slicing = f"to slice the model / one pruned step, {trainable.kind}, once a client and round"
    return [Ratio(name, ratio.median, 1.0, note=note), Ratio(slicing, made_s / min(pruned))]


def _step_s(task: Task, model: SplitModel, adapter: Adapter) -> float:
    leaves, batch = leaves_of(adapter), task.tokens.train.batch(list(range(BATCH_SIZE)))
    began_s = process_time()
    torch.autograd.grad(mean_loss(model.whole_outputs(leaves, batch)), list(leaves.values()))
    return process_time() - began_s
