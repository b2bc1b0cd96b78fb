"""The channel a run met, replayed: SNR over time and the link budget of its transfers.

A channel is a pure function of the scenario in the run folder, so what is drawn
here is what the run met. Pictures are drawn from it without knowing a radio.
"""

from dataclasses import dataclass

import numpy as np

from cosim.radio.channel import Channel
from cosim.record.folder import Record
from cosim.report.air import Air, Budgets, LinkAir
from cosim.report.spans import Spans, length_ns
from cosim.report.subchannel_grants import SubchannelGrants
from cosim.scenario.after_events import becomes
from cosim.scenario.load import load
from cosim.units import Floats, Ints, linear_to_db, seconds_to_ns

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
