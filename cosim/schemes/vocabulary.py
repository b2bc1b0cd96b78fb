"""The words that recipes are written in, each a stretch of simulated time: update, collect, broadcast."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from cosim.attendance import Missed
from cosim.graph.node import Node
from cosim.kernel.clock import Steps
from cosim.learning.train_state import LocalRound
from cosim.radio.medium.delivery import Payload
from cosim.transmissions import Outgoing, Sent
from cosim.world import FEDERATED_SERVER, Moment, World


class Averaged(NamedTuple):
    """What the federated server made of what it collected, and the spans that say when it had it."""

    node: Node
    spans: Sequence[int]


def local_update(world: World, learned: LocalRound, round_: int, flop: int, ready: Sequence[int]) -> Steps:
    """Take one client's local steps, a span each; returns the spans that what follows waits for."""
    name = world.client_names[learned.client]
    for number, step in enumerate(learned.steps, start=1):
        at = Moment(round_, number)
        span = yield from world.compute(name, "client_forward_backward", at, flop, step.node, ready)
        if name not in world.attendance.out and world.is_on(learned.client):  # it was cut, or never begun
            world.measure(at, name, "train_loss", step.loss)
        ready = [span]
    return ready


def catch_up(world: World, client: int, moment: Moment, ready: Sequence[int]) -> Steps:
    """Let a client download what it has missed; returns the spans that what follows waits for."""
    for name, one in world.attendance.missed.pop(client, {}).items():
        after = list(dict.fromkeys((*ready, *one.after)))
        sent: Sent = yield from world.send(
            "federated_downlink", client, name, moment, one.bits, one.node, after
        )
        ready = [sent.span]
    return ready


def collect(
    world: World,
    moment: Moment,
    uploads: Steps,
    average: Callable[[Sequence[Sent]], tuple[Node, int]],
    ready: Sequence[int],
) -> Steps:
    """Let uploads arrive, and the federated server make one value of them; returns what it :class:`Averaged`.

    Parameters
    ----------
    uploads
        Returns what was sent, once all of it has arrived.
    average
        Returns the node of what arrived, and the FLOP to decode and average it.
    ready
        What the server waits for where nobody sends anything.
    """
    sent: Sequence[Sent] = yield from uploads
    node, flop = average(sent)
    causes = [one.span for one in sent] or ready
    span = yield from world.compute(FEDERATED_SERVER, "aggregate", moment, flop, node, causes)
    return Averaged(node, [span])


def broadcast(
    world: World,
    moment: Moment,
    average: Averaged,
    bits: Mapping[int, int],
    *,
    is_multicast: bool = False,
    name: str = "adapter_download",
    rebuild_flop: int = 0,
) -> Steps:
    """Let clients download an average, of so many bits each; returns the spans that what follows waits for.

    Parameters
    ----------
    is_multicast
        Whether it is sent once, to all of them.
    name
        Of the spans.
    rebuild_flop
        FLOP by which each restores the average from what it is sent; 0 where it is sent itself.
    """

    def download(client: int) -> Steps:
        size = bits[client]
        sent: Sent = yield from world.send(link, client, name, moment, size, average.node, after)
        if not sent.is_delivered:
            world.attendance.missed.setdefault(client, {})[name] = Missed(size, average.node, after)
            return sent.span
        return (yield from rebuilt(client, sent.span)) if rebuild_flop else sent.span

    def rebuilt(client: int, span: int) -> Steps:
        actor = world.client_names[client]
        computing = world.compute(actor, "rebuild_update", moment, rebuild_flop, average.node, [span])
        return (yield from computing)

    link, after = "federated_downlink", average.spans
    if world.attendance.skips:
        here = list(filter(world.attendance.is_here, bits))
        world.attendance.rejoin(here)
        for client in bits.keys() - set(here):
            world.attendance.missed.setdefault(client, {})[name] = Missed(bits[client], average.node, after)
        bits = {client: bits[client] for client in here}
        if not here:
            return list(after)
    if is_multicast:
        once = Outgoing(Payload(max(bits.values())), average.node, after)
        sent: Sent = yield from world.send_at_once(link, name, moment, dict.fromkeys(bits, once))
        if not rebuild_flop:
            return [sent.span]
        steps = [rebuilt(client, sent.span) for client in bits]
    else:
        steps = [download(client) for client in bits]
    return tuple((yield from world.together(steps, f"{name.replace('_', ' ')} of client")))
