"""What devices, subchannels and energy were used for."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cosim.report.spans import Spans, covered_ns, is_client
from cosim.report.subchannel_grants import SubchannelGrants
from cosim.units import Ints


@dataclass(frozen=True)
class ActorUse:
    """How one actor spent the run.

    Attributes
    ----------
    compute_ns, air_ns
        It computed at least one work; it sent or received.
    overlap_ns
        Both at once.
    queueing_ns
        At least one work stood in its queue, or it waited for its subchannels;
        it may have been busy meanwhile.
    idle_ns
        None of these: it waited for others.
    length_ns
        The run's length.
    mean_queue
        Works that stood in its queue, on average over the run.
    """

    actor: str
    compute_ns: int
    air_ns: int
    overlap_ns: int
    queueing_ns: int
    idle_ns: int
    length_ns: int
    mean_queue: float

    @property
    def utilisation(self) -> float:
        """Share of the run in which its device computed."""
        return self.compute_ns / max(self.length_ns, 1)


@dataclass(frozen=True)
class SubchannelUse:
    """How one subchannel spent the run.

    Attributes
    ----------
    held_ns, used_ns
        Somebody held it; its holder sent.
    num_holders
        Clients that held it at some time.
    """

    link: str
    subchannel: int
    held_ns: int
    used_ns: int
    num_holders: int
    length_ns: int

    @property
    def utilisation(self) -> float:
        """Share of the run in which something was sent on it."""
        return self.used_ns / max(self.length_ns, 1)


@dataclass(frozen=True)
class EnergyShare:
    """What one actor spent on one phase, J; what several clients send at once is under the server's name."""

    actor: str
    phase: str
    energy_j: float


def actor_use(spans: Spans, total_ns: int) -> tuple[ActorUse, ...]:
    """Return how each actor spent the time from 0 to ``total_ns``; no span ends later."""
    return tuple(_actor_use(spans, actor, rows, total_ns) for actor, rows in enumerate(_rows_of(spans)))


def subchannel_use(spans: Spans, grants: SubchannelGrants, total_ns: int) -> tuple[SubchannelUse, ...]:
    """Return how each subchannel that was ever held spent the time from 0 to ``total_ns``."""
    used_ns = _used_ns(spans, grants)
    held_ns = grants.end_ns - grants.start_ns
    return tuple(
        SubchannelUse(
            link=link,
            subchannel=number,
            held_ns=int(held_ns[rows].sum()),
            used_ns=int(used_ns[rows].sum()),
            num_holders=len(np.unique(grants.client[rows])),
            length_ns=total_ns,
        )
        for index, link in enumerate(grants.links)
        for number, rows in _by_subchannel(grants, index)
    )


def energy(spans: Spans) -> tuple[EnergyShare, ...]:
    """Return who spent how much on what, by actor and phase; what cost nothing is left out."""
    spent = np.zeros((len(spans.actors), len(spans.names)))
    np.add.at(spent, (spans.actor, spans.name), spans.energy_j)
    return tuple(
        EnergyShare(spans.actors[actor], spans.names[name], float(spent[actor, name]))
        for actor, name in np.argwhere(spent > 0.0).tolist()
    )


def shared_ns(start_ns: Ints, end_ns: Ints, from_ns: Ints, to_ns: Ints) -> Ints:
    """Return how much of some intervals lies in each window, ns, shape (num_windows,).

    Parameters
    ----------
    start_ns, end_ns
        The intervals; where two overlap, both count.
    from_ns, to_ns
        The windows.

    Examples
    --------
    >>> shared_ns(np.array([0, 10]), np.array([4, 20]), np.array([2, 15]), np.array([12, 16]))
    array([4, 1])
    """
    starts, ends = np.sort(start_ns), np.sort(end_ns)
    before_starts, before_ends = (np.concatenate([[0], np.cumsum(one)]) for one in (starts, ends))

    def until(instants: Ints) -> Ints:
        begun, ended = np.searchsorted(starts, instants), np.searchsorted(ends, instants)
        return np.asarray(instants * (begun - ended) - before_starts[begun] + before_ends[ended])

    return np.asarray(until(to_ns) - until(from_ns))


def _actor_use(spans: Spans, actor: int, mine: Ints, total_ns: int) -> ActorUse:
    on_air = spans.is_transfer[mine]
    starts, ends, asked = spans.start_ns[mine], spans.end_ns[mine], spans.asked_ns[mine]
    compute_ns = covered_ns(starts[~on_air], ends[~on_air])
    air_ns = covered_ns(starts[on_air], ends[on_air])
    busy_ns = covered_ns(starts, ends)
    # a transfer waits for the subchannels of its client, or of each of its clients
    own = ~on_air | (spans.client[mine] == actor) | (spans.is_joint[mine] & is_client(spans.actors[actor]))
    queued = own & (asked < starts)
    active_ns = covered_ns(np.where(own, asked, starts), ends)
    return ActorUse(
        actor=spans.actors[actor],
        compute_ns=compute_ns,
        air_ns=air_ns,
        overlap_ns=compute_ns + air_ns - busy_ns,
        queueing_ns=covered_ns(asked[queued], starts[queued]),
        idle_ns=total_ns - active_ns,
        length_ns=total_ns,
        mean_queue=float((starts - asked)[queued].sum()) / max(total_ns, 1),
    )


def _rows_of(spans: Spans) -> Iterator[Ints]:
    """Return for every actor the spans it acts in or is sent."""
    joint, whose = spans.of_clients
    is_joint = spans.is_joint[joint]
    who = np.concatenate([spans.actor, spans.peer, whose[is_joint]])
    rows = np.concatenate([np.tile(np.arange(len(spans)), 2), joint[is_joint]])
    order = np.argsort(who, kind="stable")
    ends = np.searchsorted(who[order], np.arange(len(spans.actors) + 1))
    for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        yield rows[order[begin:end]]


def _used_ns(spans: Spans, grants: SubchannelGrants) -> Ints:
    """Return for how long the holder of a subchannel sent on its link meanwhile, shape (num_holdings,)."""
    used_ns = np.zeros(len(grants), dtype=np.int64)
    number = {name: index for index, name in enumerate(spans.actors)}
    of_clients, whose = spans.of_clients
    for index, link in enumerate(grants.links):
        if link not in spans.links:
            continue
        on_link = spans.link[of_clients] == spans.links.index(link)
        sent, sender = of_clients[on_link], whose[on_link]
        held = np.flatnonzero(grants.link == index)
        for client in np.unique(grants.client[held]).tolist():
            rows = held[grants.client[held] == client]
            sending = sent[sender == number.get(f"client-{client}", -2)]
            windows = grants.start_ns[rows], grants.end_ns[rows]
            used_ns[rows] = shared_ns(spans.start_ns[sending], spans.end_ns[sending], *windows)
    return used_ns


def _by_subchannel(grants: SubchannelGrants, link: int) -> Iterator[tuple[int, Ints]]:
    """Return each subchannel of a link that was ever held, with its grants."""
    rows = np.flatnonzero(grants.link == link)
    rows = rows[np.argsort(grants.subchannel[rows], kind="stable")]
    numbers, begins = np.unique(grants.subchannel[rows], return_index=True)
    yield from zip(
        numbers.tolist(), np.split(rows, begins[1:]), strict=False
    )  # no parts of nothing is one part
