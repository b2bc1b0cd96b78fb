"""The executor that lets processes compute the lanes of a graph, such as the clients of a round."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from multiprocessing.connection import wait
from typing import Any

from cosim.graph.executor import Computing, Key
from cosim.graph.finite import NotFiniteError
from cosim.graph.lanes import LanePlan, Segment
from cosim.graph.node import Node, Ref
from cosim.graph.processes import Worker, WorkerDiedError, can_fork, threads

_log = logging.getLogger(__name__)


class Parallel(Computing):
    """Hands lanes to forked processes; what brings lanes together is computed here.

    Values are the same bytes with any number of processes: each computes with one thread, nodes are
    pure functions, and sums over clients are taken in one place in the order of the clients. A process
    that dies takes with it what the call under way has computed; that is computed again by new ones, by
    fewer if more die, and in the end here.

    Parameters
    ----------
    local
        Who computes, here and in each process.
    num_workers
        Processes at most; with one, all is computed here.
    """

    def __init__(self, local: Computing, num_workers: int) -> None:
        super().__init__(lambda: local.context, local._fetch, goes_on=local._goes_on)
        self._local = local
        self._num_workers = num_workers if can_fork() else 1
        self._workers: list[Worker] = []
        self._calls = count(1)
        if self._num_workers < num_workers:
            self.fallback_reason = "processes cannot be forked on this system"

    def materialise(self, keep: Sequence[Ref], read: Sequence[Ref]) -> list[Any]:
        """Compute everything below ``keep`` and ``read``, again where a process died of it."""
        before, num_deaths = self.num_computed, 0
        while True:
            try:
                with threads(1):
                    return super().materialise(keep, read)
            except WorkerDiedError as death:
                self._end_workers()
                self._forget(before)
                num_deaths += 1
                if num_deaths > 1:
                    self._num_workers = -(-self._num_workers // 2)
                _log.warning(
                    "a worker of the training %s, as one is when memory runs out; what was under way is "
                    "computed again by %d worker(s)",
                    death,
                    self._num_workers,
                )
            except NotFiniteError:
                raise
            except BaseException:
                self._end_workers()
                raise

    def _end_workers(self) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _forget(self, num_computed: int) -> None:
        """Forget what was computed in a call that is made again."""
        self.num_computed = num_computed
        for key, field in self.scalars:
            if (values := self._values.get(key)) is not None:
                values.pop(field, None)

    def _groups(self, nodes: Sequence[Node]) -> Iterable[Sequence[Node]]:
        return self._local._groups(nodes)

    def _compute(self, nodes: Sequence[Node], inputs: Sequence[list[Any]]) -> Sequence[dict[str, Any]]:
        return self._local._compute(nodes, inputs)

    def _plain(self, value: Any) -> Any:
        return self._local._plain(value)

    def _compute_all(
        self,
        nodes: Sequence[Node],
        computed: dict[Key, Any],
        reads_left: Counter[Key],
        keep: Sequence[Ref],
        read: Sequence[Ref],
    ) -> None:
        plan = LanePlan(nodes, (*keep, *read)) if self._num_workers > 1 else None
        if plan is None or len(plan.lanes) == 1:
            super()._compute_all(nodes, computed, reads_left, keep, read)
            return
        _ = self._local.context  # loaded before it is shared
        while len(self._workers) < min(self._num_workers, len(plan.lanes)):
            self._workers.append(Worker(self._local))
        _Call(self, plan, nodes, computed, reads_left).perform(read)


class _Call:
    """One call under way: what is handed out, what has come back, and what is computed here."""

    def __init__(
        self,
        executor: Parallel,
        plan: LanePlan,
        nodes: Sequence[Node],
        computed: dict[Key, Any],
        reads_left: Counter[Key],
    ) -> None:
        self._executor, self._plan, self._nodes = executor, plan, nodes
        self._computed, self._reads_left = computed, reads_left
        self._pending = {node.key for node in nodes}
        self._shared = list(plan.shared)
        self._workers = executor._workers
        self._number = next(executor._calls)
        self._faults: list[tuple[int, Exception | tuple[list[Key], str]]] = []
        for worker in self._workers:
            worker.has.clear()

    def perform(self, read: Sequence[Ref]) -> None:
        """Compute everything; of several faults raise the one that comes first in the order of nodes."""
        while True:
            self._hand_out(strict=True)
            shared = next((one for one in self._shared if all(map(self._is_known, one.inputs))), None)
            if shared is not None:
                self._compute_here(shared, read)
            busy = [one for one in self._workers if one.segment is not None]
            if busy:
                ready = wait([one.connection for one in busy], timeout=None if shared is None else 0.0)
                for worker in (one for one in busy if one.connection in ready):
                    self._take(worker)
            elif shared is None and not self._hand_out(strict=False):
                break
        order = {node.key: node.order for node in self._nodes}
        executor = self._executor
        executor.scalars = dict(sorted(executor.scalars.items(), key=lambda one: order[one[0][0]]))
        executor.not_finite.sort(key=lambda one: one.node.order)
        if self._faults:
            self._raise_first(order, read)

    def _is_known(self, ref: Ref) -> bool:
        return ref.node.key not in self._pending

    def _hand_out(self, *, strict: bool) -> bool:
        """Give workers that have nothing to do what can be computed next; return whether one got any."""
        given = False
        for number, worker in enumerate(self._workers):
            segment = None if worker.segment is not None else self._next_of(number, worker, strict=strict)
            if segment is not None:
                self._give(worker, segment)
                given = True
        return given

    def _next_of(self, number: int, worker: Worker, *, strict: bool) -> Segment | None:
        """Return a stretch of the worker's own lanes or, where they wait, of one that is nobody's yet.

        Which are tried first is the same in every round: a client meets the worker that knows its data.
        """
        count = len(self._workers)
        lanes = [lane for lane in self._plan.lanes if lane.waiting and lane.worker in (None, worker)]
        for lane in sorted(lanes, key=lambda one: (one.worker is None, one.number % count != number)):
            segment = self._plan.segment(lane, self._is_known, strict=strict)
            if segment is not None:
                lane.worker = worker
                return segment
        return None

    def _give(self, worker: Worker, segment: Segment) -> None:
        given = []
        for ref in segment.given:
            if ref.key in worker.has:
                continue
            is_spread = ref.key in self._plan.spread
            if is_spread:
                worker.has.add(ref.key)
            given.append((ref.key, self._executor._value(ref, self._computed), is_spread))
        worker.give(segment, given, self._number)

    def _compute_here(self, node: Node, read: Sequence[Ref]) -> None:
        self._shared.remove(node)
        try:
            self._executor._compute_group([node], self._computed, self._reads_left, read)
        except NotFiniteError as found:
            self._faults.append((node.order, ([one.key for one in found.refs], found.fault)))
        except Exception as fault:  # what comes before it in the order of nodes may have one of its own
            self._faults.append((node.order, fault))
        else:
            self._done([node])

    def _take(self, worker: Worker) -> None:
        """Take in what a worker has computed."""
        outcome, segment = worker.outcome(), worker.segment
        assert segment is not None
        worker.segment = None
        done = segment.nodes if outcome.fault is None else segment.nodes[: outcome.num_done]
        fields: dict[str, dict[str, Any]] = {node.key: {} for node in segment.nodes}
        for (key, name), value in outcome.scalars.items():
            fields[key][name] = value
        for ref, value in zip(segment.read, outcome.values or (), strict=False):
            fields[ref.node.key][ref.field] = value
        for node in done:
            self._executor._take(node, fields[node.key], self._computed, self._reads_left)
        by_key = {node.key: node for node in segment.nodes}
        self._executor.not_finite += [by_key[key].ref(name) for key, name in outcome.not_finite]
        if outcome.fault is not None:
            self._faults.append((segment.nodes[len(done)].order, outcome.fault))
        self._done(done)

    def _done(self, nodes: Sequence[Node]) -> None:
        self._pending.difference_update(node.key for node in nodes)
        self._executor.within(len(self._nodes) - len(self._pending), len(self._nodes))

    def _raise_first(self, order: Mapping[str, int], read: Sequence[Ref]) -> None:
        """Raise the first fault with what is known of the nodes before it."""
        first, fault = min(self._faults, key=lambda one: one[0])
        if isinstance(fault, Exception):
            raise fault
        by_key = {one.key: one for node in self._nodes for one in node.inputs}
        bad = [by_key[key] for key in fault[0] if key in by_key]
        found = [one for one in self._executor.not_finite if one.node.order < first] or bad
        known = self._executor._known(read, self._computed)
        before = {key: value for key, value in known.items() if order.get(key[0], -1) < first}
        raise NotFiniteError(tuple(found), before, fault[1])
