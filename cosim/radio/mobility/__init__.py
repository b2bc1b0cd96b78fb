"""Where clients are over time, from where they begin."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from cosim.parts import Part, Plane
from cosim.rng import Stream
from cosim.units import Floats, Ints


class Mobility(Part):
    """Moves clients; a pure function of where they begin, their chance and time.

    A place holds for a block: the first from 0 to ``block_ns``, and so on. Path
    loss follows the place, and so does shadowing that belongs to places.
    """

    plane: ClassVar[Plane] = "time"

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

    def begin_m(self, placed_m: Floats) -> Floats:
        """Return where the clients begin, m, shape (num_clients, 2): where the placement puts them."""
        return placed_m

    def travelled_m(self, begin_m: Floats, stream: Stream, time_ns: Ints) -> Floats:
        """Return how far each client has gone by any instants, m, shape (num_instants, num_clients).

        Arguments as for :meth:`positions_m`; ``time_ns`` may lie within blocks. By
        default the sum of straight ways from block to block, which takes time and memory
        in proportion to the last instant.
        """
        if self.block_ns is None:
            return np.zeros((len(time_ns), len(begin_m)))
        edges_ns = np.arange(int(time_ns.max(initial=0)) // self.block_ns + 2) * self.block_ns
        steps_m = np.diff(self.positions_m(begin_m, stream, edges_ns), axis=0)
        gone_m = np.cumsum(np.hypot(steps_m[..., 0], steps_m[..., 1]), axis=0)
        gone_m = np.concatenate([np.zeros((1, len(begin_m))), gone_m])
        each = [np.interp(time_ns, edges_ns, gone_m[:, client]) for client in range(len(begin_m))]
        return np.stack(each, axis=1)
