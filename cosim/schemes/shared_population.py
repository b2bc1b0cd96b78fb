"""Several tasks on one population: side by side, or turn by turn as a policy has it."""

from collections.abc import Sequence

from cosim.errors import ScenarioError
from cosim.kernel.clock import Steps
from cosim.rng import Stream
from cosim.schemes import Scheme
from cosim.schemes.task_policy import Arrival, Offer, TaskPolicy
from cosim.schemes.turns import Turns
from cosim.units import NS_PER_S, seconds_to_ns
from cosim.world import World


def recipes(
    schemes: Sequence[Scheme], worlds: Sequence[World], policy: TaskPolicy | None, stream: Stream
) -> list[Steps]:
    """Return what is to run side by side: the scheme of every task, or all of them by a policy."""
    if policy is None:
        return [scheme.run(world) for scheme, world in zip(schemes, worlds, strict=True)]
    return [_by_policy(schemes, worlds, policy, stream)]


def _by_policy(
    schemes: Sequence[Scheme], worlds: Sequence[World], policy: TaskPolicy, stream: Stream
) -> Steps:
    turns = [scheme.turns(world) for scheme, world in zip(schemes, worlds, strict=True)]
    shared = SharedPopulation(policy, turns, stream)
    num_workers = worlds[0].num_clients if schemes[0].turn_of == "client" else 1
    if policy.evaluate_every_s is not None:
        worlds[0].clock.process(shared.watch(policy.evaluate_every_s), "evaluations of all tasks")
    yield from worlds[0].together([shared.work(one) for one in range(num_workers)], "client")
    for one in turns:
        if policy.evaluate_every_s is not None:
            one.evaluate_now()
        one.end()
        one.world.ask(())


class SharedPopulation:
    """Clients that choose a task whenever they are free.

    Parameters
    ----------
    policy
        Says which.
    turns
        The trainings of the tasks.
    stream
        Chance of the choices.
    """

    def __init__(self, policy: TaskPolicy, turns: Sequence[Turns], stream: Stream) -> None:
        self.policy, self.turns, self.stream = policy, turns, stream
        self._ages = [0] * len(turns)

    def work(self, client: int) -> Steps:
        """Turn after turn of one client, or of all, until nothing is left for it."""
        ready: Sequence[int] = ()
        last, count = None, 0
        while (place := self._choose(client, last, count)) is not None:
            self._ages = [0 if one == place else age + 1 for one, age in enumerate(self._ages)]
            ready = yield from self.turns[place].turn(client, ready)
            last, count = place, count + 1

    def watch(self, every_s: float) -> Steps:
        """Evaluate all tasks time and again; ends with the run."""
        while True:
            yield self.turns[0].world.clock.timeout(seconds_to_ns(every_s))
            for one in self.turns:
                one.evaluate_now()

    def _choose(self, client: int, last: int | None, count: int) -> int | None:
        """Return the task of a client's next turn; None where there is none."""
        time_s = self.turns[0].world.clock.now / NS_PER_S
        is_over = self.policy.until_s is not None and time_s >= self.policy.until_s
        if is_over or not any(one.is_open for one in self.turns):
            return None
        offers = tuple(self._offer(place, client, time_s) for place in range(len(self.turns)))
        place = self.policy.choose(Arrival(client, time_s, last, offers), self.stream.child(client, count))
        if place is not None and not (0 <= place < len(offers) and offers[place].is_open):
            left = ", ".join(one.name for one in offers if one.is_open)
            raise ScenarioError(
                f"task_policy.kind: {self.policy.kind!r} sends client {client} to task {place}, counted from "
                f"0, and those that have rounds left are {left}."
            )
        return place

    def _offer(self, place: int, client: int, time_s: float) -> Offer:
        """Return a task as it is for a client now."""
        one = self.turns[place]
        first, last = one.world.known("eval_loss") or (1.0, 1.0)
        return Offer(
            one.world.task.name,
            one.is_open,
            gap=last / first if first else 1.0,
            age=self._ages[place],
            new_data=one.new_data(client, time_s),
            cost=one.cost(client),
        )
