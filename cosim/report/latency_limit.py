"""What an allocator with a limit on latency made of the rounds: latencies, queue, and how much was sent."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cosim.record.folder import Record
from cosim.report.rounds import Rounds
from cosim.report.spans import Spans, length_ns
from cosim.units import NS_PER_S, Floats, Ints


@dataclass(frozen=True, eq=False)
class LatencyLimit:
    """Rounds that are over and for which there was a limit.

    Attributes
    ----------
    rounds
        Their numbers, shape (num_rounds,).
    ends_ns
        When each ended, ns, shape (num_rounds,).
    latency_s, limit_s
        How long each lasted and what its limit was, s, shape (num_rounds,).
    queue_s
        Virtual queue at the beginning of each round and after the last, s, shape (num_rounds + 1,); None
        where the limit is one for every round.
    clients
        Names of those who ever sent.
    sparsification_ratios
        What each was to send, as a share, shape (num_rounds, num_clients); nan
        for who did not take part.
    """

    rounds: Ints
    ends_ns: Ints
    latency_s: Floats
    limit_s: Floats
    queue_s: Floats | None
    clients: tuple[str, ...]
    sparsification_ratios: Floats

    @property
    def mean_ratio(self) -> float:
        """Mean over rounds and who took part in them."""
        return float(np.nanmean(self.sparsification_ratios))

    @cached_property
    def extremes(self) -> tuple[tuple[float, str, int], tuple[float, str, int]]:
        """The smallest and the largest ratio, each with its client and round."""
        flat = self.sparsification_ratios.ravel()
        found = []
        for at in (int(np.nanargmin(flat)), int(np.nanargmax(flat))):
            row, column = divmod(at, len(self.clients))
            found.append((float(flat[at]), self.clients[column], int(self.rounds[row])))
        return found[0], found[1]


def latency_limit(record: Record, spans: Spans) -> LatencyLimit | None:
    """Return the rounds with a limit; None where there is none, or where rounds overlap.

    Raises
    ------
    RecordError
        If metrics or rounds cannot be read.
    """
    told: dict[tuple[str, str, int], float] = {}
    columns = (record.metrics[name].to_pylist() for name in ("name", "actor", "round", "value"))
    for name, actor, round_, value in zip(*columns, strict=True):
        if name in ("latency_limit_s", "queue_s", "sparsification_ratio"):
            told.setdefault(
                (name, actor, round_), value
            )  # later ones of a round come too late for what it sends
    limits = {round_: value for (name, _, round_), value in told.items() if name == "latency_limit_s"}
    if not limits:
        return None
    played = Rounds.of(record, length_ns(record, spans))
    over = zip(played.number.tolist(), played.is_over.tolist(), strict=True)
    at = np.array(
        [row for row, (round_, is_over) in enumerate(over) if is_over and round_ in limits], np.int64
    )
    if not len(at) or played.overlap:
        return None
    rounds, ends_ns = played.number[at].tolist(), played.end_ns
    latency_s = (ends_ns - played.start_ns)[at] / NS_PER_S
    limit_s = np.array([limits[round_] for round_ in rounds])
    queues = {round_: value for (name, _, round_), value in told.items() if name == "queue_s"}
    queue_s = None
    if all(round_ in queues for round_ in rounds):
        last_s = max(queues[rounds[-1]] + float(latency_s[-1] - limit_s[-1]), 0.0)
        queue_s = np.array([*(queues[round_] for round_ in rounds), last_s])
    uploads = spans.name == (spans.names.index("adapter_upload") if "adapter_upload" in spans.names else -1)
    sent = set(zip(spans.round[uploads].tolist(), spans.actor[uploads].tolist(), strict=True))
    senders = sorted({actor for _, actor in sent})
    clients = tuple(spans.actors[actor] for actor in senders)
    ratios = np.array(
        [
            [
                told.get(("sparsification_ratio", spans.actors[actor], round_), np.nan)
                if (round_, actor) in sent
                else np.nan
                for actor in senders
            ]
            for round_ in rounds
        ]
    )
    return LatencyLimit(np.array(rounds), ends_ns[at], latency_s, limit_s, queue_s, clients, ratios)
