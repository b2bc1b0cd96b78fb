"""What is sent in a run: transmissions over the medium, each with its span and what became of it."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b
from math import fsum
from typing import NamedTuple

from cosim.attendance import Attendance
from cosim.control.decisions import Decisions
from cosim.graph.node import Node
from cosim.kernel.clock import Steps
from cosim.measuring import Moment
from cosim.radio.link import Link
from cosim.radio.medium.delivery import Delivery, Payload, Signalling
from cosim.radio.transport import Journey
from cosim.rng import stream
from cosim.site import Site
from cosim.units import NS_PER_S

LATENCY = "latency"
"""Name of the spans between the last bit of a message on the air and its arrival."""

_AT_ONCE = Journey(0, 0, 0)


class Outgoing(NamedTuple):
    """What one client sends, or is sent, with others: its size, its part in the training, its causes."""

    payload: Payload
    node: Node
    after: Sequence[int]


Arriving = Callable[[Delivery], tuple[Node | None, Delivery]]
"""Returns the node of what arrived, None where it is no single value, and the delivery as values make it."""


def nothing_known(delivery: Delivery) -> tuple[Node | None, Delivery]:
    """Return a delivery as it is, of which each part is a value of its own."""
    return None, delivery


class Sent(NamedTuple):
    """The number of a transfer's span, and what became of the transfer."""

    span: int
    delivery: Delivery

    @property
    def is_delivered(self) -> bool:
        """Whether it arrived, of all who sent it or were sent it."""
        return all(self.delivery.delivered.values())


def _key_of(nodes: Sequence[Node]) -> str:
    """Return the key of values that travel as one: of the only one, else a hash of all keys in order."""
    keys = [node.key for node in nodes]
    if len(set(keys)) == 1:
        return keys[0]
    return blake2b("".join(keys).encode(), digest_size=16).hexdigest()


class Transmissions:
    """Sends over the links of a scheme, and records it.

    Parameters
    ----------
    site
        Clock, log and network.
    decisions
        Who is informed of what came of what was sent, and the channel as it is now.
    links
        What the scheme sends over.
    task
        The name of the task that is recorded.

    Attributes
    ----------
    attendance
        Who of the clients is there, and who is out of this round.
    """

    def __init__(
        self,
        site: Site,
        decisions: Decisions,
        links: Collection[Link],
        task: str,
    ) -> None:
        self.site, self.decisions, self._task = site, decisions, task
        self.clock, self.log, self.network = site.clock, site.log, site.network
        self.client_names = site.client_names
        self._links = {link.name: link for link in links}
        self.attendance = Attendance(site, task)
        self._num_alike = Counter[tuple[str | int, ...]]()

    def is_modelled(self, link: str) -> bool:
        """Return whether what a link carries takes time."""
        return link in self.decisions.channel.modelled

    def loses(self, link: str) -> bool:
        """Return whether what is sent over a link may be lost: by the medium, or as a client stops."""
        one = self._links[link]
        stops = self.attendance.drops or (one.is_uplink and bool(self.site.charges))
        return self.site.medium.loses(one) or stops

    def sums(self, link: str) -> bool:
        """Return whether what clients send over a link at once arrives as a sum."""
        return self.site.medium.sums(self._links[link])

    def signalling(self, link: str) -> Signalling:
        """Return what senders of a sum over a link exchange with the base station before it."""
        num_subchannels = len(self.decisions.channel.bandwidths_hz(link))
        return self.site.medium.signalling(self._links[link], num_subchannels)

    def send(
        self, link: str, client: int, name: str, moment: Moment, bits: int, node: Node, after: Sequence[int]
    ) -> Steps:
        """Send over the air, or at once over a link that is free; returns what was :class:`Sent`."""
        is_modelled, asked_ns = self.is_modelled(link), self.clock.now
        actor, is_uplink = self.client_names[client], self._links[link].is_uplink
        if self.attendance.anybody_leaves:
            if self.attendance.is_out(actor, moment, after):
                lost = Delivery(asked_ns, asked_ns, asked_ns, {client: 0.0}, {client: False})
                return Sent(self.attendance.out[actor], lost)
            yield from self.attendance.until_there((actor, self._links[link].server))
        has_battery = is_uplink and actor in self.site.charges
        is_off = has_battery and not self.site.is_on(client)
        if is_uplink:
            self.decisions.heard.sends(client)
        journey = self._journey(link, [client], name, moment, bits)
        if is_off:  # it stopped in the middle of the round
            is_modelled, journey = False, _AT_ONCE
            delivery = Delivery.at_once(self.clock.now, [client])._replace(delivered={client: False})
        elif is_modelled:
            if self.site.has_several_tasks:
                made_room = yield from self.site.take_turns(link, [client])
                after = (*after, *made_room) if made_room else after
            payload = Payload(bits + journey.overhead_bits + journey.resent_bits)
            delivery = yield from self.network.send(link, {client: payload})
        else:
            delivery = Delivery.at_once(self.clock.now, [client])
        if has_battery and not is_off:
            cost_j = delivery.energy_j[client]
            spent_j = self.site.spend(actor, delivery.start_ns, cost_j)
            if spent_j < cost_j:  # its battery ran empty on the way
                delivery = delivery._replace(energy_j={client: spent_j}, delivered={client: False})
        if is_uplink:
            self._take_in(client, bits, delivery)
        sent_bits = float(bits)
        if delivery.cut_bits is not None:
            sent_bits, journey = delivery.cut_bits, _AT_ONCE
        span = self._add_transfer(
            link,
            actor,
            name,
            moment,
            sent_bits,
            node.key,
            after,
            asked_ns,
            delivery,
            delivery.energy_j[client],
            journey,
            is_delivered=delivery.delivered[client],
        )
        if is_modelled:
            self.network.leave(link, [client], span)
            self.site.give_turns_up(link, [client], span)
        if delivery.cut_bits is not None:
            self.attendance.drop(actor, moment, span)
        if journey.delay_ns:
            span = yield from self._arrive(link, actor, moment, node.key, span, journey)
        return Sent(span, delivery)

    def _journey(self, link: str, clients: Collection[int], name: str, moment: Moment, bits: int) -> Journey:
        """Return what a message needs beyond the airtime of its payload; chance is by what it is."""
        channel = self.decisions.channel
        transport = channel.transports.get(link)
        if transport is None:
            return _AT_ONCE
        named: tuple[str | int, ...] = (
            "transport",
            link,
            self._task,
            name,
            moment.round,
            moment.local_step,
            *clients,
        )
        self._num_alike[named] += 1
        chance = stream(channel.air_seed, *named, self._num_alike[named])
        return transport.journey(bits, chance, len(clients))

    def _arrive(
        self,
        link: str,
        client: str,
        moment: Moment,
        node: str,
        sent: int,
        journey: Journey,
        participants: Sequence[str] = (),
    ) -> Steps:
        """Wait until a message is there whose last bit was sent; returns the number of the span."""
        now_ns = self.clock.now
        yield self.clock.timeout(journey.delay_ns)
        at = Delivery(now_ns, now_ns, self.clock.now, {}, {})
        return self._add_transfer(
            *(link, client, LATENCY, moment, 0, node, [sent], now_ns, at, 0.0, _AT_ONCE),
            is_delivered=True,
            participants=participants,
        )

    def _take_in(self, client: int, bits: int, delivery: Delivery) -> None:
        """Let the allocator know what came of what a client sent."""
        energy_j, is_delivered = delivery.energy_j[client], delivery.delivered[client]
        airtime_ns = delivery.end_ns - delivery.start_ns
        self.decisions.heard.sent(client, bits, airtime_ns, energy_j, is_delivered=is_delivered)

    def send_at_once(
        self,
        link: str,
        name: str,
        moment: Moment,
        outgoing: Mapping[int, Outgoing],
        arriving: Arriving = nothing_known,
    ) -> Steps:
        """Send from several clients, or to several, in one transmission, now that the last of them is ready.

        Returns what was :class:`Sent`. It is one span, of which these clients are the
        participants; its causes are those of all of them, each once and in their order.
        What each sender radiated is recorded as ``tx_energy_j``.

        Parameters
        ----------
        outgoing
            By client what it sends, or is sent: as many bits for each.
        arriving
            Says what arrived, and what was radiated where that depends on values.

        Raises
        ------
        ValueError
            If payloads are not equally large.
        """
        asked_ns = self.clock.now
        names = [self.client_names[client] for client in outgoing]
        yield from self.attendance.until_there((*names, self._links[link].server))
        sizes = {one.payload.bits for one in outgoing.values()}
        if len(sizes) != 1:
            raise ValueError(f"{name}: one transmission has one size, and payloads have {sorted(sizes)} bits")
        (bits,), is_modelled, is_uplink = sizes, self.is_modelled(link), self._links[link].is_uplink
        for client in outgoing if is_uplink else ():
            self.decisions.heard.sends(client)
        journey = self._journey(link, outgoing, name, moment, bits)
        made_room: Sequence[int] = ()
        if is_modelled:
            if self.site.has_several_tasks:
                made_room = yield from self.site.take_turns(link, outgoing)
            more = journey.overhead_bits + journey.resent_bits
            payloads = {client: one.payload for client, one in outgoing.items()}
            if more:
                payloads = {client: one._replace(bits=bits + more) for client, one in payloads.items()}
            delivery: Delivery = yield from self.network.send(link, payloads)
        else:
            delivery = Delivery.at_once(self.clock.now, outgoing)
        arrived, delivery = arriving(delivery)
        for client, sender in zip(outgoing, names, strict=True) if is_uplink else ():
            self._take_in(client, bits, delivery)
            at, radiated_j = (delivery.end_ns, moment.round, moment.local_step), delivery.energy_j[client]
            self.log.metrics.add(*at, sender, "tx_energy_j", radiated_j, task=self._task)
        fates = delivery.delivered.values()
        span = self._add_transfer(
            *(link, "", name, moment, bits),
            _key_of([one.node for one in outgoing.values()] if arrived is None else [arrived]),
            tuple(dict.fromkeys((*(cause for one in outgoing.values() for cause in one.after), *made_room))),
            *(asked_ns, delivery, fsum(delivery.energy_j.values()), journey),
            # of a sum any part of it, what is sent to several to all of them
            is_delivered=any(fates) if is_uplink else all(fates),
            participants=names,
        )
        if is_modelled:
            self.network.leave(link, list(outgoing), span)
            self.site.give_turns_up(link, outgoing, span)
        if journey.delay_ns:
            key = next(iter(outgoing.values())).node.key
            span = yield from self._arrive(link, "", moment, key, span, journey, names)
        return Sent(span, delivery)

    def _add_transfer(
        self,
        link: str,
        client: str,
        name: str,
        moment: Moment,
        bits: float,
        node: str,
        after: Sequence[int],
        asked_ns: int,
        delivery: Delivery,
        energy_j: float,
        journey: Journey,
        *,
        is_delivered: bool,
        participants: Sequence[str] = (),
    ) -> int:
        """Record a transmission and return the number of its span; ``client`` is empty where several are."""
        one = self._links[link]
        actor, peer = (client, one.server) if one.is_uplink else (one.server, client)
        if delivery.measures or delivery.away_ns or journey.overhead_bits:
            self._add_measures(client or name, moment, delivery, journey)
        return self.log.spans.add(
            after,
            "transfer",
            name,
            actor,
            peer,
            moment.round,
            moment.local_step,
            asked_ns,
            delivery.start_ns,
            delivery.end_ns,
            bits,
            0,
            energy_j,
            node,
            task=self._task,
            delivered=is_delivered,
            resent_bits=delivery.resent_bits + journey.resent_bits,
            participants=participants,
            made_room=delivery.after_span,
        )

    def _add_measures(self, who: str, moment: Moment, delivery: Delivery, journey: Journey) -> None:
        """Record what else few transmissions have."""
        measures = dict(delivery.measures)
        if delivery.away_ns:
            measures["away_s"] = delivery.away_ns / NS_PER_S
        if journey.overhead_bits:
            measures["overhead_bits"] = float(journey.overhead_bits)
        for measure, value in measures.items():
            at = delivery.end_ns, moment.round, moment.local_step
            self.log.metrics.add(*at, who, measure, value, task=self._task)
