"""Deadlines: who is late on each of many channels, and which spans there are without them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from cosim.control.knobs import PARTICIPATION, Setting
from cosim.control.stages import Compute, Cutoff, barriers_of
from cosim.learning.task import Task
from cosim.schemes import Scheme
from cosim.site import Site
from cosim.tensor.drain import NEVER
from cosim.units import Bools, Floats, Ints, seconds_to_ns

OTHERS_LATE = (
    "scheme.deadline_s: other clients are late than in the run that was trained, which makes another "
    'training; take engine = "events".'
)
_PASSES = (
    "scheme.deadline_s: clients that are late hold a band that the others wait for, so times decide who "
    'waits for whom; take engine = "events".'
)

_NOT_LATE = 1 << 30  # in the place of the step in which a client is late

FlopOf = Callable[[str, int, Collection[int]], int]
"""FLOP of a server's joint stage, by its name and round, on what these clients sent."""


@dataclass(frozen=True, eq=False)
class Step:
    """Clients that race against one deadline.

    Attributes
    ----------
    joint
        The span that begins when all have arrived, or at the deadline.
    clients, arrivals
        Who takes part, unless late before, and the span with which each arrives.
    begins
        The spans at whose latest end the deadline begins to run.
    number
        Of the step in its round, from 1.
    """

    joint: int
    clients: Ints
    arrivals: Ints
    begins: Ints
    round: int
    number: int


class Deadlines:
    """The deadlines in the order of spans of a run in which nobody was late.

    Parameters
    ----------
    played
        The site of that run.
    cutoff
        What there is a deadline for.
    flop_of
        What servers compute.
    shared
        Links whose whole band one client has at a time.

    Attributes
    ----------
    after_ns
        How long a deadline is after its beginning.
    steps
        By the number of their joint span.
    client
        Whose each span is, -1 of servers, shape (num_spans,).
    needed
        A span is there if its client is late in no step of the round up to this one.
    races, is_first
        Whether a span leads to an arrival, and whether it is the first that does.
    round, senders
        Of each span; of each round, its clients.
    takes_turns
        Whether a late arrival holds a band that others wait for.
    """

    def __init__(self, played: Site, cutoff: Cutoff, flop_of: FlopOf, shared: Collection[str]) -> None:
        spans, number = played.log.spans, {name: one for one, name in enumerate(played.client_names)}
        parents = np.split(spans.parents, spans.parents_end[:-1])
        self._spans, self._devices, self._flop_of = spans, played.devices, flop_of
        self.after_ns, self.num_clients = seconds_to_ns(cutoff.after_s), len(number)
        self.round, self.takes_turns = np.array(spans.round), cutoff.link in shared
        ends = zip(spans.actor, spans.peer, strict=True)
        self.client = np.array([number.get(actor, number.get(peer, -1)) for actor, peer in ends])
        self.is_server = np.array([kind == "compute" for kind in spans.kind]) & (self.client < 0)
        self.races, self.is_first = (np.zeros(len(spans), dtype=np.bool_) for _ in range(2))
        self.steps, self.senders = dict[int, Step](), dict[int, Ints]()
        # round-level spans are of those never late; all in a step of those not late up to it
        local = np.array(spans.local_step)
        rejoins = np.array([name == cutoff.rejoins for name in spans.name]) | (self.client < 0)
        self.needed = np.where(rejoins, 0, np.where(local == 0, _NOT_LATE - 1, local))
        for joint in np.flatnonzero([name == cutoff.joint for name in spans.name]).tolist():
            arrivals = parents[joint]
            firsts = np.array([parents[one][0] for one in arrivals.tolist()])
            of, at = self.client[arrivals], int(self.round[joint])
            self.steps[joint] = Step(joint, of, arrivals, parents[firsts[0]], at, int(local[joint]))
            self.senders.setdefault(at, of)
            self.is_first[firsts] = True
            for some in (firsts, arrivals):
                self.races[some] = True
        self.needed -= self.races  # it is with these that they are late

    def served(self, span: int, clients: Collection[int]) -> tuple[int, int, float]:
        """Return FLOP, duration, ns, and energy, J, of a span of a server on what some clients sent."""
        name, device = self._spans.name[span], self._devices[self._spans.actor[span]]
        flop = self._flop_of(name, int(self.round[span]), clients)
        return flop, device.duration_ns(flop, name), device.energy_j(flop, name)


@dataclass(frozen=True, eq=False)
class Heard:
    """What deadlines made of some channels.

    Attributes
    ----------
    late
        The step of each round in which each client is late, or a number above all steps; shape (rounds,
        num_clients, num_channels).
    is_there, is_heard
        Which spans a channel has, and which of them the scheme waits for, shape (num_spans, num_channels).
    flop
        Of spans of servers, by number, what they compute on each channel, shape (num_channels,).
    takes_turns
        Whether a late arrival holds a band that others wait for.
    """

    late: Ints
    is_there: Bools
    is_heard: Bools
    flop: dict[int, Floats]
    takes_turns: bool

    @property
    def faults(self) -> dict[int, str]:
        """By the number of a channel, why its times mean nothing."""
        is_any = (self.late < _NOT_LATE).any(axis=(0, 1)) & self.takes_turns
        return dict.fromkeys(np.flatnonzero(is_any).tolist(), _PASSES)

    def is_as(self, other: "Heard", channel: int) -> bool:
        """Return whether the same clients are late on a channel as on another's first one."""
        return bool(np.array_equal(self.late[..., channel], other.late[..., 0]))


class Lateness:
    """Who is late, found while the spans of some channels are evaluated.

    Parameters
    ----------
    deadlines
        In the order of spans.
    num_channels
        How many there are.
    """

    def __init__(self, deadlines: Deadlines, num_channels: int) -> None:
        self._deadlines, self._channels = deadlines, np.arange(num_channels)
        shape = (int(deadlines.round.max(initial=0)) + 1, deadlines.num_clients, num_channels)
        self._late = np.full(shape, _NOT_LATE)
        self._until = np.zeros(shape[1:], dtype=np.int64)  # when each has ended what it was late with
        self.flop, self.energy_j = dict[int, Floats](), dict[int, Floats]()

    def takes_part(self, spans: Ints, *, is_heard: bool = False) -> Bools:
        """Return whether spans are there, shape (num, num_channels); or are waited for.

        ``spans`` has shape (num, 1), or (num, num_channels).
        """
        one = self._deadlines
        needed = one.needed[spans] + (one.races[spans] if is_heard else 0)
        return np.asarray(self._late[one.round[spans], one.client[spans], self._channels] > needed)

    def begin(self, spans: Ints, asked_ns: Ints, end_ns: Ints) -> tuple[Ints, Ints]:
        """Return when spans of a level are asked for, and how long servers take, ns.

        Both have shape (num, num_channels).

        Parameters
        ----------
        spans
            Shape (num,).
        asked_ns
            When their causes have ended, shape (num, num_channels).
        end_ns
            Of all spans so far, shape (num_spans, num_channels).
        """
        one, lasts = self._deadlines, np.zeros_like(asked_ns)
        asked_ns = np.where(self.takes_part(spans[:, np.newaxis]), asked_ns, 0)
        firsts = np.flatnonzero(one.is_first[spans])
        asked_ns[firsts] = np.maximum(asked_ns[firsts], self._until[one.client[spans[firsts]]])
        for place in np.flatnonzero(one.is_server[spans]).tolist():
            span = int(spans[place])
            step = one.steps.get(span)
            if step is not None:
                asked_ns[place] = self._fall(step, end_ns)
            clients = one.senders[int(one.round[span])]
            lasts[place] = self._served(span, clients, self._late[one.round[span], clients] == _NOT_LATE)
        return asked_ns, lasts

    def _fall(self, step: Step, end_ns: Ints) -> Ints:
        """Find who is late; returns when the joint stage begins, ns, shape (num_channels,)."""
        late = self._late[step.round]
        takes_part, ends = late[step.clients] == _NOT_LATE, end_ns[step.arrivals]
        deadline_ns = end_ns[step.begins].max(axis=0, initial=0) + self._deadlines.after_ns
        first_ns = np.where(takes_part, ends, NEVER * 2 - 1).min(axis=0)
        in_time = takes_part & (ends < np.maximum(deadline_ns, first_ns + 1))
        is_late, clients = takes_part & ~in_time, step.clients[:, np.newaxis]
        late[clients, self._channels] = np.where(is_late, step.number, late[step.clients])
        self._until[clients, self._channels] = np.where(is_late, ends, self._until[step.clients])
        last_ns = np.where(in_time, ends, 0).max(axis=0)
        return np.asarray(np.where(is_late.any(axis=0), np.maximum(deadline_ns, first_ns), last_ns))

    def _served(self, span: int, clients: Ints, is_heard: Bools) -> Ints:
        """Return how long a server takes for what some clients sent, ns, shape (num_channels,)."""
        sets, which = np.unique(is_heard, axis=1, return_inverse=True)
        each = [self._deadlines.served(span, clients[some].tolist()) for some in sets.T]
        flop, lasts, energy_j = (np.array(column)[which.reshape(-1)] for column in zip(*each, strict=True))
        self.flop[span], self.energy_j[span] = flop.astype(float), energy_j
        return lasts

    def heard(self, end_ns: Ints) -> Heard:
        """Return what came of it, from the ends of all spans.

        What a late client has not ended when the last round does is not on record.
        """
        every = np.arange(len(end_ns))[:, np.newaxis]
        is_heard = self.takes_part(every, is_heard=True)
        until_ns = np.where(is_heard, end_ns, 0).max(axis=0, initial=0)
        is_there = is_heard | (self.takes_part(every) & (end_ns <= until_ns))
        return Heard(self._late, is_there, is_heard, self.flop, self._deadlines.takes_turns)


def flop_of(scheme: Scheme, task: Task, setting: Setting) -> FlopOf:
    """Return what servers compute in a scheme whose clients send the same in every round."""

    @cache
    def stages(round_: int, clients: frozenset[int]) -> dict[str, int]:
        return joint_flop(scheme, task, setting, round_, clients)

    return lambda name, round_, clients: stages(round_, frozenset(clients))[name]


def joint_flop(
    scheme: Scheme, task: Task, setting: Setting, round_: int, clients: Collection[int]
) -> dict[str, int]:
    """Return the FLOP of the joint stages of a round, by name, on what some of its clients sent."""
    takes_part = tuple(float(client in clients) for client in range(task.num_clients))
    only = replace(setting, knobs={**setting.knobs, PARTICIPATION.name: takes_part})
    return {
        one.name: one.flop
        for barrier, _, _ in barriers_of(scheme.phases(task, round_, only))
        for one in barrier.joint
        if isinstance(one, Compute)
    }
