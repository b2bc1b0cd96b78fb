"""What a run came to: times, losses, shares of time, energy, and who held the others up."""

from collections.abc import Iterator, Sequence

import numpy as np

from cosim.record.folder import Record
from cosim.report.assumptions import air_of
from cosim.report.latency_limit import latency_limit
from cosim.report.learning import learned
from cosim.report.outcome import ActorTime, Delivery, PhaseTotal, Slowest, Summary, reason_told
from cosim.report.prediction import predicted
from cosim.report.privacy import spent
from cosim.report.rounds import Rounds
from cosim.report.short import summarise_short
from cosim.report.spans import Spans, covered_ns, length_ns


def summarise(record: Record) -> Summary:
    """Return a run in short.

    Raises
    ------
    RecordError
        If its tables cannot be read.
    """
    if record.is_short:
        return summarise_short(record)
    spans = Spans.of(record)
    total_ns = length_ns(record, spans)
    rounds = Rounds.of(record, total_ns)
    channel, free_links = air_of(record, spans.links)
    actors = tuple(_actor_times(spans, total_ns))
    return Summary(
        name=str(record.manifest.get("name", record.path.name)),
        status=record.state,
        seed=int(record.manifest.get("seed", 0)),
        length_ns=total_ns,
        num_rounds=len(rounds),
        num_spans=len(spans),
        learning=tuple(learned(record)),
        actors=actors,
        phases=tuple(_phase_total(spans, name) for name in range(len(spans.names))),
        energy_j=_energy(spans),
        slowest=_slowest(spans, actors),
        prediction=predicted(record, spans),
        latency_limit=latency_limit(record, spans),
        spent=spent(record),
        reason=reason_told(record, total_ns),
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


def _slowest(spans: Spans, actors: Sequence[ActorTime]) -> Slowest | None:
    """Return the client busy the longest, and in which phase it loses the most to the median client.

    What overlaps, as a client's tasks do, counts once.
    """
    clients = spans.clients
    if len(clients) < 2:
        return None
    spent_ns = np.zeros((len(clients), len(spans.names)), dtype=np.int64)
    rows, whose = spans.of_clients
    np.add.at(spent_ns, (whose, spans.name[rows]), spans.duration_ns[rows])
    busy_ns = np.array([one.busy_ns for one in actors[: len(clients)]])
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
