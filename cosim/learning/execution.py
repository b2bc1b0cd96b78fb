"""Who computes the nodes of a training; the model is loaded when the first one must be computed."""

from typing import TYPE_CHECKING

from cosim.errors import ScenarioError
from cosim.graph.batched import Batched
from cosim.graph.executor import Computing, Executor, Fetch, Recalling, Sequential
from cosim.graph.store import Store
from cosim.learning.task import Task
from cosim.rng import stream

if TYPE_CHECKING:
    from cosim.learning.model import SplitModel


def make_executor(task: Task, lora_rank: int, store: Store | None = None) -> Executor:
    """Return the executor of a training at this rank.

    With a store, what it holds is recalled and what it does not is kept.
    """
    goes_on = task.training.on_divergence == "continue"

    def computing(fetch: Fetch | None = None) -> Computing:
        from cosim.learning.learner import Learner
        from cosim.learning.stacks import StackedLearner

        if task.training.executor == "batched":
            return Batched(
                lambda: StackedLearner(task, load_model(task, lora_rank)),
                task.max_group,
                fetch,
                goes_on=goes_on,
            )
        return Sequential(lambda: Learner(task, load_model(task, lora_rank)), fetch, goes_on=goes_on)

    if store is None:
        return computing()
    return Recalling(store.namespace(task.key), computing, task.model.torch_device)


def load_model(task: Task, lora_rank: int) -> "SplitModel":
    """Return the base with slots for what is trained, at this rank.

    Raises
    ------
    ScenarioError
        If the model cannot be loaded, or its weights were replaced meanwhile.
    """
    from cosim.learning.model import SplitModel

    model = SplitModel.load(
        task.model.base,
        task.trainable.of_rank(lora_rank),
        task=task.shape.task,
        num_labels=task.shape.num_labels,
        dtype=task.model.dtype,
        device=task.model.torch_device,
        seed=stream(task.seed, "adapter").torch_seed(),
    )
    if task.model.base.content_key() != task.model_hash:
        # values would be kept under keys of other weights
        raise ScenarioError("model.base: its weights were replaced while the run began; run it again.")
    return model
