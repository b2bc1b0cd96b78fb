"""What a run came to in short, as data: times, losses, shares of time, energy."""

from collections.abc import Sequence
from dataclasses import dataclass

from cosim.record.folder import Record
from cosim.report.latency_limit import LatencyLimit
from cosim.report.learning import Learning
from cosim.report.prediction import Prediction
from cosim.report.privacy import Spent
from cosim.report.quantities import count, duration
from cosim.report.spans import is_client


def reason_told(record: Record, length_ns: int) -> str:
    """Return why a run ended too early, or that it was killed, when, and how it goes on; else nothing."""
    if record.was_killed:
        return f"killed at {duration(length_ns)} or later; go on with it: cosim resume {record.path}"
    return str(record.manifest.get("reason", ""))


@dataclass(frozen=True)
class ActorTime:
    """What one actor did with the run's time; the three add up to its length.

    Attributes
    ----------
    compute_ns
        It computed at least one work.
    air_ns
        It did not compute, but sent or received.
    waiting_ns
        Neither: it waited for others, for a place in a queue or for the air.
    """

    actor: str
    compute_ns: int
    air_ns: int
    waiting_ns: int

    @property
    def busy_ns(self) -> int:
        """All but waiting, ns."""
        return self.compute_ns + self.air_ns

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of compute, air and waiting in the run's length, adding up to one; zeros for an empty run."""
        total = max(self.busy_ns + self.waiting_ns, 1)
        return self.compute_ns / total, self.air_ns / total, self.waiting_ns / total


@dataclass(frozen=True)
class PhaseTotal:
    """All spans of one name: what they took and moved.

    ``covered_ns`` is for how long at least one of them went on; ``mean_ns`` and
    ``longest_ns`` are of single spans.
    """

    name: str
    kind: str
    num_spans: int
    covered_ns: int
    mean_ns: float
    longest_ns: int
    bits: float
    flop: float
    energy_j: float


@dataclass(frozen=True)
class Slowest:
    """The client that was busy the longest, against the median client.

    ``phase`` is the kind of span that costs it the most time over the median:
    ``phase_ns`` of its own, ``phase_median_ns`` of the median client.
    """

    client: str
    busy_ns: int
    median_ns: float
    phase: str
    phase_ns: int
    phase_median_ns: float


@dataclass(frozen=True)
class Delivery:
    """What the air did to transfers of one name.

    Attributes
    ----------
    num_transfers, num_lost
        How many there were, and how many of them were not delivered.
    bits, resent_bits
        Their payload, and what was sent again on top of it.
    """

    phase: str
    num_transfers: int
    num_lost: int
    bits: float
    resent_bits: float


@dataclass(frozen=True)
class Summary:
    """A run in short.

    Attributes
    ----------
    name, status, seed
        Which run, and whether it is complete.
    reason
        Why it ended before that; empty where it did not.
    length_ns
        Simulated time, ns.
    num_rounds, num_spans
        Rounds begun and pieces of work done.
    most_at_once
        How many rounds went on at a time at most.
    deliveries
        Names of transfers of which some were not delivered or sent again.
    learning
        Of each task; empty where nothing was computed.
    actors
        Clients by number, then the servers.
    phases
        In the order in which they first begin.
    energy_j
        By who spent it on what: ``clients, compute`` and so on.
    slowest
        None with fewer than two clients.
    prediction
        None where no closed form predicts the rounds.
    latency_limit
        None where no allocator keeps a limit on latency by leaving something out.
    spent
        What clients have given away of their data; None where no account was kept.
    channel, free_links
        Kinds of what the channel is made of, in words, and the links used on which what is sent
        arrives at once.
    notes
        What a reader must know of model and texts, and what cannot be shown, in sentences.
    """

    name: str
    status: str
    seed: int
    length_ns: int
    num_rounds: int
    num_spans: int
    learning: tuple[Learning, ...]
    actors: tuple[ActorTime, ...]
    phases: tuple[PhaseTotal, ...]
    energy_j: dict[str, float]
    slowest: Slowest | None
    prediction: Prediction | None = None
    latency_limit: LatencyLimit | None = None
    spent: Spent | None = None
    reason: str = ""
    channel: tuple[str, ...] = ()
    free_links: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    most_at_once: int = 1
    deliveries: tuple[Delivery, ...] = ()

    @property
    def rounds_in_words(self) -> str:
        """How many rounds there were, and how many of them at a time if that is more than one."""
        if not self.num_rounds:
            return "no rounds"
        at_once = f", up to {count(self.most_at_once)} at a time" if self.most_at_once > 1 else ""
        return f"{count(self.num_rounds)} round(s){at_once}"

    @property
    def clients(self) -> tuple[ActorTime, ...]:
        """The clients among the actors."""
        return tuple(one for one in self.actors if is_client(one.actor))

    @property
    def all_clients(self) -> ActorTime:
        """The time of all clients together."""
        mine = self.clients
        return ActorTime(
            "all clients",
            sum(one.compute_ns for one in mine),
            sum(one.air_ns for one in mine),
            sum(one.waiting_ns for one in mine),
        )


def client_shares(runs: Sequence[Summary]) -> Sequence[tuple[float, ...]]:
    """Return how much of each run its clients compute, send and wait, three tuples of a share for each run.

    None at all where one of the runs does not say.
    """
    if not all(run.clients for run in runs):
        return ()
    return tuple(zip(*(run.all_clients.shares for run in runs), strict=True))
