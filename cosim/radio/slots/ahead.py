"""What the slots to come offer to those who send: who has what, and the effective SNR on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.power_control import open_loop_psd_w_per_hz
from cosim.radio.scheduler import Demand, Schedule, Scheduler
from cosim.radio.slots.sending import Air
from cosim.rng import stream
from cosim.units import NS_PER_S, Floats, Ints, linear_to_db

_LARGEST_EXPONENT = 700.0  # so that no exponential is zero


@dataclass(frozen=True, eq=False)
class Waiting:
    """Somebody with something to send: a client, or several that receive the same.

    Attributes
    ----------
    members
        The clients.
    grant
        What it may use.
    missing_bits, bits, asked_s, mean_rate
        As of the :class:`~cosim.radio.scheduler.Demand`.
    """

    members: tuple[int, ...]
    grant: Grant
    missing_bits: int
    bits: int
    asked_s: float
    mean_rate: float


@dataclass(frozen=True, eq=False)
class Grid:
    """The slots of a link.

    Attributes
    ----------
    slot_ns, block_hz
        How long a slot lasts, ns, and how wide a resource block is, Hz.
    report_delay_slots
        How old the channel is that the scheme is chosen by.
    max_attempts
        How many numbers a slot draws.
    thresholds_db, betas
        At which SNR each modulation and coding scheme begins, and its beta, shape (num_schemes,).
    """

    slot_ns: int
    block_hz: float
    report_delay_slots: int
    max_attempts: int
    thresholds_db: Floats
    betas: Floats

    def effective(self, snr: Floats, widths_hz: Floats, cells: "Cells") -> Floats:
        """Return the effective SNR of what each sender has in each slot, shape (num_slots, num_senders).

        Exponential mapping, by the beta of the scheme that capacity points to first, then of the one
        that this points to; 0 where a sender has nothing.

        Parameters
        ----------
        snr
            Of each subchannel, for its owner, shape (num_slots, num_subchannels).
        """
        owned_hz = np.maximum(cells.total(widths_hz), 1e-300)
        found = np.exp2(cells.total(widths_hz * np.log2(1.0 + snr)) / owned_hz) - 1.0
        for _ in range(2):
            scheme = np.searchsorted(self.thresholds_db, linear_to_db(found), side="right") - 1
            beta = self.betas[np.maximum(scheme, 0)]
            exponents = np.minimum(snr / cells.of_owner(beta), _LARGEST_EXPONENT)
            mean = cells.total(widths_hz * np.exp(-exponents)) / owned_hz
            found = np.where(mean > 0.0, -beta * np.log(np.maximum(mean, 1e-320)), 0.0)
        return np.asarray(np.maximum(found, 0.0))


class Cells:
    """Sums over what each sender has in each slot.

    Parameters
    ----------
    owners
        The sender that has each subchannel, -1 for nobody, shape (num_slots, num_subchannels).
    num_senders
        How many there are.
    """

    def __init__(self, owners: Ints, num_senders: int) -> None:
        self._shape = len(owners), num_senders
        self._is_owned = owners >= 0
        self._is_full = bool(self._is_owned.all())
        self._rows = np.arange(len(owners))[:, np.newaxis]
        self._owners = np.maximum(owners, 0)
        self._numbers = (self._rows * num_senders + self._owners)[self._is_owned]

    def total(self, values: Floats) -> Floats:
        """Return the sum of values over the subchannels of each, shape (num_slots, num_senders)."""
        values = np.broadcast_to(values, self._is_owned.shape)
        picked = values.ravel() if self._is_full else values[self._is_owned]
        size = self._shape[0] * self._shape[1]
        return np.asarray(
            np.bincount(self._numbers, weights=picked, minlength=size).reshape(self._shape), dtype=np.float64
        )

    def of_owner(self, values: Floats) -> Floats:
        """Return for each subchannel what is its owner's, of values by slot and sender, or by sender."""
        if values.ndim == 1:
            return np.asarray(values[self._owners])
        return np.asarray(values[self._rows, self._owners])

    def row(self, values: Floats) -> Floats:
        """Return of (num_senders, num_slots, num_subchannels) what is the owner's."""
        return np.asarray(values[self._owners, self._rows, np.arange(self._owners.shape[1])])


@dataclass(frozen=True, eq=False)
class Ahead:
    """What consecutive slots offer.

    Attributes
    ----------
    first_slot, count
        Which slots.
    schedule
        Who has what.
    psd_w_per_hz
        What is sent on each subchannel, W/Hz, shape (num_slots, num_subchannels).
    airs
        What each sender meets.
    """

    first_slot: int
    count: int
    schedule: Schedule
    psd_w_per_hz: Floats
    airs: tuple[Air, ...]


def look_ahead(
    grid: Grid,
    scheduler: Scheduler,
    channel: Channel,
    link: str,
    senders: Sequence[Waiting],
    granted: Mapping[int, Grant],
    overlaps: bool,
    first_slot: int,
    count: int,
) -> Ahead:
    """Return what slots offer while nothing changes.

    Parameters
    ----------
    grid, scheduler, channel, link
        The slots, who shares them out, and over what.
    senders
        Those with something to send, in the order in which they asked.
    granted, overlaps
        What the allocator gave to all clients, and whether some share subchannels.
    first_slot, count
        Which slots.
    """
    widths_hz = channel.bandwidths_hz(link)
    slots = np.arange(first_slot, first_slot + count)
    quality = _over_noise(channel, link, senders, slots * grid.slot_ns)
    band_psd, total_w = _powers(scheduler, channel, link, senders, granted, overlaps)
    demand = Demand(
        first_slot,
        grid.slot_ns / NS_PER_S,
        widths_hz * np.log2(1.0 + band_psd[:, np.newaxis] * quality),
        _owned(senders, len(widths_hz)),
        np.array([one.missing_bits for one in senders], dtype=float),
        np.array([one.bits for one in senders], dtype=float),
        np.array([one.asked_s for one in senders]),
        np.array([one.mean_rate for one in senders]),
    )
    schedule = scheduler.schedule(demand)
    cells = Cells(schedule.owners, len(senders))
    owned_hz = cells.total(widths_hz)
    if total_w is None:
        psd = band_psd[np.maximum(schedule.owners, 0), np.arange(len(widths_hz))]
    else:
        spread = total_w / np.maximum(owned_hz, 1e-300)
        psd = cells.of_owner(
            np.minimum(spread, _psd_limits(channel, link, senders, first_slot * grid.slot_ns))
        )
    snr = grid.effective(psd * cells.row(quality), widths_hz, cells)
    reported = snr
    if grid.report_delay_slots:
        then_ns = np.maximum(slots - grid.report_delay_slots, 0) * grid.slot_ns
        before = _over_noise(channel, link, senders, then_ns)
        reported = grid.effective(psd * cells.row(before), widths_hz, cells)
    num_blocks = np.floor(owned_hz / grid.block_hz * (1.0 + 1e-12)).astype(np.int64)
    energy_j = cells.total(psd * widths_hz) * (grid.slot_ns / NS_PER_S)
    chance = stream(channel.seed, "radio", "block errors", link)
    snr_db = np.maximum(linear_to_db(snr), -400.0)
    reported_db = snr_db if reported is snr else np.maximum(linear_to_db(reported), -400.0)
    airs = tuple(
        Air(
            first_slot,
            num_blocks[:, which].tolist(),
            snr[:, which].tolist(),
            snr_db[:, which].tolist(),
            reported_db[:, which].tolist(),
            chance.child(*one.members).uniforms(first_slot, count, grid.max_attempts).tolist(),
            energy_j[:, which].tolist(),
        )
        for which, one in enumerate(senders)
    )
    return Ahead(first_slot, count, schedule, psd, airs)


def _over_noise(channel: Channel, link: str, senders: Sequence[Waiting], time_ns: Ints) -> Floats:
    """Return gain over noise PSD, Hz/W, of the weakest member; each slot has the block it begins in.

    Of shape (num_senders, num_slots, num_subchannels).
    """
    blocks = np.zeros_like(time_ns) if channel.block_ns is None else time_ns // channel.block_ns
    first, count = int(blocks[0]), int(blocks[-1] - blocks[0]) + 1
    every = np.arange(len(channel.bandwidths_hz(link)))

    def one(client: int) -> Floats:
        gains = channel.gains(link, client, first, count)
        return np.asarray(gains / channel.noise_psd(link, client, every, first, count, is_split=False))

    each = [np.min([one(client) for client in sender.members], axis=0) for sender in senders]
    return np.array(each)[:, blocks - first]


def _owned(senders: Sequence[Waiting], num_subchannels: int) -> Floats:
    """Return 1 where a sender was granted power on a subchannel, shape (num_senders, num_subchannels)."""
    owned = np.zeros((len(senders), num_subchannels))
    for which, one in enumerate(senders):
        owned[which, one.grant.subchannels] = one.grant.tx_power_w > 0.0
    return owned


def _powers(
    scheduler: Scheduler,
    channel: Channel,
    link: str,
    senders: Sequence[Waiting],
    granted: Mapping[int, Grant],
    overlaps: bool,
) -> tuple[Floats, Floats | None]:
    """Return the PSD of each sender on each subchannel, W/Hz, and its power where it spreads that.

    With grants that are kept the powers in them; on a downlink all that was granted, spread over the
    band. On an uplink a client spreads its power over what it has, unless grants overlap: each was
    given the power of the whole link then, and has its share of the band's.
    """
    widths_hz = channel.bandwidths_hz(link)
    psd = np.zeros((len(senders), len(widths_hz)))
    if scheduler.keeps_grants:
        for which, one in enumerate(senders):
            numbers = one.grant.subchannels
            psd[which, numbers] = one.grant.tx_power_w / widths_hz[numbers]
        return psd, None
    total_w = np.array([one.grant.total_tx_power_w for one in senders])
    is_uplink = channel.radio.link(link).is_uplink
    if not is_uplink:
        of_all = [one.total_tx_power_w for one in granted.values()]
        total_w = np.full(len(senders), max(of_all) if overlaps else sum(of_all))
    psd += (total_w / widths_hz.sum())[:, np.newaxis]
    return psd, total_w if is_uplink and not overlaps else None


def _psd_limits(channel: Channel, link: str, senders: Sequence[Waiting], time_ns: int) -> Floats:
    """Return what open-loop power control lets each sender send, W/Hz; infinite without it."""
    radio = channel.radio
    if radio.uplink_p0_dbm is None:
        return np.full(len(senders), np.inf)
    gains = channel.large_scale_at(time_ns).mean_gains[0, [one.members[0] for one in senders]]
    return open_loop_psd_w_per_hz(radio.uplink_p0_dbm, radio.uplink_alpha, gains)
