"""What a controller knows of its decisions: what clients reported, and what came of them."""

from collections.abc import Collection, Mapping
from typing import Any

from cosim.control.reports import Outcome, Reported
from cosim.units import NS_PER_S


class Heard:
    """What has arrived, of clients that count from 0.

    Attributes
    ----------
    absent
        Who takes no part in this round.
    reported
        The scalars asked for, as they last arrived.
    has_reported
        Whether what this round's decision waits for has arrived.
    last_round_s
        How long the round before lasted, s; None where none has ended since the last decision.
    """

    def __init__(self, num_clients: int) -> None:
        self.absent: Collection[int] = ()
        self.reported: Reported = {}
        self.has_reported = False
        self.last_round_s: float | None = None
        self._began_ns = 0
        self._under_way = [0] * num_clients
        self._outcomes = [Outcome()] * num_clients

    def start_round(self, time_ns: int, round_: int, absent: Collection[int]) -> None:
        """Take in, at the beginning of a round, who is absent from it and how long the last one was."""
        self.last_round_s = None if round_ == 1 else (time_ns - self._began_ns) / NS_PER_S
        self._began_ns, self.absent, self.has_reported = time_ns, absent, False

    def hear(self, reported: Mapping[str, Mapping[int, Any]], *, is_awaited: bool) -> None:
        """Take in what clients reported, when it has arrived; what is awaited opens the round's decision."""
        everybody = range(len(self._outcomes))
        heard = {name: tuple(of.get(client) for client in everybody) for name, of in reported.items()}
        self.reported = {**self.reported, **heard}
        self.has_reported = self.has_reported or is_awaited

    def sends(self, client: int) -> None:
        """Take in that a client begins to send."""
        self._under_way[client] += 1

    def sent(
        self, client: int, bits: int, airtime_ns: int, energy_j: float, *, is_delivered: bool = True
    ) -> None:
        """Take in what came of it."""
        self._under_way[client] -= 1
        so_far = self._outcomes[client]
        self._outcomes[client] = Outcome(
            so_far.airtime_s + airtime_ns / NS_PER_S,
            so_far.bits + (bits if is_delivered else 0),
            so_far.delivered and is_delivered,
            so_far.energy_j + energy_j,
        )

    def begin_again(self) -> None:
        """Forget what came of the decision before: another one holds from now on."""
        self.last_round_s = None
        self._outcomes = [Outcome()] * len(self._outcomes)

    def elapsed_s(self, time_ns: int) -> float:
        """Return how much of the round has passed before a decision that waits for reports, s."""
        return (time_ns - self._began_ns) / NS_PER_S if self.has_reported else 0.0

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What came of the decision that holds, client by client."""
        pairs = zip(self._outcomes, self._under_way, strict=True)
        return tuple(one._replace(delivered=one.delivered and under_way == 0) for one, under_way in pairs)
