"""Messages between a program on the server and its clients, on the clock: sent, answered, and replayed.

What a message says is opaque here. It has a size, costs the client FLOP, and its
reply has a size; an application written against another library runs on our
clock in this way. What it did is recorded, and can be replayed under another
channel without the application, as long as it would have seen the same replies.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from math import isfinite
from typing import Any, NamedTuple

from simpy.events import Event

from cosim.errors import RecordError, ScenarioError
from cosim.graph.node import Node
from cosim.graph.operation import Operation
from cosim.kernel.clock import Steps
from cosim.kernel.queue import Queue
from cosim.record.folder import Record
from cosim.scenario.build import prepare
from cosim.scenario.prepared import Prepared
from cosim.scenario.settings import Scenario
from cosim.schemes import FEDERATED_DOWNLINK, FEDERATED_UPLINK
from cosim.units import NS_PER_S, seconds_to_ns
from cosim.world import Moment, World

_MUST_RUN = "the application would see {what}, so it would compute something else; run it again."


class Letter(NamedTuple):
    """A message to a client: the client, what it asks for (such as ``train``), its size, and its life.

    A reply that is not there after ``ttl_s`` counts as lost.
    """

    client: int
    name: str
    bits: int
    ttl_s: float


class Work(NamedTuple):
    """What a client made of a message: FLOP, the size of its reply, and the numbers in it."""

    flop: int
    reply_bits: int
    metrics: Mapping[str, float]


@dataclass
class _Exchange:
    """A message on its way; ``work`` is None until the client has it, ``span`` is -1 until it is over."""

    letter: Letter
    moment: Moment
    after: tuple[int, ...]
    work: Work | None = None
    span: int = -1
    is_over: bool = False
    is_lost: bool = False


class Program(ABC):
    """What acts through a post office: an application, or the replay of one.

    Attributes
    ----------
    name
        Of the application, for the record.
    post
        The post office, once the run has begun.
    """

    name: str
    post: "PostOffice"

    @abstractmethod
    def act(self, post: "PostOffice") -> Steps:
        """Push, wait and pull until the program ends."""

    @abstractmethod
    def work(self, number: int) -> Work:
        """Return what the client makes of a message, by its number; it is asked when the message arrives."""

    def prepare(self, scenario: Scenario) -> Prepared:
        """Return what is to run: devices and air of a scenario, whose scheme foretells nothing.

        Raises
        ------
        CosimError
            If the scenario cannot run, or not with messages of an application.
        """
        if faults := list(map(str, unfit(scenario))):
            raise ScenarioError("\n".join(faults))
        prepared = prepare(scenario)
        return replace(prepared, is_alone=False, allocation=None)

    def steps(self, world: World) -> Steps:
        """Return the whole run, to be played in place of a scheme."""
        self.post = post = PostOffice(world, self)
        yield from self.act(post)
        post.close()


class PostOffice:
    """Carries messages over the federated links of a world, and records what a program does with it.

    A client answers one message at a time, in order of arrival, and each link of a client
    carries one message at a time. A round begins whenever messages named ``train`` are
    pushed; what is pushed before is round 0.

    Attributes
    ----------
    actions
        What the program did, in order, with what it saw: plain lists, for the record.
    """

    def __init__(self, world: World, program: Program) -> None:
        self._world, self._program = world, program
        self._exchanges: list[_Exchange] = []
        self._causes: tuple[int, ...] = ()
        self._arrival: Event | None = None
        self._queues: dict[tuple[str, int], Queue] = {}
        self._round = -1
        self.actions: list[list[Any]] = []
        world.begin_air()

    def push(self, letters: Sequence[Letter]) -> Steps:
        """Send messages, and return their numbers; they count from 0."""
        first = len(self._exchanges)
        numbers = list(range(first, first + len(letters)))
        causes = self._causes
        if letters:
            causes = (*causes, *(yield from self._begin_round(letters)))
        moment = Moment(max(self._round, 0))
        for number, letter in zip(numbers, letters, strict=True):
            self._exchanges.append(_Exchange(letter, moment, causes))
            self._world.clock.process(self._exchange(number), f"message {number} to client-{letter.client}")
            self._world.clock.after(_delay_ns(letter.ttl_s), partial(self._end, number, -1, is_lost=True))
        self.actions.append(["push", *numbers])
        return numbers

    def wait(self, numbers: Sequence[int], timeout_s: float | None) -> Steps:
        """Wait until the replies to all of these are there, or the time is over; returns those that are."""
        clock = self._world.clock
        deadline = None if timeout_s is None else clock.timeout(_delay_ns(timeout_s))
        while not all(self._exchanges[number].is_over for number in numbers):
            if deadline is not None and deadline.processed:
                break
            arrival = self._next_arrival()
            yield arrival if deadline is None else clock.any_of([arrival, deadline])
        return self._saw("wait", numbers, timeout_s)

    def pull(self, numbers: Sequence[int]) -> Steps:
        """Return which replies are there; if there are none yet, wait for the first.

        An application that polls would otherwise do so for ever at one instant.
        """
        while numbers and not any(self._exchanges[number].is_over for number in numbers):
            yield self._next_arrival()
        return self._saw("pull", numbers, None)

    def sleep(self, seconds: float) -> Steps:
        """Let simulated time pass."""
        yield self._world.clock.timeout(_delay_ns(seconds))
        self.actions.append(["sleep", seconds])

    def now_s(self) -> float:
        """Return the simulated time, s; a replay at other times is refused, as the application knows it."""
        now_s = self._world.clock.now / NS_PER_S
        self.actions.append(["now", now_s])
        return now_s

    def is_lost(self, number: int) -> bool:
        """Return whether a message or its reply was lost on the way."""
        return self._exchanges[number].is_lost

    def close(self) -> None:
        """End the round that goes on."""
        if self._round >= 0:
            self._world.end_round(self._round)

    def recorded(self) -> dict[str, Any]:
        """Return all that a replay needs, as plain values."""
        return {
            "actions": self.actions,
            "messages": [
                [
                    *one.letter,
                    *((one.work.flop, one.work.reply_bits, dict(one.work.metrics)) if one.work else ()),
                ]
                for one in self._exchanges
            ],
        }

    def _begin_round(self, letters: Sequence[Letter]) -> Steps:
        """Begin a round if one is due; returns the spans it waited for."""
        trains = any(one.name.split(".")[0] == "train" for one in letters)
        if self._round >= 0 and not trains:
            return ()
        self.close()
        clients = sorted({one.client for one in letters})
        if trains:
            self._round = max(self._round, 0) + 1
            return (yield from self._world.start_round(self._round, clients)) or ()
        self._round = 0
        self._world.begin_round(0, clients)
        return ()

    def _exchange(self, number: int) -> Steps:
        """Carry one message there, let the client work on it, and carry its reply back."""
        one, world = self._exchanges[number], self._world
        client, name, bits, _ = one.letter
        sent = yield from self._send(FEDERATED_DOWNLINK.name, one, f"{name} message", bits, one.after)
        if sent.is_delivered:
            one.work = work = self._program.work(number)
            actor, node = world.client_names[client], _NODE
            span = yield from world.compute(actor, name, one.moment, work.flop, node, [sent.span])
            for metric, value in work.metrics.items():
                world.note(one.moment, metric, value, actor)
            sent = yield from self._send(FEDERATED_UPLINK.name, one, f"{name} reply", work.reply_bits, [span])
        self._end(number, sent.span, is_lost=not sent.is_delivered)

    def _end(self, number: int, span: int, *, is_lost: bool) -> None:
        """Have a reply there, or lost, unless it is over already; wake who waits."""
        one = self._exchanges[number]
        if one.is_over:
            return
        one.span, one.is_over, one.is_lost = span, True, is_lost
        if self._arrival is not None:
            self._arrival.succeed()
            self._arrival = None

    def _send(self, link: str, one: _Exchange, name: str, bits: int, after: Sequence[int]) -> Steps:
        client = one.letter.client
        if (link, client) not in self._queues:
            self._queues[link, client] = Queue(self._world.clock, 1, f"{link} of client-{client}")
        queue = self._queues[link, client]
        turn = queue.enter()
        if turn is not None:
            after = (*after, (yield turn))
        sent = yield from self._world.send(link, client, name, one.moment, bits, _NODE, after)
        queue.leave(sent.span)
        return sent

    def _next_arrival(self) -> Event:
        if self._arrival is None:
            self._arrival = self._world.clock.event("a reply")
        return self._arrival

    def _saw(self, action: str, numbers: Sequence[int], timeout_s: float | None) -> list[int]:
        """Return which replies are there, in the order asked for, so that only who is late changes sums."""
        there = [number for number in numbers if self._exchanges[number].is_over]
        spans = sorted({span for number in there if (span := self._exchanges[number].span) >= 0})
        self._causes = tuple(spans) or self._causes
        lost = [number for number in there if self._exchanges[number].is_lost]
        self.actions.append([action, list(numbers), timeout_s, there, lost])
        return there


class Replay(Program):
    """The messages of a run again, under other conditions, without the application.

    Parameters
    ----------
    name, recorded
        Of the application, and what it did, as a post office recorded it.

    Raises
    ------
    ScenarioError
        While it goes, where the application would see other replies, or another time.
    """

    def __init__(self, name: str, recorded: Mapping[str, Any]) -> None:
        self.name, self._recorded = name, recorded

    def act(self, post: PostOffice) -> Steps:
        """Do what the application did, and compare what it would see."""
        for action, *rest in self._recorded["actions"]:
            if action == "push":
                yield from post.push([Letter(*self._recorded["messages"][number][:4]) for number in rest])
            elif action == "sleep":
                yield from post.sleep(*rest)
            elif action == "now":
                if post.now_s() != rest[0]:
                    raise ScenarioError(_MUST_RUN.format(what="another time"))
            else:
                numbers, timeout_s, *_ = rest
                yield from post.pull(numbers) if action == "pull" else post.wait(numbers, timeout_s)
                if post.actions[-1] != [action, *rest]:
                    raise ScenarioError(_MUST_RUN.format(what="other replies"))

    def work(self, number: int) -> Work:
        """Return what was recorded."""
        made = self._recorded["messages"][number][4:]
        if not made:
            raise ScenarioError(_MUST_RUN.format(what=f"message {number} arrive, which it did not"))
        return Work(*made)


def refuse_resume(record: Record) -> None:
    """Refuse to bring the run of an application to its end without the application.

    Raises
    ------
    RecordError
        With the name of the application.
    """
    if "program" in record.manifest:
        raise RecordError(
            f"{record.path}: is a run of the application {record.manifest['program']!r}; run that again."
        )


def replay_of(record: Record, before: Scenario, scenario: Scenario) -> Replay | None:
    """Return what carries a recorded application's messages again, under another scenario; None for a scheme.

    Raises
    ------
    RecordError
        If the application did not come to its end, or seed or clients of the scenario are others.
    """
    if "program" not in record.manifest:
        return None
    if (before.seed, before.num_clients) != (scenario.seed, scenario.num_clients):
        raise RecordError(
            f"{record.path}: with another seed or other clients the application computes something else; "
            "run it again."
        )
    if record.status != "complete":
        raise RecordError(f"{record.path}: the application did not come to its end; run it again.")
    return Replay(record.manifest["program"], record.manifest["messages"])


def replay_suffix(record: Record) -> str:
    """Return what tells folders of applications under one scenario apart; empty for a scheme."""
    if "program" not in record.manifest:
        return ""
    told = repr(record.manifest.get("messages")).encode()
    return f"-{blake2b(told, digest_size=4).hexdigest()}"


def unfit(scenario: Scenario) -> Iterator[ScenarioError]:
    """Find what keeps messages of an application from being carried as a scenario says."""
    if scenario.scheme.kind != "federated":
        yield ScenarioError(
            f"scheme.kind: {scenario.scheme.kind!r} does not send over the links of an application, "
            "federated_uplink and federated_downlink; take kind = 'federated'."
        )
    if len(scenario.by_task) != 1:
        yield ScenarioError("tasks: an application is one task; give a scenario without [tasks].")
    if not scenario.allocator.serves_tasks:
        yield ScenarioError(
            f"allocator.kind: {scenario.allocator.kind!r} decides by the rounds of a scheme, which an "
            "application does not have; take one such as 'equal'."
        )
    if scenario.availability is not None:
        yield ScenarioError("availability: an application cannot be told who is away; leave it out.")
    if any(server.restarts for server in (scenario.main_server, scenario.federated_server)):
        yield ScenarioError("federated_server.restarts: an application's server stays up; leave them out.")
    if any(scenario.radio.medium.sums(link) for link in scenario.scheme.links):
        yield ScenarioError(
            f"radio.medium.kind: {scenario.radio.medium.kind!r} adds up what clients send, and messages "
            "of an application cannot be added; take one such as 'fluid'."
        )


def _delay_ns(seconds: float) -> int:
    if not (seconds >= 0.0 and isfinite(seconds)):
        raise ValueError(f"{seconds} s is no time to wait; give zero or more")
    return seconds_to_ns(seconds)


_NODE = Node(Operation("message", lambda *_: {}, None, None, (), ()), (), {}, "", 0)
"""Of all spans of messages: what they say is no value of ours."""
