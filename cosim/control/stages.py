"""A round as data: what is computed and sent, what runs side by side, and what waits for what.

A scheme says its rounds in these words; allocators, bounds, the closed form and checks need nothing
else of it. Whatever happens in an order that the stages cannot say is left out of them: a scheme
without barriers says nothing, and is served by every allocator that looks at links alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

CLIENT = "client"
"""The client in whose chain a stage is."""

MAIN_SERVER, FEDERATED_SERVER = "main-server", "federated-server"
"""The servers."""


@dataclass(frozen=True)
class Compute:
    """Work on a device: ``flop``, ``count`` times one after the other.

    Attributes
    ----------
    name
        Of its spans.
    actor
        client, or a server by name. A server in the chain of a client serves the
        chains through its queue.
    """

    name: str
    actor: str
    flop: int
    count: int = 1


class Transfer(NamedTuple):
    """Bits over a link.

    Attributes
    ----------
    name
        Of its span.
    senders, receivers
        Both ends, client, or servers by name.
    is_bound
        Whether ``bits`` are the most there can be, as values decide them.
    """

    name: str
    link: str
    bits: int
    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    is_bound: bool = False


Stage: TypeAlias = Compute | Transfer
Chain: TypeAlias = tuple[Stage, ...]
"""Stages one after the other."""


class Barrier(NamedTuple):
    """All wait for all.

    Attributes
    ----------
    chains
        What each client does, side by side; empty for one that does nothing.
    joint
        What servers do once all chains have ended.
    """

    chains: tuple[Chain, ...]
    joint: Chain = ()


class Repeat(NamedTuple):
    """The same barriers several times."""

    barriers: tuple[Barrier, ...]
    times: int


class Cutoff(NamedTuple):
    """A deadline at a barrier: who is late is out for the rest of the round, and ends by itself what it does.

    Attributes
    ----------
    after_s
        From the beginning of what leads to the barrier, s. Who has not arrived before then is late; if
        all are, the first to arrive is not.
    link
        By which they arrive.
    joint
        Name of the joint stage that begins when all are there, or at the deadline.
    rejoins
        Name of what those who are out take part in again.
    counted
        Name of the metric of how many were never late in a round.
    """

    after_s: float
    link: str
    joint: str
    rejoins: str
    counted: str


Round: TypeAlias = tuple[Barrier | Repeat, ...]
"""Barriers one after the other."""

Duration: TypeAlias = Callable[[Stage, int | None], float]
"""How long a stage of a client lasts; None for a joint one."""


def barriers_of(round_: Round) -> Iterator[tuple[Barrier, int, bool]]:
    """Return each barrier, how often it is waited for, and whether it is one of several repeated."""
    for part in round_:
        if isinstance(part, Barrier):
            yield part, 1, False
        else:
            yield from ((barrier, part.times, True) for barrier in part.barriers)


def lasts(round_: Round, duration: Duration) -> float:
    """Return how long a round lasts, in the unit of ``duration``; exact where that is whole numbers."""
    return sum(times * _falls(barrier, duration) for barrier, times, _ in barriers_of(round_))


def _falls(barrier: Barrier, duration: Duration) -> float:
    """Return how long after its beginning a barrier falls and its joint stages are over."""
    ends = (sum(duration(stage, client) for stage in chain) for client, chain in enumerate(barrier.chains))
    return max(ends, default=0) + sum(duration(stage, None) for stage in barrier.joint)


def num_spans(round_: Round) -> int:
    """Return how many spans a round has."""
    return sum(
        times * sum(_spans(chain) for chain in (*barrier.chains, barrier.joint))
        for barrier, times, _ in barriers_of(round_)
    )


def _spans(chain: Chain) -> int:
    return sum(stage.count if isinstance(stage, Compute) else 1 for stage in chain)


def is_closed(round_: Round) -> bool:
    """Return whether stages decide how long a round lasts: no queue, and no bits that values decide."""
    chains = {id(chain): chain for barrier, _, _ in barriers_of(round_) for chain in barrier.chains}
    return bool(round_) and all(_is_closed(stage) for chain in chains.values() for stage in chain)


def _is_closed(stage: Stage) -> bool:
    return stage.actor == CLIENT if isinstance(stage, Compute) else not stage.is_bound


def served(round_: Round, link: str) -> frozenset[int]:
    """Return the clients that send or receive over a link in a round."""
    return frozenset(
        client
        for barrier, _, _ in barriers_of(round_)
        for client, chain in enumerate(barrier.chains)
        if any(isinstance(stage, Transfer) and stage.link == link for stage in chain)
    )


def bits_over(round_: Round, link: str, client: int) -> int:
    """Return the bits of a client over a link in a round."""
    return sum(
        times * stage.bits
        for barrier, times, _ in barriers_of(round_)
        for stage in barrier.chains[client]
        if isinstance(stage, Transfer) and stage.link == link
    )


def after(round_: Round, name: str) -> Round:
    """Return what is left of a round behind the last barrier with a stage of that name; all without one."""
    behind = [
        number
        for number, part in enumerate(round_, start=1)
        if isinstance(part, Barrier) and any(stage.name == name for chain in part.chains for stage in chain)
    ]
    return round_[max(behind, default=0) :]
