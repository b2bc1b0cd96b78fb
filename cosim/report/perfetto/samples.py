"""The counters of a trace: rate, power and SNR of transfers, queues, and what was measured."""

from collections.abc import Iterator

import numpy as np

from cosim.record.folder import Record
from cosim.report.air import Air
from cosim.report.learning import of_task
from cosim.report.perfetto.tracks import Samples, Tracks
from cosim.report.spans import Spans, is_client
from cosim.units import NS_PER_S, Floats, Ints, db_to_linear, linear_to_db


def counters(tracks: Tracks, record: Record, spans: Spans, air: Air | None, run: int) -> list[Samples]:
    """Add every counter and return what they show; process ``n`` is actor ``n``, ``run`` that of the run."""
    found = [*_measured(tracks, record, spans, run), *_queues(tracks, spans), *_transfers(tracks, spans)]
    if air is not None:
        found += [*_snr_of_transfers(tracks, spans, air), *_snr_of_subchannels(tracks, air, run)]
    return found


def _measured(tracks: Tracks, record: Record, spans: Spans, run: int) -> Iterator[Samples]:
    """Add a counter of each value an actor measured of a task: losses, perplexity, rank."""
    table = record.metrics
    values, times = table["value"].to_numpy(), table["time_ns"].to_numpy()
    words = [table[name].combine_chunks().dictionary_encode() for name in ("actor", "name", "task")]
    actors, names, tasks = (one.dictionary.to_pylist() for one in words)
    actor, name, task = (one.indices.to_numpy().astype(np.int64) for one in words)
    key = (actor * max(len(names), 1) + name) * max(len(tasks), 1) + task
    for which in np.unique(key).tolist():
        mine = np.flatnonzero((key == which) & np.isfinite(values))
        mine = mine[np.argsort(times[mine], kind="stable")]
        rest, whose = divmod(which, len(tasks))
        who, what = actors[rest // len(names)], names[rest % len(names)]
        process = spans.actors.index(who) if who in spans.actors else run
        unit = "nats" if what.endswith("_loss") else ""
        track = tracks.add(process, of_task(_words(what), tasks[whose]), unit)
        yield Samples(np.full(len(mine), track), times[mine], values[mine])


def _queues(tracks: Tracks, spans: Spans) -> Iterator[Samples]:
    """Add a counter of works in the queue of each device, and of transfers that wait for subchannels."""
    waited = np.flatnonzero(spans.asked_ns < spans.start_ns)
    computed = waited[~spans.is_transfer[waited]]
    for actor in np.unique(spans.actor[~spans.is_transfer]).tolist():
        track = tracks.add(actor, "queue length", "works")
        yield _queue(spans, computed[spans.actor[computed] == actor], track)
    for number, link in enumerate(spans.links):
        first = int((spans.link == number).argmax())
        ends = int(spans.actor[first]), int(spans.peer[first])
        server = next((end for end in ends if not is_client(spans.actors[end])), ends[0])
        track = tracks.add(server, f"queue for {_words(link)}", "transfers")
        yield _queue(spans, waited[spans.link[waited] == number], track)


def _queue(spans: Spans, queued: Ints, track: int) -> Samples:
    """Return how many of these spans were asked for and had not begun, whenever that changes."""
    count = len(queued)
    instants = np.concatenate([[0], spans.asked_ns[queued], spans.start_ns[queued]])
    steps = np.concatenate([[0.0], np.ones(count), -np.ones(count)])
    order = np.argsort(instants, kind="stable")
    instants, lengths = instants[order], np.cumsum(steps[order])
    is_last = np.append(instants[1:] != instants[:-1], True)  # what an instant comes to is what counts
    return Samples(np.full(int(is_last.sum()), track), instants[is_last], lengths[is_last])


def _transfers(tracks: Tracks, spans: Spans) -> Iterator[Samples]:
    """Add counters of rate and power of each client's links; both are zero between transfers."""
    rows = np.flatnonzero(spans.is_transfer & (spans.end_ns > spans.start_ns) & (spans.client >= 0))
    num_links = max(len(spans.links), 1)
    key = spans.client[rows] * num_links + spans.link[rows]
    order = np.lexsort((spans.start_ns[rows], key))
    rows = rows[order]
    different, counts = np.unique(key, return_counts=True)
    lasts_s = spans.duration_ns[rows] / NS_PER_S
    for what, unit, amounts in (("rate", "bit/s", spans.bits[rows]), ("power", "W", spans.energy_j[rows])):
        numbers = [
            tracks.add(one // num_links, f"{_words(spans.links[one % num_links])} {what}", unit)
            for one in different.tolist()
        ]
        yield Samples(
            np.repeat(np.array(numbers, dtype=np.int64), 2 * counts),
            np.stack([spans.start_ns[rows], spans.end_ns[rows]], axis=1).ravel(),
            np.stack([amounts / lasts_s, np.zeros(len(rows))], axis=1).ravel(),
        )


def _snr_of_transfers(tracks: Tracks, spans: Spans, air: Air) -> Iterator[Samples]:
    """Add the SNR over all of a transfer's subchannels at its start, for each client's links."""
    noise_psd = db_to_linear(air.noise_psd_dbm_per_hz + air.noise_figure_db - 30.0)
    counted = {link.name for link in air.links}
    known = air.budgets
    whose = np.repeat(np.arange(len(known.spans)), np.diff(known.offsets))
    for number, link in enumerate(spans.links):
        if link not in counted:
            continue
        of_link = spans.link[known.spans] == number
        entries = np.flatnonzero(of_link[whose])
        received, noise = (
            np.bincount(whose[entries], weights=values, minlength=len(known.spans))
            for values in (
                known.tx_power_w[entries] * known.gain[entries],
                noise_psd * known.bandwidth_hz[entries],
            )
        )
        heard = of_link & (noise > 0.0) & (received > 0.0)
        for client in np.unique(spans.client[known.spans[heard]]).tolist():
            mine = np.flatnonzero(heard & (spans.client[known.spans] == client))
            mine = mine[np.argsort(spans.start_ns[known.spans[mine]], kind="stable")]
            snr_db: Floats = linear_to_db(received[mine] / noise[mine])
            track = tracks.add(client, f"{_words(link)} SNR", "dB")
            yield Samples(np.full(len(mine), track), spans.start_ns[known.spans[mine]], snr_db)


def _snr_of_subchannels(tracks: Tracks, air: Air, run: int) -> Iterator[Samples]:
    """Add the SNR of the client that held each subchannel, whenever it changes."""
    for link in air.links:
        for number, snr_db in enumerate(link.snr_db.astype(np.float64)):
            known = np.flatnonzero(np.isfinite(snr_db))
            changes = known[np.diff(snr_db[known], prepend=np.nan) != 0.0]
            if len(changes):
                track = tracks.add(run, f"{_words(link.name)} subchannel {number} SNR", "dB")
                yield Samples(np.full(len(changes), track), link.times_ns[changes], snr_db[changes])


def _words(name: str) -> str:
    return name.replace("_", " ")
