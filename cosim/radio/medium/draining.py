"""Transfers that drain at the rate of their grants, link by link, in simulated time."""

from collections.abc import Collection, Mapping
from functools import partial

from simpy.events import Event

from cosim.errors import ScenarioError
from cosim.kernel.clock import Clock, Steps
from cosim.kernel.job import NEVER_NS, ConstantRate, Job, Rate
from cosim.kernel.presence import MOST_CUTS, Comings, Presence
from cosim.radio.access import Access
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant, overlap
from cosim.radio.link import Link
from cosim.radio.medium import Medium, Network, rate_of
from cosim.radio.medium.delivery import Delivery, Payload
from cosim.radio.medium.last_sent import LastSent
from cosim.radio.medium.open_link import OpenLink, Transfer, Waiting
from cosim.radio.medium.outage import fails, is_silent
from cosim.radio.medium.recording import Recording
from cosim.record.grants import GrantLog
from cosim.units import NS_PER_S


class Draining(Network):
    """Links whose transfers drain.

    A transfer begins when every subchannel of its grant is free; where grants
    overlap, transfers are served first come first served. Each subchannel has
    one sender at a time.

    Parameters
    ----------
    clock, channel, access
        Simulated time, the channel, and how senders share grants.
    log
        Takes a row whenever a subchannel changes hands or power.
    links
        The links there are.
    medium
        Says at which rate they drain, and whether they may be lost.
    """

    def __init__(
        self,
        clock: Clock,
        channel: Channel,
        access: Access,
        log: GrantLog,
        links: Collection[Link],
        medium: Medium,
    ) -> None:
        self._clock = clock
        self._channel = channel
        self._access = access
        self._recording = Recording(log)
        self._medium = medium
        self._links = {link.name: OpenLink(link) for link in links}
        self._last_sent = LastSent()
        self._presence: Presence | None = None

    def follow(self, presence: Presence) -> None:
        """Let transfers pause, begin again or be given up when somebody they need leaves."""
        self._presence = presence

    def grant(self, link: str, granted: Mapping[int, Grant], round_: int) -> None:
        """Let a decision take effect now; transfers in flight go on under their new grant.

        Where new grants of two transfers in flight overlap, the one that began
        later pauses until its subchannels are free.
        """
        state = self._links[link]
        self._recording.round_ = round_
        self._reuse(state, granted)
        for number, members in state.groups.items():
            state.granted[number] = Grant.union([state.granted[one] for one in members])
        state.rates.clear()
        self._admit_again(state)
        single = {client: state.granted[client] for client in granted}
        state.overlaps = overlap(state.numbers(client, grant) for client, grant in single.items())
        if not state.overlaps:
            self._recording.take(state, single, self._channel, self._clock.now)
        self._rate(state, tuple(state.active))
        self._let_in(state, None)
        self._release(state)

    def _reuse(self, state: OpenLink, granted: Mapping[int, Grant]) -> None:
        """Take grants in; where cells reuse the band each client may have more, and cells do not wait."""
        interference, state.granted = self._channel.radio.interference, dict(granted)
        if interference.reuses:
            state.num_subchannels = len(self._channel.bandwidths_hz(state.name))
            state.cells = self._channel.large_scale_at(self._clock.now).serving[0]
            state.granted = dict(interference.reused(granted, state.cells))

    def _admit_again(self, state: OpenLink) -> None:
        """Let those in flight go on whose subchannels are free; the others pause, and are next."""
        in_flight, state.admitted, state.busy = list(state.admitted), {}, set()
        in_the_way = [client for client in in_flight if not state.admit(client)]
        for client in in_the_way:
            self._pause(state, client)
        state.waiting.extendleft(map(Waiting, reversed(in_the_way)))

    def reserve(self, links: Collection[str], *, is_reserved: bool) -> None:
        """Pause all transfers of these links and let none begin, until they are free again."""
        for name in links:
            state = self._links[name]
            state.is_reserved = is_reserved
            if is_reserved:
                self._admit_again(state)
                self._release(state)
            else:
                self._let_in(state, None)

    def change(self, channel: Channel, access: Access) -> None:
        """Let another channel take over now; :meth:`grant` must follow for every link that is sent over."""
        for state in self._links.values():
            for client, transfer in state.active.items():
                self._account(state, client, transfer)  # by the channel that it crossed
        self._channel, self._access = channel, access

    def send(self, link: str, payloads: Mapping[int, Payload]) -> Steps:
        """Send from one client, or to one or several; returns the :class:`Delivery`.

        What several receive is sent once, on the subchannels of all of them, at the
        rate of the weakest in every block.

        Raises
        ------
        ValueError
            If several send at once: here each has a transmission of its own.
        """
        clock, state = self._clock, self._links[link]
        if state.link.is_uplink and len(payloads) > 1:
            raise ValueError(f"{link}: {len(payloads)} clients send at once, and this medium adds nothing")
        client, bits = state.join(tuple(payloads)), max([one.bits for one in payloads.values()])
        asked_ns = clock.now
        after_span = None
        if state.overlaps or state.has_waiting(client) or not state.admit(client):
            turn = clock.event(f"free subchannels on {link}")
            was_free = not state.has_waiting(client) and state.has_free(client)
            state.line_up(Waiting(client, turn, asked_ns, was_free))
            if was_free:
                self._let_in_at_end(state)
            after_span = yield turn
        silent = self._medium.is_silent_in_outage and is_silent(
            self._medium, self._channel, state.link, client, state.granted[client], clock.now
        )
        transfer = Transfer(
            Job(clock, 0 if silent else bits, f"{bits} bits of {_names(state.members(client))} on {link}"),
            since_ns=clock.now,
            is_lost=silent,
        )
        if client in state.admitted:
            self._begin(state, client, transfer)
        else:  # a new decision came between its turn and now
            state.paused[client] = transfer
        start_ns = clock.now
        yield transfer.job.done
        self._account(state, client, transfer)
        num_sent = 1
        most = 1 if silent else self._medium.num_attempts
        while transfer.is_lost and transfer.cut_bits is None and num_sent < most:
            num_sent += 1
            transfer.is_lost, transfer.job = False, Job(clock, bits, transfer.job.name)
            if client in state.active:
                self._rate(state, (client,))
            yield transfer.job.done
            self._account(state, client, transfer)
        return Delivery(
            asked_ns,
            start_ns,
            clock.now,
            dict.fromkeys(
                payloads, self._energy_j(state, client, transfer, num_sent * bits, start_ns) / len(payloads)
            ),
            dict.fromkeys(payloads, not transfer.is_lost),
            after_span,
            transfer.resent_bits + (num_sent - 1) * bits,
            cut_bits=transfer.cut_bits,
            away_ns=transfer.away_ns,
        )

    def leave(self, link: str, clients: Collection[int], span: int) -> None:
        """Free the air after a transfer, recorded as ``span``, for those who wait."""
        state, members = self._links[link], tuple(clients)
        client = members[0]
        if len(members) > 1:
            client = next(one for one in (*state.active, *state.paused) if state.members(one) == members)
        if client in state.admitted:
            del state.active[client]
            state.dismiss(client)
        else:  # it ended in the very instant in which it had to pause
            del state.paused[client]
            for one in [one for one in state.waiting if one.client == client and one.turn is None]:
                state.waiting.remove(one)
        state.part(client)
        if self._changes_in_flight(state):
            self._rate(state, tuple(state.active))
        if state.overlaps:  # who asks at this instant may come before who has asked
            state.made_room = span
            self._let_in_at_end(state)
        else:
            self._let_in(state, span)

    def _changes_in_flight(self, state: OpenLink) -> bool:
        """Return whether one transfer's beginning or end changes the rates of others."""
        return self._access.changes_in_flight or state.cells is not None

    def too_weak(self) -> str | None:
        """Return what to say of the transfer of least rate, once none of those on the air can end."""
        channel, now_ns = self._channel, self._clock.now
        if channel.radio.trace is not None and channel.radio.trace.why_over is not None:
            return channel.radio.trace.why_over
        found: list[tuple[float, str]] = []
        for state in self._links.values():
            in_use = self._access.in_use(state.granted, tuple(state.active))
            for client, transfer in state.active.items():
                grant = in_use[client]
                numbers, powers, split_hz = grant.subchannels, grant.tx_power_w, grant.bandwidths_hz
                widths = [None] * len(numbers) if split_hz is None else split_hz.tolist()
                block = channel.block_at(now_ns)
                rates = {
                    one: float(channel.rates(state.name, one, numbers, powers, block, 1, split_hz)[0])
                    for one in state.members(client)
                }
                client = min(rates, key=rates.__getitem__)
                rate = rates[client]
                best_db = max(
                    channel.budget(state.name, client, number, power, now_ns, width).snr_db
                    for number, power, width in zip(numbers.tolist(), powers.tolist(), widths, strict=True)
                )
                what = (
                    f"client-{client}: {state.name} is too weak for {transfer.job.amount} bits: "
                    f"{grant.total_tx_power_w:.3g} W on {len(numbers)} subchannel(s) make an SNR of "
                    f"{best_db:.4g} dB on the best of them and {rate:.3g} bit/s, so they would never arrive; "
                    "give it more power or bandwidth, less noise, or a place nearer by."
                )
                found.append((rate, what))
        return min(found)[1] if found else None

    def _let_in_at_end(self, state: OpenLink) -> None:
        """Let those in whose turn has come, when everybody who asks at this instant has."""

        def let_in(_event: Event) -> None:
            span, state.made_room, state.is_due = state.made_room, None, False
            self._let_in(state, span)

        if not state.is_due:
            state.is_due = True
            self._clock.end_of_instant().callbacks.append(let_in)

    def _let_in(self, state: OpenLink, span: int | None) -> None:
        """Let those begin, or go on, whose turn has come; ``span`` made room for them."""
        if state.cells is None:
            while state.waiting and state.admit(state.waiting[0].client):
                self._enter(state, state.waiting.popleft(), span)
            return
        blocked = set[int]()
        for one in list(state.waiting):
            cell = state.cell(one.client)
            if cell in blocked or not state.admit(one.client):
                blocked.add(cell)
                continue
            state.waiting.remove(one)
            self._enter(state, one, span)

    def _enter(self, state: OpenLink, one: Waiting, span: int | None) -> None:
        """Let one begin, or go on, that has its subchannels."""
        if one.turn is not None:
            one.turn.succeed(None if one.was_free and one.asked_ns == self._clock.now else span)
        elif one.client in state.paused:
            self._begin(state, one.client, state.paused.pop(one.client))

    def _begin(self, state: OpenLink, client: int, transfer: Transfer) -> None:
        """Let a transfer drain from now on."""
        state.active[client] = transfer
        transfer.version += 1
        leaving = None
        if self._presence is not None:
            leaving = self._presence.first_leaving(self._actors(state, client), self._clock.now)
        transfer.until_ns = NEVER_NS if leaving is None else leaving[0]
        self._rate(state, tuple(state.active) if self._changes_in_flight(state) else (client,))
        if leaving is not None:
            leave = partial(self._leaves, state, client, transfer, transfer.version, leaving[1])
            self._clock.after(leaving[0] - self._clock.now, leave)

    def _actors(self, state: OpenLink, client: int) -> tuple[str, ...]:
        """Return whom a transfer needs: its clients, and the server."""
        return (*(f"client-{one}" for one in state.members(client)), state.link.server)

    def _leaves(self, state: OpenLink, client: int, transfer: Transfer, version: int, who: Comings) -> None:
        """Cut a transfer, as somebody it needs leaves."""
        if transfer.version != version or transfer.job.done.triggered or transfer.job.is_through:
            return
        transfer.num_cuts += 1
        if transfer.num_cuts > MOST_CUTS:
            raise ScenarioError(who.never_ends(f"the transfer of {transfer.job.amount} bits on {state.name}"))
        if who.on_leave == "drop":
            transfer.is_lost, transfer.cut_bits = True, float(transfer.job.give_up())
            return
        if who.on_leave == "restart":
            transfer.resent_bits += float(transfer.job.restart())
        self._pause(state, client)
        self._recording.let_go(state, client, self._clock.now)
        state.dismiss(client)
        if self._changes_in_flight(state):
            self._rate(state, tuple(state.active))
        self._let_in(state, None)
        assert self._presence is not None
        now_ns = self._clock.now
        back_ns = self._presence.back_ns(self._actors(state, client), now_ns)
        if back_ns < NEVER_NS:
            transfer.away_ns += back_ns - now_ns
            self._clock.after(back_ns - now_ns, partial(self._comes_back, state, client, transfer))

    def _comes_back(self, state: OpenLink, client: int, transfer: Transfer) -> None:
        """Let a transfer go on, or wait for its subchannels, as all it needs are there."""
        if state.has_waiting(client) or not state.admit(client):
            state.line_up(Waiting(client, None, self._clock.now))
        else:
            self._begin(state, client, state.paused.pop(client))

    def _release(self, state: OpenLink) -> None:
        """Let go of the subchannels that their last owner has lost to nobody by a new decision."""
        in_use = {**state.granted, **self._access.in_use(state.granted, tuple(state.active))}
        self._recording.release(state, in_use, self._clock.now)

    def _pause(self, state: OpenLink, client: int) -> None:
        """Stop a transfer that is in the way of another."""
        transfer = state.active.pop(client, None)
        if transfer is not None:
            transfer.version += 1
            self._account(state, client, transfer)
            transfer.grant = None
            transfer.job.drain(ConstantRate(0.0))
            state.paused[client] = transfer

    def _account(self, state: OpenLink, client: int, transfer: Transfer) -> None:
        """Count the energy since it was last counted, and see whether the channel carried what was sent."""
        grant, since_ns, now_ns = transfer.grant, transfer.since_ns, self._clock.now
        transfer.since_ns = now_ns
        if grant is None:
            return
        open_ns = self._channel.radio.duplex.open_ns(since_ns, now_ns, is_uplink=state.link.is_uplink)
        transfer.energy_j += grant.total_tx_power_w * open_ns / NS_PER_S
        if open_ns and self._medium.loses(state.link):
            channel = transfer.channel or self._channel
            transfer.is_lost |= fails(self._medium, channel, state.link, client, grant, since_ns, now_ns)

    def _energy_j(self, state: OpenLink, client: int, transfer: Transfer, bits: int, start_ns: int) -> float:
        """Return what a transfer that ends now has cost, J."""
        if not state.link.is_uplink or not transfer.job.amount:
            return transfer.energy_j
        sent_bits = (bits if transfer.cut_bits is None else transfer.cut_bits) + transfer.resent_bits
        costs, end_ns, away_ns = self._channel.radio.uplink_energy, self._clock.now, transfer.away_ns
        return self._last_sent.total_j(costs, client, transfer.energy_j, sent_bits, start_ns, end_ns, away_ns)

    def _rate(self, state: OpenLink, clients: tuple[int, ...]) -> None:
        """Give these transfers the rate of the grants in use now."""
        if not clients:
            return
        concerned = tuple(state.active) if self._changes_in_flight(state) else clients
        in_use = self._access.in_use(state.granted, concerned)
        changed = {client: in_use[client] for client in clients}
        self._recording.take(state, changed, self._channel, self._clock.now)
        heard = self._heard(state, in_use)
        for client in clients:
            transfer, grant = state.active[client], in_use[client]
            self._account(state, client, transfer)
            transfer.grant, transfer.channel = grant, heard.get(client, self._channel)
            rate = self._rate_of(state, client, grant, transfer.channel)
            transfer.job.drain(rate, transfer.until_ns)

    def _heard(self, state: OpenLink, in_use: Mapping[int, Grant]) -> dict[int, Channel]:
        """Return the channel of each transfer with who sends in other cells; empty where nobody is heard."""
        channel = self._channel
        if state.cells is None:
            return {}
        gains = channel.large_scale_at(self._clock.now).station_gains[0]
        widths_hz, is_uplink = channel.bandwidths_hz(state.name), state.link.is_uplink
        heard = channel.radio.interference.heard
        psds = heard(in_use, state.cells, gains, widths_hz, is_uplink=is_uplink)
        return {client: channel.hearing(psd) for client, psd in psds.items()}

    def _rate_of(self, state: OpenLink, client: int, grant: Grant, channel: Channel) -> Rate:
        """Return the rate of a grant; a client's own grant is looked up once, unless others are heard."""
        own = grant is state.granted[client] and state.cells is None
        if own and client in state.rates:
            return state.rates[client]
        rate = rate_of(self._medium, channel, state.link, state.members(client), grant)
        if own:
            state.rates[client] = rate
        return rate


def _names(clients: Collection[int]) -> str:
    return " and ".join([f"client-{client}" for client in clients])
