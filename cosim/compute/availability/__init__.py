"""Availability: when clients are there, and what becomes of their work when they leave."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from cosim.kernel.presence import Away, OnLeave
from cosim.parts import Part, Plane
from cosim.rng import Stream


class Availability(Part):
    """Clients that come and go; a pure function of client, its chance and time.

    Attributes
    ----------
    at_start
        Of a client that is away when a round begins: ``wait``, the round waits for it; ``skip``, it does
        not take part, and downloads what it has missed when it next does. If all are
        away, the first to come back makes the round.
    on_leave
        Of what a client computes or sends when it leaves. ``resume``: it goes on when the client is
        back. ``restart``: it begins again then; what was computed is redone, bits that were sent are
        sent again. ``drop``: it is lost, and the client is out for the rest of the round with what
        it has learned in it.
    """

    plane: ClassVar[Plane] = "value"
    at_start: Literal["wait", "skip"] = "wait"
    on_leave: OnLeave = "resume"

    @model_validator(mode="after")
    def _who_drops_waits_for_nobody(self) -> Self:
        if self.on_leave == "drop" and self.at_start != "skip":
            raise ValueError(
                "on_leave = 'drop' was given with at_start = 'wait'; a round that waits for clients to begin "
                "would drop them for nothing, so set at_start = 'skip' too"
            )
        return self

    @abstractmethod
    def times_away(self, client: int, stream: Stream) -> Iterator[Away]:
        """Return when a client is away, in order of time; times do not touch. There may be no last one.

        Parameters
        ----------
        stream
            Chance of this client.
        """

    def check(self, num_clients: int) -> None:
        """Refuse what does not fit the clients.

        Raises
        ------
        ScenarioError
            Naming the place and the way out.
        """

    @property
    @abstractmethod
    def told(self) -> str:
        """When clients are there, in words."""

    @property
    def note(self) -> str:
        """What a user must know of it, in a sentence."""
        at_start = {
            "wait": "a round waits for clients that are away",
            "skip": "a client that is away when a round begins is left out of it",
        }[self.at_start]
        on_leave = {
            "resume": "what one leaves goes on when it is back",
            "restart": "what one leaves begins again when it is back",
            "drop": "who leaves is out for the rest of the round",
        }[self.on_leave]
        return f"availability: {self.told}; {at_start}, and {on_leave}."
