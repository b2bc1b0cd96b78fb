"""A run that keeps summaries in place of spans, in short."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from cosim.record.folder import Record
from cosim.record.summaries import ALL, COLUMNS, Summaries, works_of
from cosim.report.assumptions import air_of
from cosim.report.learning import learned
from cosim.report.outcome import ActorTime, Delivery, PhaseTotal, Slowest, Summary, reason_told
from cosim.report.privacy import spent
from cosim.report.rounds import Rounds
from cosim.report.spans import Spans, is_client
from cosim.units import NS_PER_S, Ints


def summarise_short(record: Record) -> Summary:
    """Return a run in short, from the summaries of its rounds.

    Times of clients add up what each did, as summaries do not know what of it went on at once. So they are
    left out where clients do several tasks at a time, and those of servers always.

    Raises
    ------
    RecordError
        If its tables cannot be read.
    """
    rows = [one for one in phases_of(record) if one["kind"] != ALL]
    last_ns = max((one["end_ns"] for one in rows), default=0)
    length_ns = max(last_ns, round(float(record.manifest.get("simulated_s", 0.0)) * NS_PER_S))
    rounds = Rounds.of(record, length_ns)
    channel, free_links = air_of(record, _links(rows))
    overlaps = len({one["task"] for one in rows}) > 1
    notes = tuple(record.manifest.get("notes", ()))
    return Summary(
        name=str(record.manifest.get("name", record.path.name)),
        status=record.state,
        seed=int(record.manifest.get("seed", 0)),
        length_ns=length_ns,
        num_rounds=len(rounds),
        num_spans=sum(one["num_spans"] for one in rows),
        learning=tuple(learned(record)),
        actors=() if overlaps else of_clients(record.columns("totals"), length_ns),
        phases=tuple(_phases(rows)),
        energy_j=_energy(rows),
        slowest=None if overlaps else _slowest(record.columns("totals")),
        spent=spent(record),
        reason=reason_told(record, length_ns),
        channel=channel,
        free_links=free_links,
        notes=(*notes, *([_OVERLAPS] if overlaps else [])),
        most_at_once=rounds.most_at_once,
        deliveries=tuple(_deliveries(rows)),
    )


_OVERLAPS = (
    "clients do several tasks at once, and summaries do not say what overlaps; for shares of their time "
    'and the slowest take record = "spans".'
)

MOST_LANES = 5_000
"""Clients of a run with spans beyond which its page has quantiles in place of lanes, and stays small."""


def is_shown_short(record: Record) -> bool:
    """Return whether the page of a run shows summaries: it has nothing else, or lanes would be too many."""
    if record.is_short:
        return True
    actors = record.columns("spans", ("actor",))["actor"].unique().to_pylist()
    return sum(map(is_client, actors)) > MOST_LANES


def rows_in_short(record: Record, table: Literal["phases", "outliers"]) -> list[dict[str, Any]]:
    """Return the rows of a table of summaries; worked out from spans where the run keeps those."""
    if record.is_short:
        rows: list[dict[str, Any]] = record.columns(table).to_pylist()
        return rows
    spans = Spans.of(record)
    found = Summaries(spans.clients)
    for work in works_of(record.columns("spans", COLUMNS), spans.clients):
        found.add(work)
    rows = found.tables()[table].to_pylist()
    return rows


def phases_of(record: Record) -> list[dict[str, Any]]:
    """Return the phases of each round of a run, row by row."""
    return rows_in_short(record, "phases")


def of_clients(totals: Any, length_ns: int) -> tuple[ActorTime, ...]:
    """Return the time of each client, by number."""
    names, busy_ns = busy(totals, ("kind",))
    return tuple(
        ActorTime(name, int(computed), int(on_air), length_ns - int(computed + on_air))
        for name, computed, on_air in zip(
            names,
            *(busy_ns.get((kind,), np.zeros(len(names))) for kind in ("compute", "transfer")),
            strict=True,
        )
    )


def busy(totals: Any, by: tuple[str, ...]) -> tuple[list[str], dict[tuple[str, ...], Ints]]:
    """Return the clients by number, and how long each was busy, ns, by these columns."""
    columns = {name: totals[name].to_pylist() for name in {*by, "client", "duration_ns"}}
    names = sorted(set(columns["client"]), key=lambda name: (len(name), name))
    place, found = {name: number for number, name in enumerate(names)}, dict[tuple[str, ...], Ints]()
    keys = zip(*(columns[name] for name in by), strict=True)
    for key, name, lasted in zip(keys, columns["client"], columns["duration_ns"], strict=True):
        each = found.setdefault(key, np.zeros(len(names), dtype=np.int64))
        each[place[name]] += lasted
    return names, found


def _links(rows: list[dict[str, Any]]) -> list[str]:
    """Return the links that were sent over, in order of their names."""
    ends = ((one["sender"], one["receiver"]) for one in rows if one["kind"] == "transfer")
    return sorted(
        {
            f"{receiver.removesuffix('-server')}_uplink"
            if sender == ALL
            else f"{sender.removesuffix('-server')}_downlink"
            for sender, receiver in ends
        }
    )


def _phases(rows: list[dict[str, Any]]) -> Iterator[PhaseTotal]:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for one in rows:
        by_name.setdefault(one["name"], []).append(one)
    for name, some in by_name.items():
        total = {key: sum(one[key] for one in some) for key in _ADDED}
        yield PhaseTotal(
            name,
            some[0]["kind"],
            num_spans=total["num_spans"],
            covered_ns=total["covered_ns"],
            mean_ns=total["total_ns"] / total["num_spans"],
            longest_ns=max(one["durations_ns"][-1] for one in some),
            bits=total["bits"],
            flop=total["flop"],
            energy_j=total["energy_j"],
        )


_ADDED = ("num_spans", "covered_ns", "total_ns", "bits", "flop", "energy_j")


def _energy(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {
        f"{who}, {what}": sum(
            one["energy_j"] for one in rows if (one["sender"] == ALL) == is_client and one["kind"] == kind
        )
        for who, is_client in (("clients", True), ("servers", False))
        for what, kind in (("compute", "compute"), ("sending", "transfer"))
    }


def _slowest(totals: Any) -> Slowest | None:
    """Return the client that was busy the longest, and in which phase it loses most to the median client."""
    names, by_phase = busy(totals, ("name",))
    if len(names) < 2:
        return None
    spent_ns = np.array(list(by_phase.values()))
    busy_ns = spent_ns.sum(axis=0)
    who, medians_ns = int(busy_ns.argmax()), np.median(spent_ns, axis=1)
    phase = int((spent_ns[:, who] - medians_ns).argmax())
    return Slowest(
        client=names[who],
        busy_ns=int(busy_ns[who]),
        median_ns=float(np.median(busy_ns)),
        phase=list(by_phase)[phase][0],
        phase_ns=int(spent_ns[phase, who]),
        phase_median_ns=float(medians_ns[phase]),
    )


def _deliveries(rows: list[dict[str, Any]]) -> Iterator[Delivery]:
    for name in dict.fromkeys(one["name"] for one in rows if one["kind"] == "transfer"):
        some = [one for one in rows if one["name"] == name]
        num, lost, bits, resent = (
            sum(one[key] for one in some) for key in ("num_spans", "num_lost", "bits", "resent_bits")
        )
        if lost or resent:
            yield Delivery(name, num, lost, bits, resent)
