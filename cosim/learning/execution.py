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

    def computing(fetch: Fetch | None = None) -> Computing:
        from cosim.learning.learner import Learner
        from cosim.learning.stacks import StackedLearner

        if lesson.training.executor == "batched":
            return Batched(lambda: StackedLearner(lesson, _model(lesson, lora_rank)), lesson.max_group, fetch)
        return Sequential(lambda: Learner(lesson, _model(lesson, lora_rank)), fetch)

    if store is None:
        return computing()
    return Recalling(store.namespace(lesson.key), computing, lesson.model.torch_device)


def _model(lesson: Lesson, lora_rank: int) -> "SplitModel":
    """Return the base with LoRA slots of this rank.

    Raises
    ------
    ScenarioError
        If the model cannot be loaded, or the tokenizer is not its own.
    """
    from cosim.learning.model import SplitModel

    highest = int(max(lesson.tokens.train.input_ids.max(), lesson.tokens.test.input_ids.max()))
    if highest >= lesson.shape.vocab_size:
        raise ScenarioError(
            f"model.base: the tokenizer gives id {highest} and the model has {lesson.shape.vocab_size} "
            "tokens; use the tokenizer that belongs to the model."
        )
    return SplitModel.load(
        lesson.model.base,
        lesson.lora.model_copy(update={"rank": lora_rank}),
        task=lesson.shape.task,
        num_labels=lesson.shape.num_labels,
        dtype=lesson.model.dtype,
        device=lesson.model.torch_device,
        seed=stream(lesson.seed, "adapter").torch_seed(),
    )
