"""One cell, alive: what the tasks of a run share. The clock, the log, devices with their queues, the air."""

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache, partial
from math import ceil

from cosim.compute.battery import Battery, Charge
from cosim.compute.device import Device
from cosim.control.conditions import Conditions
from cosim.errors import ScenarioError, StalledError
from cosim.kernel.clock import Clock, Steps
from cosim.kernel.presence import Presence
from cosim.kernel.queue import Queue
from cosim.parts import LONGEST_S
from cosim.radio.link import Link
from cosim.radio.medium import Medium
from cosim.radio.sounding import Soundings
from cosim.record.log import Log
from cosim.units import NS_PER_S

_COSTS = 4096  # of computations that are kept


class Site:
    """The devices and the air of one run.

    Whose turn it is on a device, and on the grant of a client, goes by order of arrival,
    whichever task asks.

    Parameters
    ----------
    clients, servers
        The devices.
    medium, links
        What the air does with a transmission, and what is sent over.
    conditions
        The channel and the rest at the beginning.
    presence
        When clients and servers are there; None where all always are.
    batteries
        Of each client, None where it has none; empty where nobody has.

    Attributes
    ----------
    devices, queues
        By name, in the order of clients and servers.
    network
        The medium alive.
    charges
        The batteries under way, by the client's name.
    soundings
        What goes over the air so that the channel is known.
    cost
        Returns how long a device takes to compute something, ns, and what it costs, J: see :meth:`_cost`.
    """

    def __init__(
        self,
        clients: Sequence[Device],
        servers: Sequence[Device],
        medium: Medium,
        links: Collection[Link],
        conditions: Conditions,
        presence: Presence | None = None,
        batteries: Sequence[Battery | None] = (),
    ) -> None:
        self.clock, self.log, self.medium = Clock(), Log(), medium
        self.client_names = self.log.clients = tuple(device.name for device in clients)
        self.devices = {device.name: device for device in (*clients, *servers)}
        names = {device.name for device in servers}  # of what several clients can ask at one instant
        self.queues = {
            name: Queue(self.clock, device.queue_capacity, name, is_shared=name in names)
            for name, device in self.devices.items()
        }
        channel, access = conditions.channel, conditions.access
        self.network = medium.open(self.clock, channel, access, self.log.grants, links)
        self.charges = {
            name: Charge(battery)
            for name, battery in zip(self.client_names, batteries, strict=False)
            if battery is not None
        }
        self.soundings = Soundings(
            self.clock, self.log.spans, self.network, self.client_names, links, self.spend
        )
        self.cost = lru_cache(_COSTS)(self._cost)  # nearly all that a device computes it does again and again
        self.presence = presence
        if presence is not None:
            self.network.follow(presence)
        self._turns: dict[tuple[str, int], Queue] = {}
        self._followers: list[Callable[[Conditions], None]] = []

    def _cost(self, actor: str, flop: int, name: str) -> tuple[int, float]:
        """Return how long an actor takes to compute so many FLOP under a name, ns, and what it costs, J."""
        device = self.devices[actor]
        return device.duration_ns(flop, name), device.energy_j(flop, name)

    def join(self, follow: Callable[[Conditions], None]) -> None:
        """Let a task take part, which is called whenever other conditions hold."""
        self._followers.append(follow)

    def change_at(self, at_ns: int, conditions: Conditions) -> None:
        """Let other conditions hold from an instant on."""
        self.clock.after(at_ns, partial(self._change, conditions))

    def _change(self, conditions: Conditions) -> None:
        self.network.change(conditions.channel, conditions.access)
        for follow in self._followers:
            follow(conditions)

    def is_on(self, client: int) -> bool:
        """Return whether a client has been on since it was let in; one without a battery always is."""
        charge = self.charges.get(self.client_names[client])
        if charge is None:
            return True
        charge.draw(self.clock.now)
        return not charge.is_out

    def let_in(self, client: int) -> bool:
        """Let a client begin with a round, if it is on now; returns whether it is."""
        charge = self.charges.get(self.client_names[client])
        if charge is None:
            return True
        charge.draw(self.clock.now)
        charge.is_out = not charge.is_on
        return charge.is_on

    def spend(self, name: str, start_ns: int, energy_j: float) -> float:
        """Draw what a piece of work cost that ends now; returns what its battery had of it, J."""
        charge = self.charges.get(name)
        if charge is None:
            return energy_j
        charge.draw(start_ns)
        return charge.draw(self.clock.now, energy_j)

    def wait_for_power(self) -> Steps:
        """Wait until any client is on, unless none ever is."""
        names = enumerate(self.client_names)
        off_s = [0.0 if self.let_in(client) else self.charges[name].off_s for client, name in names]
        if 0.0 < min(off_s) < LONGEST_S:
            yield self.clock.timeout(ceil(min(off_s) * NS_PER_S) + 1)

    @property
    def has_several_tasks(self) -> bool:
        """Whether a client may have to wait until it has sent for another task."""
        return len(self._followers) > 1

    def take_turns(self, link: str, clients: Collection[int]) -> Steps:
        """Wait until no other task of these clients sends over a link; returns the spans that made room."""
        made_room = []
        for client in sorted(clients):  # one order for all, or two that want several wait for ever
            if (link, client) not in self._turns:
                self._turns[link, client] = Queue(self.clock, 1, f"{link} of client-{client}")
            turn = self._turns[link, client].enter()
            if turn is not None:
                made_room.append((yield turn))
        return made_room

    def give_turns_up(self, link: str, clients: Collection[int], span: int) -> None:
        """Let those send that wait for these clients, after ``span``."""
        for client in clients if self._turns else ():
            self._turns[link, client].leave(span)

    def together(self, processes: Sequence[Steps], name: str) -> Steps:
        """Let processes run side by side and return their results, in their order, when all have ended."""
        started = [self.clock.process(steps, f"{name} {number}") for number, steps in enumerate(processes)]
        yield self.clock.all_of(started)
        return [process.value for process in started]

    def play(self, schemes: Sequence[Steps]) -> None:
        """Let the schemes of all tasks run to their ends, side by side.

        Raises
        ------
        ScenarioError
            If they cannot end, as a channel is too weak to carry anything or a device too slow.
        StalledError
            If they cannot end for another reason.
        """
        steps = schemes[0] if len(schemes) == 1 else self.together(schemes, "the scheme of task")
        try:
            self.clock.run(self.clock.process(steps, "the scheme"))
        except StalledError:
            why = None if self.presence is None else self.presence.why_gone(self.clock.now)
            why = why or self.network.too_weak()
            if why is None:
                raise
            raise ScenarioError(why) from None
