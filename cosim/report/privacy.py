"""What clients have given away of their data: epsilon of each over time."""

from dataclasses import dataclass

import numpy as np

from cosim.record.folder import Record
from cosim.report.learning import of_task
from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class Spent:
    """Epsilon of each client after each of its releases.

    Attributes
    ----------
    courses
        By client, in the order of their first release: instants, ns, and epsilons.
    num_stopped
        How many clients had not enough left for another round; they took no part in the last ones.
    """

    courses: dict[str, tuple[Ints, Floats]]
    num_stopped: int

    @property
    def last(self) -> dict[str, float]:
        """What each client has given away in the end."""
        return {client: float(epsilons[-1]) for client, (_, epsilons) in self.courses.items()}

    @property
    def highest(self) -> float:
        """The most that any client has given away."""
        return max(self.last.values())

    @property
    def lowest(self) -> float:
        """The least that a client has given away that sent anything."""
        return min(self.last.values())


def spent(record: Record) -> Spent | None:
    """Return what clients have given away; None where no account was kept.

    Raises
    ------
    RecordError
        If metrics cannot be read.
    """
    metrics = record.columns("metrics", ("time_ns", "actor", "name", "value", "task"))
    names = np.array(metrics["name"].to_pylist(), dtype=np.str_)
    whose = zip(metrics["actor"].to_pylist(), metrics["task"].to_pylist(), strict=True)
    actors = np.array([of_task(*one) for one in whose], dtype=np.str_)
    times, values = metrics["time_ns"].to_numpy(), metrics["value"].to_numpy()
    told = np.flatnonzero(names == "epsilon")
    if not len(told):
        return None
    courses = {}
    for client in dict.fromkeys(actors[told].tolist()):
        mine = told[actors[told] == client]
        courses[client] = (times[mine], values[mine])
    return Spent(courses, len(set(actors[names == "budget_spent"].tolist())))
