"""Task policies: which of several tasks a client works on when it is free."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

from cosim.parts import LONGEST_S, OfPlane, Part
from cosim.rng import Stream
from cosim.schemes.turns import Cost


class Offer(NamedTuple):
    """A task, as it is for the client that is free.

    Attributes
    ----------
    name
        What it is called.
    is_open
        Whether it has rounds left to begin.
    gap
        Its last held-out loss over that before training; 1 where no value is computed.
    age
        Turns begun on other tasks since the last one on this.
    new_data
        Share of the client's data for it that the client has not drawn from yet; 0 where nothing drifts.
    cost
        What a turn of the client on it is expected to take.
    """

    name: str
    is_open: bool
    gap: float
    age: int
    new_data: float
    cost: Cost


class Arrival(NamedTuple):
    """A client that is free.

    Attributes
    ----------
    client
        Which; 0 where a turn is of all clients.
    time_s
        When, of simulated time.
    last
        The task it worked on last, by its place among the offers; None at first.
    offers
        The tasks in the order of the scenario.
    """

    client: int
    time_s: float
    last: int | None
    offers: tuple[Offer, ...]

    @property
    def open(self) -> list[int]:
        """The places of the tasks that have rounds left."""
        return [place for place, one in enumerate(self.offers) if one.is_open]


class TaskPolicy(Part):
    """Which task a client works on when it is free.

    It is asked at the server, at the instant at which a client's last turn has ended, and knows what the
    server knows then. A turn is one local update of one client in schemes without barriers, and one
    round of all clients in those with.

    Attributes
    ----------
    until_s
        Simulated time from which on no turn begins; without it, every task has all its rounds.
    evaluate_every_s
        Simulated time between two evaluations of all tasks, those too that nobody works on, and
        another one at the end; without it they are evaluated by their schemes alone.
    """

    until_s: float | None = Field(default=None, gt=0.0, le=LONGEST_S)
    evaluate_every_s: Annotated[float | None, OfPlane("time")] = Field(default=None, gt=0.0, le=LONGEST_S)

    @abstractmethod
    def choose(self, arrival: Arrival, stream: Stream) -> int | None:
        """Return the place of an open task, or None if the client is to rest from now on.

        Parameters
        ----------
        arrival
            Who is free, and what there is to do; at least one task is open.
        stream
            Chance of this arrival alone.
        """

    def why_unfit(self, tasks: Sequence[str], num_workers: int) -> str | None:
        """Return why it cannot serve these tasks with so many workers, with a way out; None if it can.

        A worker is a client, or all of them together where a turn is of all.
        """
        return None


def next_open(arrival: Arrival, place: int) -> int:
    """Return the first open task from a place on, around the end."""
    count = len(arrival.offers)
    return next(one % count for one in range(place, place + count) if arrival.offers[one % count].is_open)
