"""What a timeline shows: a lane per actor, the rounds, and the loss over simulated time."""

from dataclasses import dataclass

import numpy as np

from cosim.errors import RecordError
from cosim.record.folder import Record
from cosim.report.latency_limit import LatencyLimit, latency_limit
from cosim.report.learning import measured
from cosim.report.rounds import RoundKey, Rounds, range_label, span_keys
from cosim.report.spans import Chosen, Spans, is_client, length_ns
from cosim.report.stacks import Part
from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class Bars:
    """The spans of one name in one lane; ``asked_ns`` to ``start_ns`` they waited for room.

    Times are of shape (num_bars,).
    """

    name: str
    is_transfer: bool
    asked_ns: Ints
    start_ns: Ints
    end_ns: Ints


@dataclass(frozen=True, eq=False)
class Lane:
    """What one actor did: a client computes, sends and receives, a server computes.

    What several clients send or receive at once is in the lane of each of them: lanes tell
    who was busy when. ``note`` says what the actor is shown for, where not all are.
    """

    actor: str
    bars: tuple[Bars, ...]
    note: str = ""

    @property
    def label(self) -> str:
        """What is beside the lane."""
        return f"{self.actor}, {self.note}" if self.note else self.actor


@dataclass(frozen=True, eq=False)
class Chart:
    """All that the picture shows.

    Attributes
    ----------
    title
        The name of the run and what part of it the lanes show.
    from_ns, to_ns
        The time the lanes show.
    length_ns
        The time of the whole run, over which the losses are drawn.
    names
        Names of spans in the order in which they first begin.
    lanes
        Clients by number, then the servers. Of very many clients the busiest and some of the others,
        by how busy they are; ``crowd`` then has what all of them do.
    num_clients
        All that the run has.
    crowd
        What all clients do, by name; none where each has a lane.
    rounds
        What begins when, ns, of the rounds shown; those that begin at one instant are together.
    losses
        For each kind of loss and task its instants, ns, and values.
    latency_limit
        Latencies against their limit, where there is one.
    """

    title: str
    from_ns: int
    to_ns: int
    length_ns: int
    names: tuple[str, ...]
    lanes: tuple[Lane, ...]
    rounds: tuple[tuple[str, int], ...]
    losses: dict[tuple[str, str], tuple[Ints, Floats]]
    latency_limit: LatencyLimit | None = None
    num_clients: int = 0
    crowd: tuple[Part, ...] = ()


def chart(record: Record, first_round: int | None = None, last_round: int | None = None) -> Chart:
    """Return what the picture of some rounds shows.

    Parameters
    ----------
    record
        The run.
    first_round, last_round
        Rounds the lanes show, both included, with all that goes on meanwhile; the first
        round alone without them, and the whole of a run that has no rounds.

    Raises
    ------
    RecordError
        If the run has no spans or not these rounds, or cannot be read.
    """
    spans = Spans.of(record)
    if not len(spans):
        raise RecordError(f"{record.path}: has no spans; the run is {record.state}.")
    total_ns = length_ns(record, spans)
    rounds = Rounds.of(record, total_ns)
    what, rows, window_ns = "whole run, which has no rounds", np.empty(0, np.int64), (0, total_ns)
    shown = np.ones(len(spans), dtype=np.bool_)
    if len(rounds) or first_round is not None:
        rows = rounds.between(record, first_round, last_round)
        window_ns = rounds.window_ns(rows)
        shown = _shown(spans, {rounds.keys[row] for row in rows.tolist()}, window_ns)
        numbers = rounds.number[rows]
        what = range_label(int(numbers.min()), int(numbers.max())) + f" of {rounds.number.max()}"
    return Chart(
        title=f"{record.manifest.get('name', record.path.name)}, {what}",
        from_ns=window_ns[0],
        to_ns=max(window_ns[1], window_ns[0] + 1),
        length_ns=total_ns,
        names=tuple(name for index, name in enumerate(spans.names) if (spans.name[shown] == index).any()),
        lanes=tuple(_lane(spans, actor, shown, note) for actor, note in _chosen(spans, shown)),
        rounds=tuple(rounds.begins(rows)),
        losses=measured(record, ("train_loss", "eval_loss")),
        latency_limit=latency_limit(record, spans),
        num_clients=len(spans.clients),
        crowd=_crowd(spans, shown) if len(spans.clients) > MOST_CLIENTS else (),
    )


MOST_CLIENTS = 60
"""Beyond these, lanes are of some clients only."""

_NUM_BUSIEST = 5
_QUANTILES = ((0.9, "90 %"), (0.75, "75 %"), (0.5, "median"), (0.25, "25 %"), (0.0, "least busy"))


def _chosen(spans: Spans, shown: Chosen) -> list[tuple[int, str]]:
    """Return the actors that have lanes, and what each is shown for."""
    servers = [(actor, "") for actor in range(len(spans.clients), len(spans.actors))]
    if len(spans.clients) <= MOST_CLIENTS:
        return [*((actor, "") for actor in range(len(spans.clients))), *servers]
    rows, clients = spans.of_clients
    mine = shown[rows]
    busy_ns = np.bincount(clients[mine], weights=spans.duration_ns[rows[mine]], minlength=len(spans.clients))
    order = np.argsort(busy_ns, kind="stable")
    found = {int(actor): "busiest" for actor in order[: -_NUM_BUSIEST - 1 : -1]}
    for share, note in _QUANTILES:
        found.setdefault(int(order[round(share * (len(order) - 1))]), note)
    return [*found.items(), *servers]


def _crowd(spans: Spans, shown: Chosen) -> tuple[Part, ...]:
    """Return what all clients do, name by name."""
    rows, _ = spans.of_clients
    rows = rows[shown[rows]]
    parts = []
    for index, name in enumerate(spans.names):
        mine = rows[spans.name[rows] == index]
        if len(mine):
            parts.append(
                Part(name, bool(spans.is_transfer[mine[0]]), spans.start_ns[mine], spans.end_ns[mine])
            )
    return tuple(parts)


def _shown(spans: Spans, chosen: set[RoundKey], window_ns: tuple[int, int]) -> Chosen:
    """Return what goes on while some rounds do: what overlaps them, and what is theirs and takes no time."""
    from_ns, to_ns = window_ns
    within = (spans.end_ns >= from_ns) & (spans.asked_ns <= to_ns)
    lasts = within & (spans.end_ns > from_ns) & (spans.asked_ns < to_ns)
    rows = np.flatnonzero(within & ~lasts)
    lasts[rows] = [key in chosen for key in span_keys(spans, rows)]
    return lasts


def _lane(spans: Spans, actor: int, shown: Chosen, note: str) -> Lane:
    """Return one lane; a server's has only what it computes, as transfers are in the clients' lanes."""
    if is_client(spans.actors[actor]):
        rows, clients = spans.of_clients
        mine = np.zeros(len(spans), dtype=np.bool_)
        mine[rows[clients == actor]] = True
        mine &= shown
    else:
        mine = shown & (spans.actor == actor) & (~spans.is_transfer | ((spans.client < 0) & ~spans.is_joint))
    bars = []
    for index, name in enumerate(spans.names):
        chosen = mine & (spans.name == index)
        if chosen.any():
            times = (spans.asked_ns[chosen], spans.start_ns[chosen], spans.end_ns[chosen])
            bars.append(Bars(name, bool(spans.is_transfer[chosen][0]), *times))
    return Lane(spans.actors[actor], tuple(bars), note)
