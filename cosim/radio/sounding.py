"""Soundings: pilots and reports that take the air, so that a channel is known when a decision is taken."""

from collections.abc import Callable, Collection, Sequence

from simpy.events import Event

from cosim.kernel.clock import Clock, Steps
from cosim.radio.duplex import Duplex
from cosim.radio.knowledge import Sounding
from cosim.radio.link import Link
from cosim.radio.medium import Network
from cosim.radio.uplink_energy import UplinkEnergy
from cosim.record.log import SpanLog
from cosim.units import NS_PER_S, Floats

PILOTS = "pilots"
"""Name of the spans of pilots."""

CSI_REPORT = "csi_report"
"""Name of the spans in which clients report what they know of the channel."""


class Soundings:
    """The soundings of a cell, one at a time; who asks while one is under way waits for it and shares it.

    Parameters
    ----------
    clock, spans, network
        Simulated time, the log, and the air.
    client_names
        Of all clients.
    links
        The links there are.
    spend
        Takes who spent energy, since when and how much, and returns what there was of it, J.
    """

    def __init__(
        self,
        clock: Clock,
        spans: SpanLog,
        network: Network,
        client_names: Sequence[str],
        links: Collection[Link],
        spend: Callable[[str, int, float], float],
    ) -> None:
        self._clock, self._spans, self._network = clock, spans, network
        self._client_names, self._links = client_names, {link.name: link for link in links}
        self._spend = spend
        self._under_way: Event | None = None

    def sound(
        self,
        soundings: Sequence[Sounding],
        clients: Sequence[int],
        powers_w: Callable[[str], Floats],
        costs: UplinkEnergy,
        duplex: Duplex,
        round_: int,
        task: str,
    ) -> Steps:
        """Sound some links; returns when it began, ns, and its last spans.

        Links are sounded side by side. Nobody sends anything else over them, nor over the uplinks
        that reports take, until all are done.

        Parameters
        ----------
        clients
            Who is sounded, in this order.
        powers_w
            Returns what each client sends over a link with alone, or is sent, W, shape (num_clients,).
        costs
            What sending costs a client beyond what it radiates.
        duplex
            Which time it takes.
        round_, task
            Recorded with the spans.
        """
        if self._under_way is not None:
            return (yield self._under_way)
        clock, network = self._clock, self._network
        self._under_way = ended = clock.event("the end of a sounding")
        began_ns = clock.now
        busy = list(dict.fromkeys(name for one in soundings for name in (one.link, self._uplink(one.link))))
        network.reserve(busy, is_reserved=True)
        steps = [self._link(one, clients, powers_w, costs, duplex, round_, task) for one in soundings]
        started = [clock.process(one, f"sounding {number}") for number, one in enumerate(steps)]
        yield clock.all_of(started)
        spans = [one.value for one in started]
        self._under_way = None
        network.reserve(busy, is_reserved=False)
        ended.succeed((began_ns, spans))
        return began_ns, spans

    def _uplink(self, name: str) -> str:
        """Return the uplink to the server of a link; the link itself where there is none."""
        link = self._links[name]
        up = (one.name for one in self._links.values() if one.is_uplink and one.server == link.server)
        return name if link.is_uplink else next(up, name)

    def _link(
        self,
        one: Sounding,
        clients: Sequence[int],
        powers_w: Callable[[str], Floats],
        costs: UplinkEnergy,
        duplex: Duplex,
        round_: int,
        task: str,
    ) -> Steps:
        """Let the pilots of one link be sent, then the reports; returns the last span."""
        clock, spans, names = self._clock, self._spans, self._client_names
        server, last = self._links[one.link].server, list[int]()
        pilots = clients if one.is_uplink else clients[:1]
        sent = [
            *((PILOTS, client, one.pilots_ns, 0) for client in pilots if one.pilots_ns),
            *((CSI_REPORT, client, one.report_ns, one.report_bits) for client in clients if one.report_ns),
        ]
        for name, client, lasts_ns, bits in sent:
            is_down = name == PILOTS and not one.is_uplink
            slots, start_ns = duplex.slots(is_uplink=not is_down), clock.now
            yield clock.timeout(lasts_ns if slots is None else slots.after_ns(start_ns, lasts_ns) - start_ns)
            power_w = powers_w(one.link if is_down else self._uplink(one.link))[client]
            energy_j = float(power_w) * lasts_ns / NS_PER_S
            ends, everybody = (names[client], server), list[str]()
            if is_down:
                ends, everybody = (server, ""), [names[each] for each in clients]
            else:
                energy_j = self._spend(names[client], start_ns, costs.total_j(energy_j, bits, lasts_ns, None))
            times = start_ns, start_ns, clock.now
            last = [
                spans.add(
                    *(last, "transfer", name, *ends, round_, 0, *times, bits, 0, energy_j, ""),
                    task=task,
                    participants=everybody,
                )
            ]
        return last[0]
