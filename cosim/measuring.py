"""What a run learns: values that are computed when they are asked for, recorded at their instants."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from cosim.errors import DivergedError
from cosim.graph.executor import Executor
from cosim.graph.finite import NotFiniteError, is_finite
from cosim.graph.node import Node, Ref
from cosim.record.log import Log

_WHAT = {
    "train_loss": "the training loss",
    "eval_loss": "the held-out loss",
    "client_eval_loss": "the held-out loss of a client",
    "adapter": "the adapter",
    "optimizer": "what the optimiser remembers",
    "adapter_gradient": "the gradient",
    "residual": "what joins the base",
    "tensors": "what is received",
    "memory": "the error-feedback residual",
}
"""What a value that is not finite is called, by its metric or field."""


class Moment(NamedTuple):
    """Where in the training a piece of work belongs; ``local_step`` is 0 where it has none."""

    round: int
    local_step: int = 0


Place = tuple[Moment, str]
"""When in the training, and by whom."""


class Progress(NamedTuple):
    """How far a run is when a round has ended.

    Attributes
    ----------
    round
        Which round; 0 is the evaluation before training.
    measured
        Means of what was measured since another round ended.
    num_ended
        How many rounds of all tasks are over.
    task
        Whose round it is; empty where there is one task.
    """

    round: int
    simulated_ns: int
    num_spans: int
    measured: dict[str, float]
    num_ended: int = 0
    task: str = ""


class Measuring:
    """Keeps what is to be measured until it is computed.

    Parameters
    ----------
    log, task
        Takes the metrics, with the name of the task; its spans say when a node took its time.
    place_of_step
        Returns when and whose an optimiser's step is, by its node; None of other nodes.
    nowhere
        The place of a value that no span, metric or step tells.

    Attributes
    ----------
    executor
        Who computes; None before there is anything to compute.
    known
        Of each metric that was learned the first value and the last.
    """

    def __init__(
        self,
        log: Log,
        task: str,
        place_of_step: Callable[[Node], Place | None],
        nowhere: Callable[[], Place],
    ) -> None:
        self.executor: Executor | None = None
        self._log, self._task = log, task
        self._place_of_step, self._nowhere = place_of_step, nowhere
        self._held: Callable[[], Iterable[Ref]] = tuple
        self._waiting: list[tuple[int, Moment, str, str, Ref]] = []
        self._since: dict[str, list[float]] = {}
        self.known: dict[str, tuple[float, float]] = {}

    @property
    def computes(self) -> bool:
        """Whether there are values at all."""
        return self.executor is not None and self.executor.computes

    def hold(self, refs: Callable[[], Iterable[Ref]]) -> None:
        """Keep these fields whenever values are computed: what later nodes build on, as it is then."""
        self._held = refs

    def measure(self, time_ns: int, moment: Moment, actor: str, name: str, ref: Ref) -> None:
        """Record a value at an instant, once it is computed; nothing where nothing is."""
        if self.computes:
            self._waiting.append((time_ns, moment, actor, name, ref))

    def ask(self, read: Sequence[Ref], keep: Iterable[Ref] = ()) -> list[Any]:
        """Return values, none where nothing is computed, and record what was to be measured by now.

        What is held and ``keep`` are computed with them, so that nothing below is computed twice.

        Raises
        ------
        DivergedError
            If the training has no finite numbers any more; what was measured before is recorded.
        """
        if self.executor is None:
            raise ValueError("values are asked for after a run has begun")
        refs = [ref for *_, ref in self._waiting]
        kept = list(dict.fromkeys([*self._held(), *keep]))
        try:
            values = self.executor.materialise(kept, [*refs, *read])
        except NotFiniteError as found:
            self._record_known(found)
            raise self._diverged(found) from found
        for (time_ns, moment, actor, name, _), value in zip(self._waiting, values, strict=False):
            self._record(time_ns, moment, actor, name, value)
            self._since.setdefault(name, []).append(value)
            self.known[name] = self.known.get(name, (value, value))[0], value
        self._waiting.clear()
        return values[len(refs) :]

    def means(self) -> dict[str, float]:
        """Return the means of what was measured since this was asked last, by name."""
        from statistics import fmean  # loads much that a check has no use for

        found = {name: fmean(several) for name, several in self._since.items()}
        self._since.clear()
        return found

    def _record(self, time_ns: int, moment: Moment, actor: str, name: str, value: float) -> None:
        self._log.metrics.add(time_ns, moment.round, moment.local_step, actor, name, value, task=self._task)

    def _record_known(self, found: NotFiniteError) -> None:
        """Record what was measured up to the first value that is not finite, that value included."""
        for time_ns, moment, actor, name, ref in self._waiting:
            value = found.known.get(ref.key)
            if value is None:
                return
            self._record(time_ns, moment, actor, name, value)
            if not is_finite(value):
                return

    def _diverged(self, found: NotFiniteError) -> DivergedError:
        """Return the fault that says where in the run the first value was not finite."""
        places, metrics = self._places(), {ref: name for *_, name, ref in self._waiting}
        placed = [(places[one.node.key], one) for one in found.refs if one.node.key in places]
        if not placed:  # asked for before it was played
            steps = [(self._place_of_step(one.node), one) for one in found.refs]
            placed = [(place, one) for place, one in steps if place is not None]
        (moment, actor), first = min(
            placed or [(self._nowhere(), found.refs[0])],
            key=lambda one: (one[0][0].round, one[0][0].local_step or float("inf")),
        )
        value = found.known.get(first.key) if first in metrics else None
        name = metrics.get(first, first.field)
        is_what = "has numbers that are not finite" if value is None else f"is {value:g}"
        step = f", local step {moment.local_step}" if moment.local_step else ""
        why = f"{_WHAT.get(name, name)} {is_what}"
        if found.fault:
            why += f", and nothing can be computed from that ({found.fault})"
        way_out = "lower training.optimizer.learning_rate, or give the optimizer a max_grad_norm"
        if moment.round == 0:
            way_out = "nothing was trained yet, so look at the weights of the model"
        if not found.fault:
            way_out += '; training.on_divergence = "continue" goes on'
        of_task = f" of {self._task}" if self._task else ""
        place = f"round {moment.round}{of_task}{step}, {actor}"
        return DivergedError(f"{place}: the training diverged: {why}; {way_out}.")

    def _places(self) -> dict[str, Place]:
        """Return when in the training, and by whom, each node was measured or took its time, by its key."""
        spans = self._log.spans
        spans.settle()
        rows = zip(spans.node, spans.round, spans.local_step, spans.actor, spans.peer, strict=True)
        places: dict[str, Place] = {}
        for key, round_, local_step, actor, peer in rows:
            places.setdefault(key, (Moment(round_, local_step), actor or peer))
        return places | {ref.node.key: (moment, actor) for _, moment, actor, _, ref in self._waiting}
