"""Where the time of a run went: every nanosecond of it to one cause, along the critical path."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cosim.record.folder import Record
from cosim.report.graph import critical_path
from cosim.report.rounds import RoundKey, Rounds, span_keys
from cosim.report.spans import Spans, is_client, length_ns

Activity = Literal["working", "queueing", "waiting"]
"""Computing or sending; standing in a queue while others were served; waiting for what is no span."""


@dataclass(frozen=True, order=True)
class Cause:
    """What a stretch of time went into.

    Attributes
    ----------
    activity
        ``working``, ``queueing`` or ``waiting``.
    actor
        Who computed; the client that sent or received; whose queue it was.
    phase
        The name of the span: what was done, or what stood in the queue.
    link
        The link of a transfer; empty for what is computed.
    """

    activity: Activity
    actor: str
    phase: str
    link: str

    @property
    def label(self) -> str:
        """In words: ``activation upload of client-3``, ``queueing at main-server``."""
        what = self.phase.replace("_", " ")
        if self.activity == "working":
            return f"{what} of {self.actor}" if is_client(self.actor) else f"{what} at {self.actor}"
        if self.activity == "queueing":
            where = f"for {self.link.replace('_', ' ')}, {self.actor}" if self.link else f"at {self.actor}"
            return f"queueing {where}"
        return f"waiting before {what}" if what else "waiting at the end"


@dataclass(frozen=True)
class Share:
    """What one cause took; ``num_stretches`` counts the stretches of the critical path it is made of."""

    cause: Cause
    time_ns: int
    num_stretches: int


@dataclass(frozen=True)
class Stretch:
    """A part of the critical path, from ``start_ns`` to ``end_ns``.

    ``span`` worked all the while; -1 where nothing on record did. ``waiter`` stood
    in a queue behind it, or is what came after a wait; -1 where the time went into
    the span's own work.
    """

    start_ns: int
    end_ns: int
    round: RoundKey
    cause: Cause
    span: int
    waiter: int


@dataclass(frozen=True)
class Attribution:
    """The run's time by cause.

    Attributes
    ----------
    length_ns
        The run's length; the shares add up to it, and so do the stretches.
    stretches
        In order of time, without gaps, from 0 to ``length_ns``.
    shares
        Of the whole run, the largest first.
    rounds
        The same for each round: they add up to the round's part of the critical path, in
        order of the rounds' tasks and numbers. What is in no round is left out.
    """

    length_ns: int
    stretches: tuple[Stretch, ...]
    shares: tuple[Share, ...]
    rounds: dict[RoundKey, tuple[Share, ...]]

    def by_phase(self) -> dict[str, int]:
        """Return the time of each phase, and of queueing and waiting, ns; the longest first."""
        return _totals(
            (share.cause.phase if share.cause.activity == "working" else share.cause.activity, share.time_ns)
            for share in self.shares
        )

    def by_actor(self) -> dict[str, int]:
        """Return the time at each actor, ns; the longest first."""
        return _totals((share.cause.actor, share.time_ns) for share in self.shares)


def attribute(record: Record, spans: Spans | None = None) -> Attribution:
    """Return where the time of a run went; a failed run's as far as it came.

    The critical path is cut into stretches. A span on it accounts for its own
    time, but for the part in which the next one already stood in the queue
    behind it: that is queueing. So a busy server shows as queueing at it, and
    only the last piece of work of the queue as work.

    Raises
    ------
    RecordError
        If the spans cannot be read.
    """
    spans = spans or Spans.of(record)
    total_ns = length_ns(record, spans)
    return attribution(spans, total_ns, Rounds.of(record, total_ns))


def attribution(spans: Spans, total_ns: int, rounds: Rounds | None = None) -> Attribution:
    """Return where the time from 0 to ``total_ns`` went; no span ends later.

    Without ``rounds`` every number that a span has is one.
    """
    stretches = tuple(_stretches(spans, total_ns))
    by_round: dict[RoundKey, list[Stretch]] = defaultdict(list)
    known = None if rounds is None else set(rounds.keys)
    for stretch in stretches:
        if known is None or stretch.round in known:
            by_round[stretch.round].append(stretch)
    return Attribution(
        length_ns=total_ns,
        stretches=stretches,
        shares=_shares(stretches),
        rounds={round_: _shares(by_round[round_]) for round_ in sorted(by_round)},
    )


def _stretches(spans: Spans, total_ns: int) -> list[Stretch]:
    path = critical_path(spans)
    asked, starts, ends = (column[path].tolist() for column in (spans.asked_ns, spans.start_ns, spans.end_ns))
    numbers, rounds = path.tolist(), span_keys(spans, path)
    found: list[Stretch] = []

    def add(start_ns: int, end_ns: int, step: int, activity: Activity, span: int, waiter: int) -> None:
        if start_ns < end_ns:
            cause = _cause(spans, activity, numbers[step])
            found.append(Stretch(start_ns, end_ns, rounds[step], cause, span, waiter))

    if not numbers:
        nothing = Cause("waiting", "", "", "")
        return [Stretch(0, total_ns, ("", 0), nothing, -1, -1)] if total_ns else []
    last = len(numbers) - 1
    if ends[last] < total_ns:
        nothing = Cause("waiting", "", "", "")
        found.append(Stretch(ends[last], total_ns, rounds[last], nothing, -1, -1))
    waiter, since_ns = last, total_ns  # who on the path is in a queue now, and since when
    for step in range(last, -1, -1):
        ready_ns = ends[step - 1] if step else 0
        pieces: tuple[tuple[int, int, int, Activity], ...] = (
            (starts[step], ends[step], numbers[step], "working"),
            (ready_ns, starts[step], -1, "waiting"),
        )
        for begin_ns, end_ns, span, activity in pieces:
            cut_ns = min(max(since_ns, begin_ns), end_ns)
            add(cut_ns, end_ns, waiter, "queueing", span, numbers[waiter])
            add(begin_ns, cut_ns, step, activity, span, -1 if span >= 0 else numbers[step])
            since_ns = min(since_ns, begin_ns)  # nobody, if it had begun to queue by then
            if span >= 0 and asked[step] < since_ns:
                waiter, since_ns = step, asked[step]
    return found[::-1]


def _cause(spans: Spans, activity: Activity, span: int) -> Cause:
    link = int(spans.link[span])
    actor = int(spans.client[span]) if link >= 0 else int(spans.actor[span])
    return Cause(
        activity,
        spans.actors[actor if actor >= 0 else int(spans.actor[span])],
        spans.names[int(spans.name[span])],
        spans.links[link] if link >= 0 else "",
    )


def _shares(stretches: Iterable[Stretch]) -> tuple[Share, ...]:
    times: dict[Cause, int] = defaultdict(int)
    counts: dict[Cause, int] = defaultdict(int)
    for stretch in stretches:
        times[stretch.cause] += stretch.end_ns - stretch.start_ns
        counts[stretch.cause] += 1
    shares = [Share(cause, time_ns, counts[cause]) for cause, time_ns in times.items()]
    return tuple(sorted(shares, key=lambda share: (-share.time_ns, share.cause)))


def _totals(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    totals: dict[str, int] = defaultdict(int)
    for name, time_ns in pairs:
        totals[name] += time_ns
    return dict(sorted(totals.items(), key=lambda pair: (-pair[1], pair[0])))
