"""Links whose transfers go slot by slot, in simulated time; many slots are worked out in one step."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cosim.errors import ScenarioError
from cosim.kernel.clock import Clock, Steps
from cosim.kernel.job import NEVER_NS
from cosim.kernel.presence import MOST_CUTS, Comings, Presence
from cosim.radio.access import Access
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant, overlap
from cosim.radio.link import Link
from cosim.radio.medium import Network
from cosim.radio.medium.delivery import Delivery, Payload
from cosim.radio.medium.last_sent import LastSent
from cosim.radio.medium.slotted_link import FEWEST_SLOTS, SlottedLink, SlottedTransfer
from cosim.radio.slots.ahead import Ahead, Waiting, look_ahead
from cosim.radio.slots.sending import GIVEN_UP, Sender
from cosim.record.grants import GrantLog
from cosim.units import NS_PER_S, linear_to_db

if TYPE_CHECKING:
    from cosim.radio.medium.slotted import Slotted

_MOST_SLOTS = 1024
_MOST_CELLS = 1 << 20  # senders x slots x subchannels at one time, or gains would fill the memory


class Slotting(Network):
    """Links that carry transport blocks.

    Between two arrivals nothing changes who sends, so slots are worked out many at a time, up to the
    one in which the first payload has arrived. What comes in between lets the slots that
    have begun be as they were, and works out the others again; chance is of the slot, so it is the
    same.

    Parameters
    ----------
    clock, channel, access
        Simulated time, the channel, and how senders share grants that are kept.
    log
        Takes a row whenever other senders make a subchannel change hands or power; what a scheduler
        changes from slot to slot in between is not written down.
    links
        The links there are.
    medium
        Slots, blocks, scheduler.
    """

    def __init__(
        self,
        clock: Clock,
        channel: Channel,
        access: Access,
        log: GrantLog,
        links: Collection[Link],
        medium: "Slotted",
    ) -> None:
        self._clock, self._channel, self._access, self._log = clock, channel, access, log
        self._scheduler, self._medium = medium.scheduler, medium
        self._grid = medium.grid()
        self._rules = medium.rules(channel.radio.surface.data_share)
        self._links = {link.name: SlottedLink(link) for link in links}
        self._round = 0
        self._last_sent = LastSent()
        self._presence: Presence | None = None

    def follow(self, presence: Presence) -> None:
        """Let transfers pause, begin again or be given up after the slot in which somebody leaves."""
        self._presence = presence

    def grant(self, link: str, granted: Mapping[int, Grant], round_: int) -> None:
        """Let a decision take effect at the next slot."""
        state = self._links[link]
        self._catch_up(state)
        self._round = round_
        state.granted = dict(granted)
        state.overlaps = overlap(one.subchannels for one in granted.values())
        if not state.overlaps:
            for client, one in granted.items():
                held = zip(one.subchannels.tolist(), one.tx_power_w.tolist(), strict=True)
                self._record(state, client, list(held))
        for transfer in state.active.values():
            transfer.sender.failed_in_a_row = 0
        self._plan_soon(state)

    def change(self, channel: Channel, access: Access) -> None:
        """Let another channel take over at the next slot."""
        for state in self._links.values():
            self._catch_up(state)
            state.ahead = None
            self._plan_soon(state)
        self._channel, self._access = channel, access
        self._rules = self._medium.rules(channel.radio.surface.data_share)

    def send(self, link: str, payloads: Mapping[int, Payload]) -> Steps:
        """Send from one client, or to one or several; returns the :class:`Delivery`.

        What several receive is sent once, at the effective SNR of the weakest on every subchannel.

        Raises
        ------
        ValueError
            If several send at once: here each has a transmission of its own.
        """
        clock, state = self._clock, self._links[link]
        if state.link.is_uplink and len(payloads) > 1:
            raise ValueError(f"{link}: {len(payloads)} clients send at once, and this medium adds nothing")
        members, bits, asked_ns = tuple(payloads), max(one.bits for one in payloads.values()), clock.now
        if not bits:
            return Delivery.at_once(asked_ns, payloads)
        self._catch_up(state)
        number = members[0] if len(members) == 1 else min((0, *state.active, *state.paused)) - 1
        offset_db = state.offsets_db.get(members, 0.0)
        done = clock.event(f"{bits} bits of {' and '.join(f'client-{one}' for one in members)} on {link}")
        transfer = SlottedTransfer(members, bits, asked_ns, state.slot, done, Sender(bits, bits, offset_db))
        self._begin(state, number, transfer)
        yield done
        sender = transfer.sender
        start_ns = clock.now if sender.first_slot is None else sender.first_slot * self._grid.slot_ns
        return Delivery(
            asked_ns,
            start_ns,
            clock.now,
            dict.fromkeys(payloads, self._energy_j(state, transfer, start_ns) / len(payloads)),
            dict.fromkeys(payloads, transfer.cut_bits is None),
            transfer.after_span,
            resent_bits=sender.sent_bits - (bits if transfer.cut_bits is None else transfer.cut_bits),
            cut_bits=transfer.cut_bits,
            away_ns=transfer.away_ns,
            measures=transfer.spent.measures(),
        )

    def _begin(self, state: SlottedLink, number: int, transfer: SlottedTransfer) -> None:
        """Let a transfer have slots from the next one on, until somebody it needs leaves."""
        state.active[number] = transfer
        self._plan_soon(state)
        if self._presence is not None:
            leaving = self._presence.first_leaving(state.actors_of(transfer), self._clock.now)
            if leaving is not None:
                leave = partial(self._leaves, state, number, transfer, leaving[1])
                self._clock.after(leaving[0] - self._clock.now, leave)

    def _leaves(self, state: SlottedLink, number: int, transfer: SlottedTransfer, who: Comings) -> None:
        """Cut a transfer after the slot under way, as somebody it needs leaves."""
        self._catch_up(state)
        self._plan_soon(state)
        if state.active.get(number) is not transfer:
            return  # it has arrived
        transfer.num_cuts += 1
        if transfer.num_cuts > MOST_CUTS:
            raise ScenarioError(who.never_ends(f"the transfer of {transfer.bits} bits on {state.link.name}"))
        del state.active[number]
        sender, now_ns = transfer.sender, self._clock.now
        if who.on_leave == "drop":
            transfer.cut_bits = float(transfer.bits - sender.unsent)
            state.offsets_db[transfer.members] = sender.offset_db
            self._clock.after(state.slot * self._grid.slot_ns - now_ns, transfer.end)
            return
        if who.on_leave == "restart":
            transfer.sender = replace(
                sender, unsent=transfer.bits, missing=transfer.bits, repeats=[], failed_in_a_row=0
            )
        state.paused[number] = transfer
        assert self._presence is not None
        back_ns = self._presence.back_ns(state.actors_of(transfer), now_ns)
        if back_ns < NEVER_NS:
            transfer.away_ns += back_ns - now_ns
            back = partial(self._comes_back, state, number, transfer, state.slot)
            self._clock.after(back_ns - now_ns, back)

    def _comes_back(
        self, state: SlottedLink, number: int, transfer: SlottedTransfer, since_slot: int
    ) -> None:
        """Let a transfer go on, as all it needs are there."""
        self._catch_up(state)
        if transfer.sender.first_slot is not None:
            transfer.num_away_slots += state.slot - since_slot
        self._begin(state, number, state.paused.pop(number))

    def leave(self, link: str, clients: Collection[int], span: int) -> None:
        """Note the span of a transfer as the cause of those that had nothing of the air before."""
        state = self._links[link]
        for transfer in state.active.values():
            if transfer.sender.first_slot is None and transfer.from_slot < state.slot:
                transfer.after_span = span

    def too_weak(self) -> str | None:
        """Return what to say of a transfer none of whose blocks arrives."""
        for state in self._links.values():
            for number, transfer in state.active.items():
                if transfer.sender.failed_in_a_row >= GIVEN_UP or transfer.sender.first_slot is None:
                    return self._weak(state, number, transfer)
        return None

    def _weak(self, state: SlottedLink, number: int, transfer: SlottedTransfer) -> str:
        name = f"client-{transfer.members[0]}: {state.link.name} is too weak for {transfer.bits} bits"
        ahead = self._look_ahead(state, 1)
        air = ahead.airs[list(state.active).index(number)]
        if not air.num_blocks[0]:
            return (
                f"{name}: it has no resource block to send them in; give it subchannels with power on them."
            )
        lowest_db = self._rules.curves(air.num_blocks[0]).thresholds_db[0]
        return (
            f"{name}: {air.num_blocks[0]} resource block(s) have an effective SNR of "
            f"{float(linear_to_db(air.snr[0])):.4g} dB, the lowest scheme needs {lowest_db:.4g} dB, and "
            f"{self._medium.max_attempts} attempt(s) did not make up for it; give it more power, less noise, "
            "or a place nearer by."
        )

    def _energy_j(self, state: SlottedLink, transfer: SlottedTransfer, start_ns: int) -> float:
        """Return what a transfer that ends now has cost, J."""
        if not state.link.is_uplink:
            return transfer.sender.energy_j
        (client,), costs = transfer.members, self._channel.radio.uplink_energy
        bits = transfer.bits if transfer.cut_bits is None else transfer.cut_bits
        times = start_ns, self._clock.now, transfer.num_away_slots * self._grid.slot_ns
        return self._last_sent.total_j(costs, client, transfer.sender.energy_j, bits, *times)

    def _catch_up(self, state: SlottedLink) -> None:
        """Let all happen that happens in slots which have begun."""
        after = -(-self._clock.now // self._grid.slot_ns)
        if after > state.slot:
            if state.ahead is not None:
                senders, count = self._sent(state, state.ahead, after - state.slot)
                self._move(state, state.ahead, senders, count)
            state.slot = after
        self._finish(state)

    def _plan_soon(self, state: SlottedLink) -> None:
        """Work out slots once all that happens at this instant has happened."""
        state.version += 1
        state.ahead, state.num_slots = None, FEWEST_SLOTS
        version = state.version
        self._clock.after(0, lambda: self._plan(state, version))

    def _plan(self, state: SlottedLink, version: int) -> None:
        """Work out slots to come, to wake up when a payload has arrived or they are over."""
        if version != state.version:
            return
        state.ahead = None
        if not state.active:
            return
        size = len(state.active) * len(self._channel.bandwidths_hz(state.link.name))
        ahead = self._look_ahead(state, max(min(state.num_slots, _MOST_CELLS // size), 1))
        if not any(
            one.sender.failed_in_a_row < GIVEN_UP and any(air.num_blocks)
            for one, air in zip(state.active.values(), ahead.airs, strict=True)
        ):
            return  # nothing more arrives while nothing changes
        state.ahead, state.num_slots = ahead, min(2 * state.num_slots, _MOST_SLOTS)
        self._record_first(state, ahead)
        senders, count = self._sent(state, ahead, ahead.count)
        wake_ns = (state.slot + count) * self._grid.slot_ns

        def wake() -> None:
            if version == state.version:
                self._move(state, ahead, senders, count)
                state.slot += count
                self._finish(state)
                self._plan(state, state.version)

        self._clock.after(wake_ns - self._clock.now, wake)

    def _look_ahead(self, state: SlottedLink, count: int) -> Ahead:
        granted = {
            number: Grant.union([state.granted[one] for one in transfer.members])
            if len(transfer.members) > 1
            else state.granted[number]
            for number, transfer in state.active.items()
        }
        if self._scheduler.keeps_grants:
            granted = self._access.in_use({**state.granted, **granted}, tuple(state.active))
        waiting = [
            Waiting(
                one.members,
                granted[number],
                one.sender.missing,
                one.bits,
                one.asked_ns / NS_PER_S,
                one.mean_rate,
            )
            for number, one in state.active.items()
        ]
        air = self._channel, state.link.name
        of_all = state.granted, state.overlaps
        return look_ahead(self._grid, self._scheduler, *air, waiting, *of_all, state.slot, count)

    def _sent(self, state: SlottedLink, ahead: Ahead, count: int) -> tuple[dict[int, Sender], int]:
        """Return senders after some slots, no more than until the first payload has arrived, and how many."""
        airs = dict(zip(state.active, ahead.airs, strict=True))
        found: dict[int, tuple[Sender, int]] = {}
        for number in sorted(airs, key=lambda one: state.active[one].sender.missing):
            sender = state.active[number].sender.copy()
            last = sender.send(airs[number], count, self._rules)
            count = count if last is None else last + 1
            found[number] = sender, count
        senders = {}
        for number, (sender, until) in found.items():
            if until > count:
                sender = state.active[number].sender.copy()
                sender.send(airs[number], count, self._rules)
            senders[number] = sender
        return senders, count

    def _move(self, state: SlottedLink, ahead: Ahead, senders: Mapping[int, Sender], count: int) -> None:
        """Let some slots be over."""
        for number, sender in senders.items():
            state.active[number].sender = sender
        means = ahead.schedule.mean_rates
        if means is not None:
            for transfer, mean_rate in zip(state.active.values(), means[count - 1].tolist(), strict=True):
                transfer.mean_rate = mean_rate

    def _finish(self, state: SlottedLink) -> None:
        """End the transfers all of which has arrived, at the end of their last slot."""
        ended = [number for number, one in state.active.items() if not one.sender.missing]
        for number in ended:
            transfer = state.active.pop(number)
            state.offsets_db[transfer.members] = transfer.sender.offset_db
            end_ns = state.slot * self._grid.slot_ns
            self._clock.after(end_ns - self._clock.now, transfer.end)
        if ended:
            state.version += 1
            state.ahead, state.num_slots = None, FEWEST_SLOTS

    def _record_first(self, state: SlottedLink, ahead: Ahead) -> None:
        """Write down who has which subchannel in the first of some slots."""
        widths_hz, names = self._channel.bandwidths_hz(state.link.name), list(state.active.values())
        powers = (ahead.psd_w_per_hz[0] * widths_hz).tolist()
        for number, which in enumerate(ahead.schedule.owners[0].tolist()):
            if which >= 0:
                self._record(state, names[which].members[0], [(number, powers[number])])

    def _record(self, state: SlottedLink, client: int, held: Collection[tuple[int, float]]) -> None:
        """Write down the subchannels that change hands or power now."""
        changed = {number: one for number, one in held if state.holders.get(number) != (client, one)}
        if changed:
            state.holders.update({number: (client, one) for number, one in changed.items()})
            numbers, powers = np.array([*changed], dtype=np.int64), np.array([*changed.values()])
            block = self._channel.block_at(self._clock.now)
            gains = self._channel.gains(state.link.name, client, block, 1)[0, numbers]
            at = self._clock.now, self._round, state.link.name, f"client-{client}"
            self._log.add(*at, numbers, powers, gains)
