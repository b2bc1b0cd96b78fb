"""Who computes the nodes of a training; the model is loaded when the first one must be computed."""

from typing import TYPE_CHECKING

from cosim.errors import ScenarioError
from cosim.graph.batched import Batched
from cosim.graph.executor import Computing, Executor, Fetch, Recalling, Sequential
from cosim.graph.store import Store
from cosim.learning.lesson import Lesson
from cosim.rng import stream

if TYPE_CHECKING:
    from cosim.learning.model import SplitModel


def make_executor(lesson: Lesson, lora_rank: int, store: Store | None = None) -> Executor:
    """Return the executor of a training at this rank.

    With a store, what it holds is recalled and what it does not is kept.
    """
    goes_on = lesson.training.on_divergence == "continue"

    def computing(fetch: Fetch | None = None) -> Computing:
        from cosim.learning.learner import Learner
        from cosim.learning.stacks import StackedLearner

        if lesson.training.executor == "batched":
            return Batched(
                lambda: StackedLearner(lesson, load_model(lesson, lora_rank)),
                lesson.max_group,
                fetch,
                goes_on=goes_on,
            )
        return Sequential(lambda: Learner(lesson, load_model(lesson, lora_rank)), fetch, goes_on=goes_on)

    if store is None:
        return computing()
    return Recalling(store.namespace(lesson.key), computing, lesson.model.torch_device)


def load_model(lesson: Lesson, lora_rank: int) -> "SplitModel":
    """Return the base with slots for what is trained, at this rank.

    The process keeps its memory from now on; see :func:`cosim.learning.allocator.keep_memory`.

    Raises
    ------
    ScenarioError
        If the model cannot be loaded, or its weights were replaced meanwhile.
    """
    from cosim.learning.allocator import keep_memory
    from cosim.learning.model import SplitModel

    keep_memory()
    model = SplitModel.load(
        lesson.model.base,
        lesson.trainable.of_rank(lora_rank),
        task=lesson.shape.task,
        num_labels=lesson.shape.num_labels,
        dtype=lesson.model.dtype,
        device=lesson.model.torch_device,
        seed=stream(lesson.seed, "adapter").torch_seed(),
    )
    if lesson.model.base.content_key() != lesson.model_hash:
        # values would be kept under keys of other weights
        raise ScenarioError("model.base: its weights were replaced while the run began; run it again.")
    return model
