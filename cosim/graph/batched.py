"""The executor that computes the nodes of several clients in one call."""

import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

from cosim.graph.executor import Computing, Context, Fetch
from cosim.graph.node import Node

_log = logging.getLogger(__name__)


class BatchContext(Context, Protocol):
    """Computes besides groups of nodes in one call.

    The values it takes and gives may be rows of stacks; ``plain`` makes ordinary ones of them.
    """

    def compute_together(self, nodes: Sequence[Node], inputs: Sequence[list[Any]]) -> list[dict[str, Any]]:
        """Return the fields of each node's value; nodes are of one :func:`group_of`, inputs as for one."""

    def why_alone(self, node: Node) -> str | None:
        """Return why a node cannot be in a group, None if it can."""

    def plain(self, value: Any) -> Any:
        """Return a value that shares memory with no other client's."""


class Batched(Computing):
    """Computes nodes of equal shape, for different clients, in one call with stacked adapters.

    Agrees with :class:`~cosim.graph.executor.Sequential` up to the rounding of
    sums that are added up in another order. A call always has the same number of
    slots, idle ones filled, so that the kernels are the same ones and the last
    bit of a value does not depend on who else is in the group. What cannot be
    stacked is computed one by one, and ``fallback_reason`` says why.

    Parameters
    ----------
    make_context, fetch, goes_on
        As for :class:`~cosim.graph.executor.Computing`.
    max_group
        Slots of a call, and so most mini-batches whose graphs are alive at one time;
        with one slot all are computed one by one.
    """

    def __init__(
        self,
        make_context: Callable[[], BatchContext],
        max_group: int,
        fetch: Fetch | None = None,
        *,
        goes_on: bool = False,
    ) -> None:
        super().__init__(make_context, fetch, goes_on=goes_on)
        if max_group < 1:
            raise ValueError(f"a group holds at least one node, not {max_group}")
        self._max_group = max_group
        self._unstackable: set[str] = set()

    def _groups(self, nodes: Sequence[Node]) -> Iterable[Sequence[Node]]:
        return plan(nodes, self._max_group)

    def _compute(self, nodes: Sequence[Node], inputs: Sequence[list[Any]]) -> Sequence[dict[str, Any]]:
        context: BatchContext = self.context
        operation = nodes[0].operation
        self._fall_back(context.why_alone(nodes[0]))
        is_stackable = operation.batch_body is not None and operation.name not in self._unstackable
        if self._max_group > 1 and is_stackable and group_of(nodes[0]) is not None:
            goes_back = operation.goes_back_through is not None
            idle = 0 if goes_back else self._max_group - len(nodes)
            try:
                filled = [*nodes, *[nodes[0]] * idle], [*inputs, *[inputs[0]] * idle]
                return context.compute_together(*filled)[: len(nodes)]
            except (
                Exception
            ) as fault:  # a model may refuse in any way; a fault of ours comes again one by one
                if goes_back:  # through all slots of its forward pass
                    raise  # torch can go back wherever it went forward; and the graphs are used up
                self._unstackable.add(operation.name)
                lines = str(fault).strip().splitlines() or [""]
                self._fall_back(f"{operation.name}: {type(fault).__name__}: {lines[0]}")
        return [context.compute(node, given) for node, given in zip(nodes, inputs, strict=True)]

    def _plain(self, value: Any) -> Any:
        return self.context.plain(value) if "context" in vars(self) else value

    def _fall_back(self, reason: str | None) -> None:
        if reason is not None and self.fallback_reason is None:
            self.fallback_reason = reason
            _log.warning("computed client by client, not together: %s", reason)


def group_of(node: Node) -> Hashable | None:
    """Return what must be equal for nodes to be computed in one group; None for one computed by itself."""
    operation = node.operation
    own = None if operation.group is None else operation.group(node)
    if own is None:
        return None
    through = goes_back_to(node)
    if through is None:
        return operation.name, node.context, own
    forward = group_of(through)
    return None if forward is None else (operation.name, node.context, own, forward)


def plan(nodes: Sequence[Node], max_group: int) -> list[list[Node]]:
    """Return nodes in groups to compute one after the other, each of one kind and at most ``max_group``.

    The earliest node that is ready leads, and takes along the next ready ones
    of its kind. Added client by client, as schemes do it, a group goes
    forward, through the server and back before the next one begins.
    """
    place = {node.key: number for number, node in enumerate(nodes)}
    readers: defaultdict[int, list[int]] = defaultdict(list)
    missing = [0] * len(nodes)
    for number, node in enumerate(nodes):
        for parent in {place[one.node.key] for one in node.inputs if one.node.key in place}:
            readers[parent].append(number)
            missing[number] += 1
    kinds = [group_of(node) for node in nodes]
    ready = [number for number, count in enumerate(missing) if not count]
    alike: defaultdict[Hashable, list[int]] = defaultdict(list)
    for number in ready:
        alike[kinds[number]].append(number)
    heapify(ready)
    groups: list[list[Node]] = []
    planned: set[int] = set()
    while ready:
        first = heappop(ready)
        if first in planned:
            continue
        group = [first]
        if kinds[first] is not None:
            waiting = alike[kinds[first]]
            group = [heappop(waiting) for _ in range(min(max_group, len(waiting)))]
        planned.update(group)
        groups.append([nodes[number] for number in group])
        for number in (reader for one in group for reader in readers[one]):
            missing[number] -= 1
            if not missing[number]:
                heappush(ready, number)
                heappush(alike[kinds[number]], number)
    return _there_and_back(groups)


def _there_and_back(groups: Sequence[list[Node]]) -> list[list[Node]]:
    """Part groups so that those who went forward together also come back together.

    Their stack has one graph. Where the ways of clients part in between, as in
    split learning one client after the other, a graph of all would have to be
    walked once for each.
    """
    place = {node.key: number for number, group in enumerate(groups) for node in group}
    ways: dict[str, tuple[int, int]] = {}
    for node in (node for group in groups for node in group):
        forward = goes_back_to(node)
        if forward is not None and forward.key in place:
            ways[node.key] = ways[forward.key] = (place[forward.key], place[node.key])
    return [part for group in groups for part in _parted(group, ways)]


def _parted(group: Sequence[Node], ways: Mapping[str, Hashable]) -> Iterable[list[Node]]:
    parts: defaultdict[Hashable, list[Node]] = defaultdict(list)
    for node in group:
        parts[ways.get(node.key)].append(node)
    return parts.values()


def goes_back_to(node: Node) -> Node | None:
    """Return the node this one goes back through, such as the forward pass of a backward pass."""
    field = node.operation.goes_back_through
    return None if field is None else next(one.node for one in node.inputs if one.field == field)
