"""Who computes the nodes of a training; the model is loaded when the first one must be computed."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cosim.errors import ScenarioError
from cosim.graph.batched import Batched
from cosim.graph.executor import Computing, Executor, Fetch, Recalling, Sequential
from cosim.graph.node import Node
from cosim.graph.parallel import Parallel
from cosim.graph.store import Store
from cosim.learning.task import Task
from cosim.rng import stream

if TYPE_CHECKING:
    from cosim.learning.learner import Learner
    from cosim.learning.model import SplitModel


def refuse_without_torch() -> None:
    """Refuse to train where what computes values is not installed; times need none of it.

    Raises
    ------
    ScenarioError
        With the names of what is missing.
    """
    missing = [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]
    if missing:
        raise ScenarioError(
            f"a training needs {' and '.join(missing)}: pip install {' '.join(missing)}, or compute no "
            "tensor, by --timing-only."
        )


def make_executor(
    task: Task,
    lora_rank: int,
    store: Store | None = None,
    within: "Callable[[int, int], None] | None" = None,
) -> Executor:
    """Return the executor of a training at this rank.

    With a store, what it holds is recalled and what it does not is kept. ``within`` is called as nodes
    are computed, with how many of those asked for are and how many there are.
    """
    goes_on = task.training.on_divergence == "continue"

    def computing(fetch: Fetch | None = None) -> Computing:
        from cosim.learning.learner import Learner
        from cosim.learning.stacks import StackedLearner

        made: Computing = Sequential(lambda: context(Learner), fetch, goes_on=goes_on)
        if task.training.executor == "batched":
            made = Batched(lambda: context(StackedLearner), task.max_group, fetch, goes_on=goes_on)
        if task.num_workers is not None:
            made = Parallel(made, task.num_workers)
        made.within = within or made.within
        return made

    def context(kind: "Callable[[Task, SplitModel], Learner]") -> Any:
        stages = task.by_stage
        if len(stages) == 1:
            return kind(task, load_model(task, lora_rank))
        return ByStage(lambda number: kind(stages[number], load_model(stages[number], lora_rank)))

    if store is None:
        return computing()
    return Recalling(store.namespace(task.key), computing, task.model.torch_device)


class ByStage:
    """Lets the learner of its stage compute each node; stages follow one another, so one model is held."""

    def __init__(self, make: "Callable[[int], Any]") -> None:
        self._make = make
        self._stage: int | None = None
        self._learner: Any = None

    def _of(self, node: Node) -> Any:
        if node.context != self._stage:
            self._learner = None  # before the next is loaded
            self._stage, self._learner = node.context, self._make(node.context)
        return self._learner

    def compute(self, node: Node, inputs: list[Any]) -> dict[str, Any]:
        """Return the fields of a node's value."""
        fields: dict[str, Any] = self._of(node).compute(node, inputs)
        return fields

    def compute_together(self, nodes: Sequence[Node], inputs: Sequence[list[Any]]) -> list[dict[str, Any]]:
        """Return the fields of each node's value."""
        fields: list[dict[str, Any]] = self._of(nodes[0]).compute_together(nodes, inputs)
        return fields

    def why_alone(self, node: Node) -> str | None:
        """Return why a node cannot be in a group, None if it can."""
        reason: str | None = self._of(node).why_alone(node)
        return reason

    def plain(self, value: Any) -> Any:
        """Return a value that shares memory with no other client's."""
        return self._learner.plain(value)


def load_model(task: Task, lora_rank: int) -> "SplitModel":
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
        task.model.base,
        task.trainable.of_rank(lora_rank),
        task=task.shape.task,
        num_labels=task.shape.num_labels,
        dtype=task.model.dtype,
        autocasts=task.model.autocast is not None,
        device=task.model.torch_device,
        seed=stream(task.seed, "adapter").torch_seed(),
    )
    if task.model.base.content_key() != task.model_hash:
        # values would be kept under keys of other weights
        raise ScenarioError("model.base: its weights were replaced while the run began; run it again.")
    return model
