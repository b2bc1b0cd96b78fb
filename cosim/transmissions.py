"""What is sent in a run: transmissions over the medium, each with its span and what became of it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from math import fsum
from typing import NamedTuple

from cosim.control.decisions import Decisions
from cosim.graph.node import Node
from cosim.kernel.clock import Steps
from cosim.measuring import Moment
from cosim.radio.link import Link
from cosim.radio.medium import Delivery, Payload, Signalling
from cosim.site import Site


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

    def is_modelled(self, link: str) -> bool:
        """Return whether what a link carries takes time."""
        return link in self.decisions.channel.modelled

    def loses(self, link: str) -> bool:
        """Return whether what is sent over a link may be lost."""
        return self.site.medium.loses(self._links[link])

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
        is_modelled, now_ns = self.is_modelled(link), self.clock.now
        self._begin_sending(link, [client])
        if is_modelled:
            made_room = yield from self.site.take_turns(link, [client])
            delivery: Delivery = yield from self.network.send(link, {client: Payload(bits)})
            after = (*after, *made_room) if made_room else after
        else:
            delivery = Delivery.at_once(now_ns, [client])
        self._take_in(link, client, bits, delivery)
        span = self._add_transfer(
            *(link, self.client_names[client], name, moment, bits, node.key, after, now_ns, delivery),
            delivery.energy_j[client],
            is_delivered=delivery.delivered[client],
        )
        if is_modelled:
            self.network.leave(link, [client], span)
            self.site.give_turns_up(link, [client], span)
        return Sent(span, delivery)

    def _begin_sending(self, link: str, clients: Iterable[int]) -> None:
        for client in clients if self._links[link].is_uplink else ():
            self.decisions.heard.sends(client)

    def _take_in(self, link: str, client: int, bits: int, delivery: Delivery) -> None:
        """Let the allocator know what came of what a client sent."""
        if self._links[link].is_uplink:
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
        sizes = {one.payload.bits for one in outgoing.values()}
        if len(sizes) != 1:
            raise ValueError(f"{name}: one transmission has one size, and payloads have {sorted(sizes)} bits")
        (bits,), is_modelled = sizes, self.is_modelled(link)
        self._begin_sending(link, outgoing)
        asked_ns, made_room = self.clock.now, ()
        if is_modelled:
            made_room = yield from self.site.take_turns(link, outgoing)
            payloads = {client: one.payload for client, one in outgoing.items()}
            delivery: Delivery = yield from self.network.send(link, payloads)
        else:
            delivery = Delivery.at_once(self.clock.now, outgoing)
        arrived, delivery = arriving(delivery)
        is_uplink, names = self._links[link].is_uplink, [self.client_names[client] for client in outgoing]
        for client, sender in zip(outgoing, names, strict=True) if is_uplink else ():
            self._take_in(link, client, bits, delivery)
            at, radiated_j = (delivery.end_ns, moment.round, moment.local_step), delivery.energy_j[client]
            self.log.metrics.add(*at, sender, "tx_energy_j", radiated_j, task=self._task)
        fates = delivery.delivered.values()
        span = self._add_transfer(
            *(link, "", name, moment, bits),
            _key_of([one.node for one in outgoing.values()] if arrived is None else [arrived]),
            tuple(dict.fromkeys((*(cause for one in outgoing.values() for cause in one.after), *made_room))),
            *(asked_ns, delivery, fsum(delivery.energy_j.values())),
            # of a sum any part of it, what is sent to several to all of them
            is_delivered=any(fates) if is_uplink else all(fates),
            participants=names,
        )
        if is_modelled:
            self.network.leave(link, list(outgoing), span)
            self.site.give_turns_up(link, outgoing, span)
        return Sent(span, delivery)

    def _add_transfer(
        self,
        link: str,
        client: str,
        name: str,
        moment: Moment,
        bits: int,
        node: str,
        after: Sequence[int],
        asked_ns: int,
        delivery: Delivery,
        energy_j: float,
        *,
        is_delivered: bool,
        participants: Sequence[str] = (),
    ) -> int:
        """Record a transmission and return the number of its span; ``client`` is empty where several are."""
        ends = (client, self._links[link].server)
        actor, peer = ends if self._links[link].is_uplink else ends[::-1]
        for measure, value in delivery.measures.items():
            at = delivery.end_ns, moment.round, moment.local_step
            self.log.metrics.add(*at, client or name, measure, value, task=self._task)
        return self.log.spans.add(
            after if delivery.after_span is None else (*after, delivery.after_span),
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
            resent_bits=delivery.resent_bits,
            participants=participants,
        )
