"""The order of a run's spans, read off their causes and their times."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from cosim.errors import ScenarioError
from cosim.record.log import SpanLog
from cosim.tensor.draws import Flow
from cosim.tensor.program import Meeting, Program
from cosim.units import Ints

UNTIMED = "the tensor clock cannot say when {name} of {actor} in round {round} is asked for: {why}"


def program_of(
    spans: SpanLog,
    clients: Sequence[str],
    is_timed: Iterable[str],
    capacities: dict[str, int],
    shared: Iterable[str],
) -> Program:
    """Return the program of the spans of a run.

    Parameters
    ----------
    spans
        Of a run of one task that has ended.
    clients
        Their names, in their order.
    is_timed
        The links on which something takes time.
    capacities
        Of the queue of each device.
    shared
        Links whose whole band one client has at a time.

    Raises
    ------
    ScenarioError
        If what the spans wait for does not say when they begin.
    """
    return _Reading(spans, clients, set(is_timed), capacities, set(shared)).program()


class _Reading:
    """The spans while their order is worked out."""

    def __init__(
        self,
        spans: SpanLog,
        clients: Sequence[str],
        is_timed: set[str],
        capacities: dict[str, int],
        shared: set[str],
    ) -> None:
        spans.settle()
        self.spans, self.number = spans, {name: number for number, name in enumerate(clients)}
        self.is_timed, self.capacities, self.shared = is_timed, capacities, shared
        ends = [0, *spans.causes_end]
        sets = [tuple(spans.causes[begin:end]) for begin, end in pairwise(ends)]
        known: dict[tuple[int, ...], tuple[int, ...]] = {}
        self.causes: list[tuple[int, ...]] = []
        for span, cause in enumerate(spans.cause):
            own = sets[cause][:-1] if span in spans.made_room else sets[cause]
            self.causes.append(known.setdefault(own, own))
        self.covered: dict[int, int] = {}  # of a set of causes, by its id: all spans before that it waits for
        for causes in known.values():
            self.covered[id(causes)] = self._covered(causes)

    def program(self) -> Program:
        """Return the program."""
        spans = self.spans
        self._check_asked()
        flows: dict[Flow, int] = {}
        flow = np.full(len(spans), -1)
        for span in range(len(spans)):
            found = self._flow(span)
            if found is not None:
                flow[span] = flows.setdefault(found, len(flows))
        is_compute = np.array([kind == "compute" for kind in spans.kind])
        start_ns, end_ns = np.array(spans.start_ns), np.array(spans.end_ns)
        queues = [queue for queue in self._queues(flow) if len(queue) > 1]
        sets: dict[int, int] = {}
        cause_of = [sets.setdefault(id(causes), len(sets)) for causes in self.causes]
        by_id = {id(causes): causes for causes in self.causes}
        return Program(
            [by_id[one] for one in sets],
            cause_of,
            self._numbered(queues),
            [
                Meeting(
                    sorted(queue, key=self._rank),
                    self.capacities[spans.actor[queue[0]]] if is_compute[queue[0]] else 0,
                )
                for queue in queues
            ],
            np.where(is_compute, end_ns - start_ns, 0).tolist(),
            np.where(is_compute, np.array(spans.energy_j), 0.0),
            flow,
            np.array(spans.bits).astype(np.int64),
            tuple(flows),
            np.array(spans.round),
            start_ns,
            end_ns,
        )

    def _check_asked(self) -> None:
        """Refuse spans that are not asked for when the last of those they wait for has ended."""
        latest: dict[int, int] = {}
        for span, causes in enumerate(self.causes):
            last = latest.get(id(causes))
            if last is None:
                last = latest[id(causes)] = max((self.spans.end_ns[one] for one in causes), default=0)
            if last != self.spans.asked_ns[span]:
                raise ScenarioError(self._told(span, "something else than the spans it waits for decides"))

    def _told(self, span: int, why: str) -> str:
        spans = self.spans
        name, actor = spans.name[span], spans.actor[span] or "several clients"
        return (
            UNTIMED.format(name=name, actor=actor, round=spans.round[span], why=why)
            + '; take engine = "events".'
        )

    def _clients(self, span: int) -> tuple[int, ...]:
        """Return the clients that send or receive, or the one that computes, or for whom a server does."""
        spans = self.spans
        if span in spans.extras and spans.extras[span].participants:
            return tuple(self.number[name] for name in spans.extras[span].participants)
        ends = (spans.actor[span], spans.peer[span])
        return tuple(self.number[name] for name in ends if name in self.number)

    def _link(self, span: int) -> str:
        """Return the link of a transfer, from its ends."""
        spans = self.spans
        sends = spans.actor[span] in self.number or not spans.actor[span]
        server = spans.peer[span] if sends else spans.actor[span]
        return f"{server.removesuffix('-server')}_{'up' if sends else 'down'}link"

    def _flow(self, span: int) -> Flow | None:
        """Return what a transfer is sent on; None of what takes no time, or is computed."""
        if self.spans.kind[span] == "compute" or (link := self._link(span)) not in self.is_timed:
            return None
        return link, self._clients(span)

    def _place(self, span: int, flow: Ints) -> str | None:
        """Return where a span may have to wait for others."""
        if self.spans.kind[span] == "compute":
            return self.spans.actor[span]
        if flow[span] < 0:
            return None
        link = self._link(span)
        return link if link in self.shared else f"{link} {self._clients(span)}"

    def _queues(self, flow: Ints) -> list[list[int]]:
        """Return the requests that meet, place by place: none waits for another of its own.

        Raises
        ------
        ScenarioError
            If requests of one place are neither in the order of the graph nor all independent.
        """
        open_: dict[str, tuple[list[int], list[int]]] = {}
        found: list[list[int]] = []
        for span in range(len(self.spans)):
            place = self._place(span, flow)
            if place is None:
                continue
            before, latest = open_.get(place, ([], []))
            if self._waits_for_all(span, latest):
                open_[place] = latest, [span]
                found.append(open_[place][1])
            elif self._waits_for_all(span, before) and not self._waits_for_any(span, latest):
                latest.append(span)
            else:
                raise ScenarioError(self._told(span, f"it comes to {place} behind only some of those there"))
        return found

    def _covered(self, causes: tuple[int, ...]) -> int:
        """Return the first span that these do not wait for, over any number of others, and are not."""
        covered = max((self.covered[id(self.causes[one])] for one in causes), default=0)
        found = self._behind(causes, covered)
        while covered in found:
            covered += 1
        return covered

    def _behind(self, causes: tuple[int, ...], first: int) -> set[int]:
        """Return the spans from the first on that these are or wait for."""
        found, seen, open_ = set[int](), {id(causes)}, [causes]
        while open_:
            for cause in open_.pop():
                if cause >= first and cause not in found:
                    found.add(cause)
                    own = self.causes[cause]
                    if id(own) not in seen:
                        seen.add(id(own))
                        open_.append(own)
        return found

    def _waits_for_all(self, span: int, earlier: Sequence[int]) -> bool:
        left = self._not_covered(span, earlier)
        return not left or self._behind(self.causes[span], min(left)) >= set(left)

    def _waits_for_any(self, span: int, earlier: Sequence[int]) -> bool:
        left = self._not_covered(span, earlier)
        return len(left) < len(earlier) or not self._behind(self.causes[span], min(left)).isdisjoint(left)

    def _not_covered(self, span: int, earlier: Sequence[int]) -> list[int]:
        covered = self.covered[id(self.causes[span])]
        return [one for one in earlier if one >= covered]

    def _rank(self, span: int) -> tuple[int, ...]:
        """Return the clients of a span; where a server computes, those of what it waits for."""
        return self._clients(span) or tuple(
            one for cause in self.causes[span] for one in self._clients(cause)
        )

    def _numbered(self, queues: Sequence[Sequence[int]]) -> list[int]:
        """Return the level of each span.

        Raises
        ------
        ScenarioError
            If two queues wait for each other.
        """
        level = [0] * len(self.causes)
        changed, rounds = True, 0
        while changed:
            changed, rounds = False, rounds + 1
            of_set: dict[int, int] = {}
            for span, causes in enumerate(self.causes):
                if id(causes) not in of_set:
                    of_set[id(causes)] = max((level[one] + 1 for one in causes), default=0)
                level[span] = max(level[span], of_set[id(causes)])
            for queue in queues:
                most = max(level[span] for span in queue)
                for span in queue:
                    changed |= level[span] != most
                    level[span] = most
            if rounds > len(queues) + 2:
                raise ScenarioError(self._told(queues[0][0], "queues wait for each other"))
        return level
