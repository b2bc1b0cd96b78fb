"""Where clients are over time, from where they begin."""

from abc import abstractmethod

from cosim.parts import Part
from cosim.rng import Stream
from cosim.units import Floats, Ints


class Mobility(Part):
    """Moves clients; a pure function of where they begin, their chance and time.

    A place holds for a block: the first from 0 to ``block_ns``, and so on. Path
    loss follows the place; shadowing stays with the client.
    """

    @property
    def block_ns(self) -> int | None:
        """How long a place holds, ns; None where nobody moves."""
        return None

    @abstractmethod
    def positions_m(self, begin_m: Floats, stream: Stream, time_ns: Ints) -> Floats:
        """Return where the clients are, m, shape (num_instants, num_clients, 2).

        Client ``i`` depends on ``begin_m[i]`` and ``stream.child(i)`` alone, however
        many clients there are and whichever instants are asked for together.

        Parameters
        ----------
        begin_m
            Where the placement put them, m, shape (num_clients, 2).
        stream
            Chance of all movement.
        time_ns
            Beginnings of blocks, ns, shape (num_instants,).
        """
