"""The channel a run met, replayed: SNR over time and the link budget of its transfers.

A channel is a pure function of the scenario in the run folder, so what is drawn
here is what the run met. Pictures are drawn from it without knowing a radio.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from cosim.errors import RecordError
from cosim.radio.channel import Channel
from cosim.radio.trace.writing import block_times_s, gains_db_of, num_blocks
from cosim.record.folder import Record
from cosim.report.air import Air, Budgets, LinkAir
from cosim.report.spans import Spans, length_ns
from cosim.report.subchannel_grants import SubchannelGrants
from cosim.scenario.after_events import becomes
from cosim.scenario.load import load
from cosim.units import Floats, Ints, linear_to_db, seconds_to_ns

TRACED = {"gain": "gain_db", "rate": "rate_bit_per_s"}
"""What a run can be written down as for ``radio.trace``, with the column of the values."""

_DRAWS_PER_SNAPSHOT = 64  # a channel draws a chunk of so many blocks to answer for one
_MOST_DRAWS = 40_000_000  # about two seconds


def replay_channel(record: Record, *, most_instants: int = 2048, most_entries: int = 400_000) -> Air:
    """Return the air a run met.

    Parameters
    ----------
    record
        The run.
    most_instants
        How many instants the SNR of each link is looked at; fewer where the
        gains of so many clients would take too long to draw.
    most_entries
        For how many pairs of transfer and subchannel the link budget is worked
        out; the longest transfers come first.

    Raises
    ------
    RecordError
        If the run's tables cannot be read.
    ScenarioError
        If the scenario in the run folder can no longer be read.
    """
    scenario = load(record.scenario_path)
    stages = [(0.0, scenario), *becomes(scenario)]
    channels = [
        _Stage(seconds_to_ns(at_s), Channel.build(stage.radio, stage.num_clients, stage.seed))
        for at_s, stage in stages
    ]
    spans = Spans.of(record)
    end_ns = length_ns(record, spans)
    grants = SubchannelGrants.of(record, end_ns)
    counted = [index for index, link in enumerate(grants.links) if link in channels[0].channel.modelled]
    first = channels[0].channel
    if first.radio.interference.reuses:  # numbers count over all cells, and others were heard
        counted = []
    per_instant = sum(
        len(first.bandwidths_hz(grants.links[index]))
        * min(first.num_clients, len(np.unique(grants.client[grants.link == index])))
        for index in counted
    ) * (1 if first.block_ns is None else _DRAWS_PER_SNAPSHOT)
    num_instants = int(np.clip(_MOST_DRAWS // max(per_instant, 1), 1, most_instants))
    step_ns = -(-end_ns // num_instants) or 1
    if first.block_ns is not None and -(-end_ns // first.block_ns) <= num_instants:
        step_ns = first.block_ns  # every block, so that nothing is left out
    return Air(
        distances_m=first.distances_m,
        path_loss_db=first.path_loss_db,
        shadowing_db=first.shadowing_db,
        antenna_gain_db=first.radio.antenna_gain_db,
        noise_psd_dbm_per_hz=first.radio.noise_psd_dbm_per_hz,
        noise_figure_db=first.radio.noise_figure_db,
        links=tuple(_link_air(channels, grants, index, end_ns, step_ns) for index in counted),
        budgets=_budgets(channels, grants, spans, 0 if first.radio.interference.reuses else most_entries),
    )


def replay_trace(record: Record, what: str) -> dict[str, list[Any]]:
    """Return the columns of a trace of a run's air, block by block until it ended, of links that take time.

    Replayed by ``radio.trace`` of that kind a gain is the channel again where all subchannels have one,
    and else their mean. A rate is what the grant carries that is in force as the block begins, before the
    first what that carries.

    Parameters
    ----------
    what
        One of :data:`TRACED`.

    Raises
    ------
    RecordError
        If the record does not say what the air was like, or rates were none of a grant; or as for
        :func:`replay_channel`.
    """
    scenario = load(record.scenario_path)
    radio = scenario.radio
    refusals = {
        "events change the air; write a trace of each part by itself": scenario.events,
        "clients of other cells were heard, which the record does not have": radio.interference.reuses,
        "decisions set the phases of a surface": radio.surface.elements,
        f"under the medium {radio.medium.kind!r} no rate is one of a grant; write gains": what == "rate"
        and not radio.medium.is_closed_form,
    }
    for why, holds in refusals.items():
        if holds:
            raise RecordError(f"{record.path}: there is no trace of {what}s of this run: {why}.")
    channel = Channel.build(radio, scenario.num_clients, scenario.seed)
    end_ns = length_ns(record, Spans.of(record))
    count, grants = num_blocks(channel, end_ns), SubchannelGrants.of(record, end_ns)
    columns: dict[str, list[Any]] = {"time_s": [], "client": [], "link": [], TRACED[what]: []}
    schemes = [task.scheme for task in scenario.by_task.values()]
    links = dict.fromkeys(link.name for scheme in schemes for link in scheme.links)
    for link, client in product(
        (one for one in links if one in channel.modelled), range(scenario.num_clients)
    ):
        if what == "gain":
            values = gains_db_of(channel, link, client, count)
        else:
            values = _rates(record, channel, grants, link, client, count)
        rows: list[list[Any]] = [block_times_s(channel, count), [client] * count, [link] * count, values]
        for column, more in zip(columns.values(), rows if values else (), strict=bool(values)):
            column.extend(more)
    return columns


def _rates(
    record: Record, channel: Channel, grants: SubchannelGrants, link: str, client: int, count: int
) -> list[float]:
    """Return the rate of what a client was granted in the first blocks; none if it never was."""
    on_link = grants.links.index(link) if link in grants.links else -1
    mine = np.flatnonzero((grants.link == on_link) & (grants.client == client))
    if not len(mine):
        return []
    changes = np.unique(np.concatenate([grants.start_ns[mine], grants.end_ns[mine]])).tolist()
    each = {at: mine[(grants.start_ns[mine] <= at) & (grants.end_ns[mine] > at)] for at in changes}
    starts, held = zip(*((at, own) for at, own in each.items() if len(own)), strict=True)
    if channel.block_ns is None and len(held) > 1:
        raise RecordError(
            f"{record.path}: there is no trace of rates of this run: grants of client {client} on {link} "
            "change, and the air holds still, so that it has no blocks; write gains."
        )
    begins_ns = np.arange(count) * (channel.block_ns or 0)
    which = np.maximum(np.searchsorted(np.array(starts), begins_ns, side="right") - 1, 0)
    rates = np.zeros(count)
    for number in np.unique(which).tolist():
        blocks, own = np.flatnonzero(which == number), held[number]
        split_hz = grants.split_hz[own]
        grant = grants.subchannel[own], grants.tx_power_w[own]
        width = None if np.isnan(split_hz).any() else split_hz
        first, num = int(blocks[0]), int(blocks[-1] - blocks[0]) + 1
        rates[blocks] = channel.rates(link, client, *grant, first, num, width)
    found: list[float] = rates.tolist()
    return found


@dataclass(frozen=True)
class _Stage:
    """The channel from an instant on."""

    from_ns: int
    channel: Channel


def _channel_at(stages: list[_Stage], time_ns: int) -> Channel:
    return next(stage.channel for stage in reversed(stages) if stage.from_ns <= time_ns)


def _received(
    channel: Channel,
    link: str,
    client: int,
    subchannels: Ints,
    time_ns: int,
    split_hz: Floats,
    tx_power_w: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Return gain, width in Hz, and SNR of what a client sends at an instant, each of shape (num_owned,)."""
    block, is_split = channel.block_at(time_ns), ~np.isnan(split_hz)
    gain = channel.channel_gains(link, client, subchannels, block, 1, is_split)[0]
    widths_hz = np.where(is_split, split_hz, channel.bandwidths_hz(link)[subchannels])
    noise_psd = channel.noise_psd(link, client, subchannels, block, 1, is_split)
    return gain, widths_hz, np.asarray(tx_power_w / widths_hz * gain / noise_psd).reshape(-1)


def _link_air(
    stages: list[_Stage], grants: SubchannelGrants, index: int, end_ns: int, step_ns: int
) -> LinkAir:
    """Look at a link in the middle of every stretch of ``step_ns``."""
    link = grants.links[index]
    mine = np.flatnonzero(grants.link == index)
    widths_hz = stages[0].channel.bandwidths_hz(link)
    begins_ns = np.arange(0, max(end_ns, 1), step_ns)
    times_ns = begins_ns + step_ns // 2
    held = np.full((len(widths_hz), len(times_ns)), -1, dtype=np.int64)
    begin = np.searchsorted(times_ns, grants.start_ns[mine], side="left")
    until = np.searchsorted(times_ns, grants.end_ns[mine], side="left")
    for which, first, last in zip(mine.tolist(), begin.tolist(), until.tolist(), strict=True):
        held[grants.subchannel[which], first:last] = which
    snr_db = np.full(held.shape, np.nan, dtype=np.float32)
    for column, time_ns in enumerate(times_ns.tolist()):
        channel = _channel_at(stages, time_ns)
        subchannels = np.flatnonzero(held[:, column] >= 0)
        which = held[subchannels, column]
        for client in np.unique(grants.client[which]).tolist():
            own = grants.client[which] == client
            numbers = subchannels[own]
            split_hz = grants.split_hz[which[own]]
            _, _, snr = _received(
                channel, link, client, numbers, time_ns, split_hz, grants.tx_power_w[which[own]]
            )
            snr_db[numbers, column] = linear_to_db(snr)
    return LinkAir(link, np.array(widths_hz), begins_ns, snr_db)


def _budgets(stages: list[_Stage], grants: SubchannelGrants, spans: Spans, most_entries: int) -> Budgets:
    """Return the link budget of the longest transfers at their start, subchannel by subchannel."""
    transfers = np.flatnonzero(spans.is_transfer & (spans.duration_ns > 0) & (spans.client >= 0))
    by_length = transfers[np.argsort(-spans.duration_ns[transfers], kind="stable")]
    numbers = [int(name.rpartition("-")[2]) for name in spans.clients]
    of_whom: dict[tuple[int, int], Ints] = {}
    for index in range(len(grants.links)):
        mine = np.flatnonzero(grants.link == index)
        for client in np.unique(grants.client[mine]).tolist():
            of_whom[index, client] = mine[grants.client[mine] == client]
    found: dict[int, tuple[Ints, Floats, Floats, Floats, Floats]] = {}
    entries = draws = 0
    for span in by_length.tolist():
        client = numbers[spans.client[span]]
        link = spans.links[spans.link[span]]
        if link not in grants.links:
            continue
        mine = of_whom.get((grants.links.index(link), client), np.empty(0, dtype=np.int64))
        start_ns = int(spans.start_ns[span])
        mine = mine[(grants.start_ns[mine] <= start_ns) & (grants.end_ns[mine] > start_ns)]
        channel = _channel_at(stages, start_ns)
        if not len(mine):
            continue
        subchannels = grants.subchannel[mine]
        draws += len(channel.bandwidths_hz(link)) * _DRAWS_PER_SNAPSHOT
        entries += len(mine)
        if entries > most_entries or draws > _MOST_DRAWS:
            break
        power_w = grants.tx_power_w[mine]
        split_hz = grants.split_hz[mine]
        gain, widths, snr = _received(channel, link, client, subchannels, start_ns, split_hz, power_w)
        rate = channel.rate_model(link, client, start_ns).per_subchannel(snr, widths)
        found[span] = subchannels, power_w, gain, widths, rate
    known = sorted(found)
    columns = [
        np.concatenate([found[span][part] for span in known]) if known else np.empty(0) for part in range(5)
    ]
    counts = np.array([len(found[span][0]) for span in known], dtype=np.int64)
    return Budgets(
        spans=np.array(known, dtype=np.int64),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        subchannel=columns[0].astype(np.int64),
        tx_power_w=columns[1],
        gain=columns[2],
        bandwidth_hz=columns[3],
        rate_bit_per_s=columns[4],
    )
