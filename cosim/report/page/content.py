"""All that the page of a run shows, as plain values and columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cosim.record.folder import Record
from cosim.report.air import Air
from cosim.report.attribution import Attribution, Share, attribution
from cosim.report.graph import Causes, critical_path, slack_ns
from cosim.report.latency_limit import LatencyLimit, latency_limit
from cosim.report.learning import measured, of_task
from cosim.report.outcome import Summary
from cosim.report.page.columns import Columns
from cosim.report.page.rows import Rows
from cosim.report.privacy import spent
from cosim.report.rounds import Rounds, round_label
from cosim.report.span_style import LINE_COLOURS, OWNER_COLOURS, span_style
from cosim.report.spans import Spans, length_ns
from cosim.report.subchannel_grants import SubchannelGrants
from cosim.report.summary import summarise
from cosim.units import NS_PER_S, Floats, Ints

CURVES = {
    "train_loss": "training loss",
    "eval_loss": "held-out loss",
    "eval_perplexity": "perplexity",
    "eval_accuracy": "accuracy",
    "client_eval_loss": "mean held-out loss of clients",
}
"""Measured values that are drawn over time, with how they are called."""

_MOST_SHARES = 400
_MOST_EPSILONS = 8
_MOST_SHARES_OF_A_ROUND = 12


def run_content(record: Record, air: Air | None = None) -> dict[str, Any]:
    """Return all that the page of a run shows.

    Parameters
    ----------
    record
        The run; one that failed or goes on is shown as far as it came.
    air
        What is known of its air; without it there is no SNR and no link budget.

    Raises
    ------
    RecordError
        If its tables cannot be read.
    """
    spans = Spans.of(record)
    total_ns = length_ns(record, spans)
    rows = Rows.of(spans)
    columns = Columns()
    _add_spans(columns, spans)
    _add_rows(columns, rows)
    columns.add("path", critical_path(spans), "u4")
    rounds = Rounds.of(record, total_ns)
    add_rounds(columns, rounds)
    grants = SubchannelGrants.of(record, total_ns)
    on_air = {name: bool(spans.is_transfer[spans.name == at][0]) for at, name in enumerate(spans.names)}
    content = {
        "run": _run(record, summarise(record), total_ns),
        "names": names_content(spans.names, on_air),
        "actors": list(spans.actors),
        "numClients": len(spans.clients),
        "roundLabels": rounds.labels if rounds.has_tasks else None,
        "tasks": list(spans.tasks),
        "owners": OWNER_COLOURS,
        "rows": [{"actor": actor, "number": number} for actor, number in rows.whose],
        "linkNames": list(spans.links),
        "links": _links(columns, grants, air),
        "curves": curves_content(columns, record, spans),
        "attribution": _attribution(attribution(spans, total_ns, rounds)),
        "air": _air(columns, air, spans),
        "scenario": _scenario(record),
    }
    return {**content, "columns": columns.packed()}


def names_content(names: Sequence[str], on_air: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Return the names of spans with how they are drawn; ``on_air`` says which are transfers."""
    found = []
    for name in names:
        is_transfer = on_air[name]
        drawn = span_style(name, is_transfer, names)
        found.append(
            {
                "name": name,
                "label": name.replace("_", " "),
                "transfer": is_transfer,
                "light": drawn.colour,
                "dark": drawn.on_dark,
                "hatch": drawn.hatch[:1],
            }
        )
    return found


def curves_content(
    columns: Columns, record: Record, spans: Spans, prefix: str = "curve"
) -> list[dict[str, Any]]:
    """Return what is drawn over time: what was measured, a mean at each instant, and how a limit was kept."""
    found = [
        (name, task, of_task(CURVES[name], task), *course)
        for (name, task), course in measured(record, CURVES, is_finite=True).items()
    ]
    of_limit = _limit_curves(latency_limit(record, spans))
    found += [(name, "", label, instants, values) for name, label, instants, values in of_limit]
    curves = []
    for look_, task, label, instants, values in found:
        name = f"{look_}.{task}" if task else look_
        columns.add(f"{prefix}.{name}.time", instants, "f8")
        columns.add(f"{prefix}.{name}.value", values, "f8")
        curves.append(
            {"name": name, "look": look_, "task": task, "label": label, "column": f"{prefix}.{name}"}
        )
    return [*curves, *_epsilons(columns, record, prefix)]


def _limit_curves(told: LatencyLimit | None) -> list[tuple[str, str, Ints, Floats]]:
    """Return latencies at the ends of rounds, and at their beginnings what held for them."""
    if told is None:
        return []
    begins_ns = told.ends_ns - np.rint(told.latency_s * NS_PER_S).astype(np.int64)
    so_far_s = told.latency_s.cumsum() / np.arange(1, len(told.rounds) + 1)
    found = [
        ("latency_s", "latency of a round, s", told.ends_ns, told.latency_s),
        ("mean_latency_s", "mean latency so far, s", told.ends_ns, so_far_s),
        (
            "latency_limit_s",
            "latency limit, s",
            np.append(begins_ns, told.ends_ns[-1]),
            np.append(told.limit_s, told.limit_s[-1]),
        ),
    ]
    if told.queue_s is not None:
        found.append(("queue_s", "virtual queue, s", np.append(begins_ns, told.ends_ns[-1]), told.queue_s))
    return [*found, ("kept", "kept, %", begins_ns, 100.0 * np.nanmean(told.sparsification_ratios, axis=1))]


def _epsilons(columns: Columns, record: Record, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield the course of each client's epsilon; of many clients those that end lowest and highest."""
    told = spent(record)
    order = [] if told is None else sorted(told.last, key=told.last.__getitem__)
    if len(order) > _MOST_EPSILONS:
        order = [*order[: _MOST_EPSILONS // 2], *order[-(_MOST_EPSILONS // 2) :]]
    for number, client in enumerate(order):
        assert told is not None
        name, (instants, values) = f"epsilon.{client}", told.courses[client]
        columns.add(f"{prefix}.{name}.time", instants, "f8")
        columns.add(f"{prefix}.{name}.value", values, "f8")
        entry = {"name": name, "look": "epsilon", "task": "", "label": f"epsilon of {client}"}
        colour = LINE_COLOURS[number % len(LINE_COLOURS)]
        yield {**entry, "column": f"{prefix}.{name}", "colour": colour}


def _add_spans(columns: Columns, spans: Spans) -> None:
    causes = Causes.of(spans)
    columns.add("name", spans.name, "u1" if len(spans.names) < 256 else "u2")
    columns.add("actor", spans.actor, "i4")
    columns.add("peer", spans.peer, "i4")
    columns.add("link", spans.link, "i4")
    columns.add("round", spans.round, "u4")
    columns.add("step", spans.local_step, "u4")
    columns.add("asked", spans.asked_ns, "f8")
    columns.add("start", spans.start_ns, "f8")
    columns.add("end", spans.end_ns, "f8")
    columns.add("bits", spans.bits, "f8")
    columns.add("flop", spans.flop, "f8")
    columns.add("energy", spans.energy_j, "f4")
    columns.add("slack", slack_ns(spans), "f8")
    columns.add("cause.set", causes.which, "i4")
    columns.add("cause.begins", causes.begins, "u4")
    columns.add("cause.members", causes.members, "u4")
    if len(spans.tasks) > 1 or any(spans.tasks):
        columns.add("task", spans.task, "u2")
    rare = np.flatnonzero(spans.is_joint | ~spans.delivered | (spans.resent_bits > 0.0))
    counts = np.diff(spans.participants_end, prepend=0)[rare]
    columns.add("rare.span", rare, "u4")
    columns.add("rare.delivered", spans.delivered[rare], "u1")
    columns.add("rare.resent", spans.resent_bits[rare], "f8")
    columns.add("rare.superposed", spans.is_superposed[rare], "u1")
    columns.add("rare.begins", np.concatenate([[0], np.cumsum(counts)]), "u4")
    columns.add("rare.members", spans.participants, "u4")


def _add_rows(columns: Columns, rows: Rows) -> None:
    columns.add("row.begins", rows.begins, "u4")
    columns.add("row.spans", rows.spans, "u4")


def add_rounds(columns: Columns, rounds: Rounds, prefix: str = "") -> None:
    """Add the rounds, from when to when each goes on, ns, in the order in which they begin."""
    columns.add(f"{prefix}round.number", rounds.number, "u4")
    columns.add(f"{prefix}round.start", rounds.start_ns, "f8")
    columns.add(f"{prefix}round.end", rounds.end_ns, "f8")


def _run(record: Record, summary: Summary, total_ns: int) -> dict[str, Any]:
    return {
        "name": summary.name,
        "status": summary.status,
        "reason": summary.reason,
        "notes": list(summary.notes),
        "channel": list(summary.channel),
        "freeLinks": [one.replace("_", " ") for one in summary.free_links],
        "numNotFinite": sum(one.not_finite for one in summary.learning),
        "seed": summary.seed,
        "lengthNs": total_ns,
        "rounds": summary.rounds_in_words,
        "numSpans": summary.num_spans,
        "timingOnly": bool(record.manifest.get("timing_only", False)),
        "versions": dict(record.manifest.get("versions", {})),
        "fingerprints": dict(record.manifest.get("fingerprints", {})),
        "phases": [asdict(phase) for phase in summary.phases],
        "actorTimes": [asdict(one) for one in summary.actors],
        "energy": summary.energy_j,
    }


def _links(columns: Columns, grants: SubchannelGrants, air: Air | None) -> list[dict[str, Any]]:
    """Return the links with who held what of them; a link nobody was granted is left out."""
    known = {link.name: link for link in air.links} if air is not None else {}
    found = []
    for index, name in enumerate(grants.links):
        mine = np.flatnonzero(grants.link == index)
        mine = mine[np.lexsort((grants.start_ns[mine], grants.subchannel[mine]))]
        num_subchannels = grants.num_subchannels[index]
        entry: dict[str, Any] = {"name": name, "label": name.replace("_", " ")}
        if name in known:
            link = known[name]
            num_subchannels = len(link.bandwidths_hz)
            columns.add(f"link.{index}.width", link.bandwidths_hz, "f8")
            columns.add(f"link.{index}.time", link.times_ns, "f8")
            columns.add(f"link.{index}.snr", _quantised(link.snr_db), "u1")
            entry["snrFrom"], entry["snrTo"] = _snr_range(link.snr_db)
        counts = np.bincount(grants.subchannel[mine], minlength=num_subchannels)
        columns.add(f"link.{index}.begins", np.concatenate([[0], np.cumsum(counts)]), "u4")
        columns.add(f"link.{index}.client", grants.client[mine], "u4")
        columns.add(f"link.{index}.start", grants.start_ns[mine], "f8")
        columns.add(f"link.{index}.end", grants.end_ns[mine], "f8")
        columns.add(f"link.{index}.power", grants.tx_power_w[mine], "f4")
        columns.add(f"link.{index}.gain", grants.gain[mine], "f4")
        columns.add(f"link.{index}.split", grants.split_hz[mine], "f8")
        found.append(entry | {"numSubchannels": num_subchannels, "column": f"link.{index}"})
    return found


def _snr_range(snr_db: Any) -> tuple[float, float]:
    """Return the SNR the palest and the strongest shade mean, dB, leaving out the outermost 1 %."""
    seen = snr_db[np.isfinite(snr_db)]
    if not len(seen):
        return 0.0, 1.0
    low, high = np.percentile(seen, [1.0, 99.0])
    return float(np.floor(low)), float(max(np.ceil(high), np.floor(low) + 1.0))


def _quantised(snr_db: Any) -> Any:
    """Return shades from 1 to 255 over the range of the link; 0 where nobody sent."""
    low, high = _snr_range(snr_db)
    shades = np.clip(np.round((snr_db - low) / (high - low) * 254.0), 0.0, 254.0) + 1.0
    return np.where(np.isfinite(snr_db), shades, 0.0).astype(np.uint8)


def _attribution(found: Attribution) -> dict[str, Any]:
    """Return the shares, and of each round the largest; what is left out is summed up."""
    return {
        "lengthNs": found.length_ns,
        "shares": [_share(share) for share in found.shares[:_MOST_SHARES]],
        "leftNs": sum(share.time_ns for share in found.shares[_MOST_SHARES:]),
        "rounds": [
            {
                "round": round_label(*key),
                "lengthNs": sum(share.time_ns for share in shares),
                "shares": [_share(share) for share in shares[:_MOST_SHARES_OF_A_ROUND]],
                "leftNs": sum(share.time_ns for share in shares[_MOST_SHARES_OF_A_ROUND:]),
            }
            for key, shares in found.rounds.items()
        ],
    }


def _share(share: Share) -> dict[str, Any]:
    return {
        "label": share.cause.label,
        **asdict(share.cause),
        "ns": share.time_ns,
        "count": share.num_stretches,
    }


def _air(columns: Columns, air: Air | None, spans: Spans) -> dict[str, Any] | None:
    if air is None:
        return None
    numbers = [int(name.rpartition("-")[2]) for name in spans.clients]
    for name, values in (
        ("distance", air.distances_m),
        ("pathLoss", air.path_loss_db),
        ("shadowing", air.shadowing_db),
    ):
        columns.add(f"air.{name}", _of_clients(values, numbers), "f4")
    columns.add("budget.span", air.budgets.spans, "u4")
    columns.add("budget.begins", air.budgets.offsets, "u4")
    columns.add("budget.subchannel", air.budgets.subchannel, "u4")
    columns.add("budget.power", air.budgets.tx_power_w, "f4")
    columns.add("budget.gain", air.budgets.gain, "f4")
    columns.add("budget.width", air.budgets.bandwidth_hz, "f8")
    columns.add("budget.rate", air.budgets.rate_bit_per_s, "f8")
    return {
        "antennaGainDb": air.antenna_gain_db,
        "noisePsdDbm": air.noise_psd_dbm_per_hz,
        "noiseFigureDb": air.noise_figure_db,
    }


def _of_clients(values: Floats, numbers: list[int]) -> Floats:
    return np.array([values[number] for number in numbers])


def _scenario(record: Record) -> str:
    try:
        return record.scenario_path.read_text(encoding="utf-8")
    except OSError:
        return ""
