"""What a record has of the air while a transfer went on: grants, phases of a surface, rates, slots."""

from collections.abc import Sequence

import numpy as np

from cosim.control.knobs import SPECTRAL_EFFICIENCY, SURFACE_PHASES, unpacked_phases
from cosim.explain.explanations import Span
from cosim.kernel.job import NEVER_NS
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.slots.spent import Spent
from cosim.record.folder import Record


def slots_of(record: Record, span: Span, slot_ns: int) -> Spent:
    """Return what the slots of a transfer went to; of several that ended then, that which lasted as long."""
    who = next((one for one in (span.actor, span.peer) if one.startswith("client-")), span.name)
    at = {"time_ns": span.end_ns, "round": span.round, "local_step": span.local_step, "actor": who}
    found: list[dict[str, float]] = []
    for row in record.metrics.to_pylist():
        if row["task"] != span.task or any(row[name] != value for name, value in at.items()):
            continue
        if row["name"] == Spent._fields[0] or not found:
            found.append({})
        found[-1][row["name"]] = row["value"]
    every = map(Spent.of, found or [{}])
    return min(every, key=lambda one: abs(one.num_slots * slot_ns - span.duration_ns))


def phases_until(record: Record, until_ns: int) -> dict[int, list[float]]:
    """Return the phases of a surface that were decided, packed, by their instant."""
    decided: dict[int, dict[int, float]] = {}
    for row in record.metrics.to_pylist():
        if row["name"].startswith(f"{SURFACE_PHASES}_") and row["time_ns"] <= until_ns:
            decided.setdefault(row["time_ns"], {})[int(row["name"].rpartition("_")[2])] = row["value"]
    return {at_ns: [each[number] for number in sorted(each)] for at_ns, each in decided.items()}


def airs_under(airs: list[tuple[int, Channel]], decided: dict[int, list[float]]) -> list[tuple[int, Channel]]:
    """Return the air from each instant on, as decisions set a surface; an event sets it back."""
    found = []
    for (from_ns, channel), (until_ns, _) in zip(airs, [*airs[1:], (NEVER_NS, None)], strict=True):
        surface, inside = channel.radio.surface, [at for at in decided if from_ns <= at < until_ns]
        if from_ns not in inside:
            found.append((from_ns, channel))
        for at_ns in sorted(inside):
            levels = unpacked_phases(decided[at_ns], surface.elements, surface.levels)
            found.append((at_ns, channel.under(levels)))
    return found


def in_force_during(
    record: Record, link: str, clients: Sequence[int], span: Span, airs: list[tuple[int, Channel]]
) -> list[tuple[int, Channel, Grant]]:
    """Return air and grant while a transfer went on, each pair from its first instant."""
    start_ns, end_ns = span.start_ns, span.end_ns
    rows = [row for row in record.grants.to_pylist() if row["link"] == link and row["time_ns"] <= end_ns]
    changes = {row["time_ns"] for row in rows} | {from_ns for from_ns, _ in airs}
    names = {f"client-{client}" for client in clients}
    held: dict[int, tuple[str, float, float | None]] = {}
    found: list[tuple[int, Channel, Grant]] = []
    position = 0
    for instant in sorted({start_ns, *(one for one in changes if start_ns < one < end_ns)}):
        while position < len(rows) and rows[position]["time_ns"] <= instant:
            row = rows[position]
            held[row["subchannel"]] = (row["client"], row["tx_power_w"], row["bandwidth_hz"])
            position += 1
        mine = sorted(
            (number, power, width) for number, (owner, power, width) in held.items() if owner in names
        )
        numbers = np.array([number for number, *_ in mine], dtype=np.int64)
        widths = [width for *_, width in mine if width is not None]
        powers = np.array([power for _, power, _ in mine])
        grant = Grant(numbers, powers, np.array(widths) if widths else None)
        channel = next(channel for from_ns, channel in reversed(airs) if from_ns <= instant)
        same = bool(found) and found[-1][1] is channel and found[-1][2].equals(grant)
        if (mine or found) and not same:
            found.append((instant, channel, grant))
    return found


def efficiency_at(record: Record, client: str, start_ns: int) -> float | None:
    """Return the spectral efficiency that was decided for a client and held at an instant, bit/s/Hz."""
    rows = (row for row in record.metrics.to_pylist() if row["name"] == SPECTRAL_EFFICIENCY.name)
    decided = [row["value"] for row in rows if row["actor"] == client and row["time_ns"] <= start_ns]
    return decided[-1] if decided else None
