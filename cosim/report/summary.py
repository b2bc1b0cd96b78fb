"""What a run came to: times, losses, shares of time, energy, and who held the others up."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cosim.record.folder import Record
from cosim.report.assumptions import air_of
from cosim.report.latency_limit import LatencyLimit, latency_limit
from cosim.report.learning import Learning, learned
from cosim.report.prediction import Prediction, predicted
from cosim.report.privacy import Spent, spent
from cosim.report.quantities import count
from cosim.report.rounds import Rounds
from cosim.report.spans import Spans, covered_ns, is_client, length_ns


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


def summarise(record: Record) -> Summary:
    """Return a run in short.

    Raises
    ------
    RecordError
        If its tables cannot be read.
    """
    spans = Spans.of(record)
    total_ns = length_ns(record, spans)
    rounds = Rounds.of(record, total_ns)
    channel, free_links = air_of(record, spans.links)
    return Summary(
        name=str(record.manifest.get("name", record.path.name)),
        status=record.status,
        seed=int(record.manifest.get("seed", 0)),
        length_ns=total_ns,
        num_rounds=len(rounds),
        num_spans=len(spans),
        learning=tuple(learned(record)),
        actors=tuple(_actor_times(spans, total_ns)),
        phases=tuple(_phase_total(spans, name) for name in range(len(spans.names))),
        energy_j=_energy(spans),
        slowest=_slowest(spans),
        prediction=predicted(record, spans),
        latency_limit=latency_limit(record, spans),
        spent=spent(record),
        reason=str(record.manifest.get("reason", "")),
        channel=channel,
        free_links=free_links,
        notes=(*record.manifest.get("notes", ()), *_not_shown(record, rounds)),
        most_at_once=rounds.most_at_once,
        deliveries=tuple(_deliveries(spans)),
    )


def _not_shown(record: Record, rounds: Rounds) -> Iterator[str]:
    """Yield what cannot be shown of rounds that overlap."""
    if rounds.overlap and "latency_limit_s" in set(record.metrics["name"].to_pylist()):
        yield "rounds overlap, so their latencies are not shown against the limit"


def _deliveries(spans: Spans) -> Iterator[Delivery]:
    for number, name in enumerate(spans.names):
        chosen = spans.is_transfer & (spans.name == number)
        num_lost, resent_bits = int((~spans.delivered[chosen]).sum()), float(spans.resent_bits[chosen].sum())
        if num_lost or resent_bits:
            yield Delivery(name, int(chosen.sum()), num_lost, float(spans.bits[chosen].sum()), resent_bits)


def _actor_times(spans: Spans, total_ns: int) -> Iterator[ActorTime]:
    """Yield each actor's time; spans are sorted by actor once, as there may be very many."""
    to_whom = np.flatnonzero(spans.peer >= 0)
    whose = np.repeat(np.arange(len(spans)), np.diff(spans.participants_end, prepend=0))
    rows = np.concatenate([np.arange(len(spans)), to_whom, whose])
    owners = np.concatenate([spans.actor, spans.peer[to_whom], spans.participants])
    order = np.argsort(owners, kind="stable")
    edges = np.searchsorted(owners[order], np.arange(len(spans.actors) + 1))
    for actor, name in enumerate(spans.actors):
        mine = rows[order[edges[actor] : edges[actor + 1]]]
        computed = mine[~spans.is_transfer[mine]]
        compute_ns = covered_ns(spans.start_ns[computed], spans.end_ns[computed])
        busy_ns = covered_ns(spans.start_ns[mine], spans.end_ns[mine])
        yield ActorTime(name, compute_ns, busy_ns - compute_ns, total_ns - busy_ns)


def _phase_total(spans: Spans, name: int) -> PhaseTotal:
    chosen = spans.name == name
    durations = spans.duration_ns[chosen]
    return PhaseTotal(
        name=spans.names[name],
        kind="transfer" if spans.is_transfer[chosen][0] else "compute",
        num_spans=int(chosen.sum()),
        covered_ns=spans.covered_ns(chosen),
        mean_ns=float(durations.mean()),
        longest_ns=int(durations.max()),
        bits=float(spans.bits[chosen].sum()),
        flop=float(spans.flop[chosen].sum()),
        energy_j=float(spans.energy_j[chosen].sum()),
    )


def _energy(spans: Spans) -> dict[str, float]:
    by_client = (spans.actor < len(spans.clients)) | spans.is_superposed
    return {
        f"{who}, {what}": float(spans.energy_j[chosen & (spans.is_transfer == on_air)].sum())
        for who, chosen in (("clients", by_client), ("servers", ~by_client))
        for what, on_air in (("compute", False), ("sending", True))
    }


def _slowest(spans: Spans) -> Slowest | None:
    """Return the client busy the longest, and in which phase it loses the most to the median client."""
    clients = spans.clients
    if len(clients) < 2:
        return None
    spent_ns = np.zeros((len(clients), len(spans.names)), dtype=np.int64)
    rows, whose = spans.of_clients
    np.add.at(spent_ns, (whose, spans.name[rows]), spans.duration_ns[rows])
    busy_ns = spent_ns.sum(axis=1)
    who = int(busy_ns.argmax())
    medians_ns = np.median(spent_ns, axis=0)
    phase = int((spent_ns[who] - medians_ns).argmax())
    return Slowest(
        client=clients[who],
        busy_ns=int(busy_ns[who]),
        median_ns=float(np.median(busy_ns)),
        phase=spans.names[phase],
        phase_ns=int(spent_ns[who, phase]),
        phase_median_ns=float(medians_ns[phase]),
    )
