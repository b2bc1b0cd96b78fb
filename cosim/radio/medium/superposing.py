"""Links that carry sums, in simulated time: who sends at once does so when all are ready."""

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from cosim.kernel.clock import Clock, Steps
from cosim.kernel.job import NEVER_NS
from cosim.kernel.presence import Presence
from cosim.kernel.queue import Queue
from cosim.radio.access import Access
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium import Network
from cosim.radio.medium.delivery import Delivery, Payload
from cosim.radio.medium.draining import Draining
from cosim.record.grants import GrantLog
from cosim.units import NS_PER_S

if TYPE_CHECKING:
    from cosim.radio.medium.over_the_air import OverTheAir


class Superposing(Network):
    """Links that carry sums, and beside them links whose transfers drain."""

    def __init__(
        self,
        clock: Clock,
        channel: Channel,
        access: Access,
        log: GrantLog,
        links: Collection[Link],
        medium: "OverTheAir",
    ) -> None:
        self._clock, self._channel, self._medium = clock, channel, medium
        self._digital = Draining(clock, channel, access, log, links, medium)
        summed = [link.name for link in links if medium.sums(link)]
        self._granted: dict[str, tuple[Mapping[int, Grant], int]] = {}
        self._carries_bits: dict[str, set[int]] = {}  # links with sums that carry bits too, and for whom now
        self._queues = {name: Queue(clock, 1, name) for name in summed}
        self._max_tx_power_w: dict[str, Mapping[int, float]] = {name: {} for name in summed}
        self._num_sent = dict.fromkeys(summed, 0)
        self._servers = {link.name: link.server for link in links}
        self._presence: Presence | None = None

    def grant(self, link: str, granted: Mapping[int, Grant], round_: int) -> None:
        """Let a decision take effect now; for a sum only the powers count."""
        if link in self._queues:
            self._max_tx_power_w[link] = {client: grant.total_tx_power_w for client, grant in granted.items()}
            self._granted[link] = granted, round_
        if link not in self._queues or link in self._carries_bits:
            self._digital.grant(link, granted, round_)

    def follow(self, presence: Presence) -> None:
        """Let those leave of whom this says so; a sum that one of its senders leaves begins again."""
        self._presence = presence
        self._digital.follow(presence)

    def change(self, channel: Channel, access: Access) -> None:
        """Let another channel take over now; a sum in flight stays as it began."""
        self._channel = channel
        self._digital.change(channel, access)

    def send(self, link: str, payloads: Mapping[int, Payload]) -> Steps:
        """Send to or from one client, or from several at once; returns the :class:`Delivery`.

        Bits drain under the grants, on a link with sums too.
        """
        if link not in self._queues:
            return (yield from self._digital.send(link, payloads))
        if not any(one.num_values for one in payloads.values()):
            if link not in self._carries_bits:
                self._carries_bits[link] = set()
                self._digital.grant(link, *self._granted[link])
            self._carries_bits[link].update(payloads)
            return (yield from self._digital.send(link, payloads))
        clock, medium = self._clock, self._medium
        asked_ns, turn = clock.now, self._queues[link].enter()
        after_span = None if turn is None else (yield turn)
        widths_hz = self._channel.bandwidths_hz(link)
        csi = self._channel.radio.csi_of(link)
        pilots_ns = medium.pilots_ns(widths_hz, len(payloads), csi)
        num_values = max(one.num_values for one in payloads.values())
        lasts_ns = medium.summed_ns(widths_hz, num_values, len(payloads), csi)
        summed_j, pilots_j = dict.fromkeys(payloads, 0.0), dict.fromkeys(payloads, 0.0)
        first_ns, away_ns, resent = None, 0, 0.0
        for begin_ns, end_ns in self._attempts(link, payloads, lasts_ns):
            if begin_ns >= NEVER_NS:
                yield clock.event(f"all who send over {link} to be there")
            away_ns += 0 if first_ns is None else begin_ns - clock.now
            yield clock.timeout(begin_ns - clock.now)
            first_ns, number = begin_ns if first_ns is None else first_ns, self._num_sent[link]
            self._num_sent[link], limits_w = number + 1, self._max_tx_power_w[link]
            sent = medium.superposition(self._channel, link, begin_ns + pilots_ns, payloads, limits_w, number)
            yield clock.timeout(end_ns - begin_ns)
            sent_ns = max(end_ns - begin_ns - pilots_ns, 0)
            pilots_s = medium.pilot_s(widths_hz, csi) * min(1.0, (end_ns - begin_ns) / max(pilots_ns, 1))
            for one in payloads:
                summed_j[one] += sent.tx_power_w.get(one, 0.0) * (sent_ns / NS_PER_S)
                pilots_j[one] += limits_w[one] * pilots_s
            resent += sent_ns / (lasts_ns - pilots_ns)
        assert first_ns is not None  # the last attempt is whole
        return Delivery(
            asked_ns,
            first_ns,
            clock.now,
            {one: summed_j[one] + pilots_j[one] for one in payloads},
            {client: client in sent.tx_power_w for client in payloads},
            after_span,
            resent_bits=(resent - 1.0) * max(one.bits for one in payloads.values()),
            distortion=sent.distortion,
            away_ns=away_ns,
            pilot_energy_j=pilots_j,
        )

    def _attempts(self, link: str, clients: Collection[int], lasts_ns: int) -> Iterable[tuple[int, int]]:
        """Return beginning and end of each attempt at a sum that is asked for now, ns."""
        now_ns, edge_ns = self._clock.now, self._medium.symbol_ns
        if self._presence is None:
            begin_ns = now_ns + -now_ns % edge_ns
            return [(begin_ns, begin_ns + lasts_ns)]
        actors = *(f"client-{one}" for one in clients), self._servers[link]
        return self._presence.attempts(actors, now_ns, lasts_ns, edge_ns)

    def reserve(self, links: Collection[str], *, is_reserved: bool) -> None:
        """Reserve links of bits; one that carries sums needs no sounding."""
        self._digital.reserve(links, is_reserved=is_reserved)

    def leave(self, link: str, clients: Collection[int], span: int) -> None:
        """Free the air after a transmission."""
        with_bits = self._carries_bits.get(link, set())
        if link not in self._queues or with_bits.issuperset(clients):
            with_bits.difference_update(clients)
            self._digital.leave(link, clients, span)
        else:
            self._queues[link].leave(span)

    def too_weak(self) -> str | None:
        """Return what to say of a transfer that cannot end; a sum always does."""
        return self._digital.too_weak()
