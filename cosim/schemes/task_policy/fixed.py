"""Each client its own task."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.rng import Stream
from cosim.schemes.task_policy import Arrival, TaskPolicy


class Fixed(TaskPolicy):
    """Each client works on one task for good, and rests when its rounds are over.

    Attributes
    ----------
    tasks
        The clients' tasks by name, and again from the first where there are more clients;
        without it the tasks of the scenario in their order.
    """

    kind: Literal["fixed"] = "fixed"
    tasks: tuple[str, ...] | None = Field(default=None, min_length=1)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"tasks": ["b", "a"]})

    def choose(self, arrival: Arrival, stream: Stream) -> int | None:
        """Return the client's task while it is open."""
        names = [one.name for one in arrival.offers]
        place = names.index(self._task_of(arrival.client, names))
        return place if arrival.offers[place].is_open else None

    def why_unfit(self, tasks: Sequence[str], num_workers: int) -> str | None:
        """Refuse tasks that do not exist, and a task without clients."""
        odd = [name for name in self.tasks or () if name not in tasks]
        if odd:
            return f"tasks: there is no task {odd[0]!r}; there are {' and '.join(tasks)}"
        worked_on = {self._task_of(worker, tasks) for worker in range(num_workers)}
        idle = [name for name in tasks if name not in worked_on]
        if not idle:
            return None
        whose, instead = f"there are {num_workers} clients", "; name it for one, or"
        if num_workers == 1:
            whose, instead = "a round is of all clients, or there is one", ";"
        return (
            f"tasks: no client works on {' and '.join(idle)}, as {whose}{instead} take a kind such as "
            "'round_robin'"
        )

    def _task_of(self, client: int, tasks: Sequence[str]) -> str:
        names = self.tasks or tasks
        return names[client % len(names)]
