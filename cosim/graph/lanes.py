"""Lanes: which nodes follow one another, as the steps of a client do, and which bring several together."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from cosim.graph.batched import goes_back_to
from cosim.graph.node import Node, Ref

Key = tuple[str, str]


def lanes_of(nodes: Sequence[Node]) -> list[int | None]:
    """Return the lane of each node; None where several lanes meet, as in an average.

    A node continues the lane of a node that it is the first to read. It begins one of its own where it
    continues none, and where it would continue several, it is of none. Nodes that go back through another
    one, as a backward pass does, are always of the same lane. What reads nothing and is read by several
    lanes, as a start, is of none.
    """
    lanes = _lanes_of(nodes, frozenset())
    readers: defaultdict[str, set[int | None]] = defaultdict(set)
    for node, lane in zip(nodes, lanes, strict=True):
        for one in node.inputs:
            readers[one.node.key].add(lane)
    shared = {one.key for one in nodes if not one.inputs and len(readers[one.key]) > 1}
    return _lanes_of(nodes, shared) if shared else lanes


def _lanes_of(nodes: Sequence[Node], shared: Collection[str]) -> list[int | None]:
    place = {node.key: number for number, node in enumerate(nodes)}
    first_reader: dict[int, int] = {}
    lanes: list[int | None] = []
    num_lanes = 0
    for number, node in enumerate(nodes):
        parents = {place[one.node.key] for one in node.inputs if one.node.key in place}
        continued = {lanes[one] for one in parents if first_reader.setdefault(one, number) == number} - {None}
        through = goes_back_to(node)
        if through is not None and through.key in place:
            lanes.append(lanes[place[through.key]])
        elif len(continued) > 1 or node.key in shared:
            lanes.append(None)
        elif continued:
            lanes.append(continued.pop())
        else:
            lanes.append(num_lanes)
            num_lanes += 1
    return lanes


@dataclass
class Lane:
    """One lane under way.

    Attributes
    ----------
    waiting
        Its nodes not yet handed to a worker, in order.
    worker
        Who computes it, None before anybody does.
    resident
        Fields that its worker holds, with how many of its nodes have still to read each.
    """

    number: int
    waiting: list[Node] = field(default_factory=list)
    worker: object | None = None
    resident: Counter[Key] = field(default_factory=Counter)


@dataclass(frozen=True)
class Segment:
    """A stretch of a lane that a worker computes without asking.

    Attributes
    ----------
    nodes
        In order.
    given
        Values from elsewhere, each once.
    keep, read
        Fields that the lane reads later on, and those that others do.
    release
        Fields the worker holds which nothing later in the lane reads.
    """

    lane: Lane
    nodes: list[Node]
    given: list[Ref]
    keep: list[Ref]
    read: list[Ref]
    release: list[Key]


class LanePlan:
    """The nodes of a call by lane, and what of them can be computed next.

    Parameters
    ----------
    nodes
        In order, inputs first.
    wanted
        Fields that are asked for when all is computed.

    Attributes
    ----------
    lanes
        In the order of their first nodes.
    shared
        Nodes where lanes meet.
    spread
        Fields that nodes of several lanes read.
    """

    def __init__(self, nodes: Sequence[Node], wanted: Collection[Ref]) -> None:
        lanes: dict[int, Lane] = {}
        self.shared: list[Node] = []
        self._readers: defaultdict[Key, Counter[int | None]] = defaultdict(Counter)
        for node, number in zip(nodes, lanes_of(nodes), strict=True):
            its = self.shared if number is None else lanes.setdefault(number, Lane(number)).waiting
            its.append(node)
            for key in {one.key for one in node.inputs}:
                self._readers[key][number] += 1
        self.lanes = list(lanes.values())
        self.spread = {key for key, by_lane in self._readers.items() if len(by_lane) > 1}
        self._wanted = {one.key for one in wanted}
        self._fields: defaultdict[str, list[str]] = defaultdict(list)
        for of_node, name in sorted({*self._readers, *self._wanted}):
            self._fields[of_node].append(name)
        self._gone_back_to = {one.key for one in map(goes_back_to, nodes) if one is not None}
        # a lane that others begin from is interrupted there, so that they need not wait for its end
        heads = [lane.waiting[0] for lane in self.lanes]
        self._opens = {one.node.key for head in heads for one in head.inputs}

    def segment(self, lane: Lane, is_known: Callable[[Ref], bool], *, strict: bool) -> Segment | None:
        """Take the next stretch of a lane; None if it has to wait.

        Parameters
        ----------
        is_known
            Whether a value from outside the lane is there.
        strict
            Whether to leave a forward pass alone until its backward pass can follow, so that no graph of
            it stays in memory.
        """
        nodes = self._stretch(lane, is_known)
        if strict:
            nodes = self._without_open_graphs(nodes)
        if not nodes:
            return None
        del lane.waiting[: len(nodes)]
        inside = {one.key for one in nodes}
        outside = [ref for node in nodes for ref in node.inputs if ref.node.key not in inside]
        given = {ref.key: ref for ref in outside if ref.key not in lane.resident}
        release = _release(lane, nodes)
        keep, read = self._outputs(lane, nodes)
        return Segment(lane, nodes, list(given.values()), keep, read, release)

    def _stretch(self, lane: Lane, is_known: Callable[[Ref], bool]) -> list[Node]:
        nodes: list[Node] = []
        inside: set[str] = set()
        for node in lane.waiting:
            if not all(
                one.node.key in inside or one.key in lane.resident or is_known(one) for one in node.inputs
            ):
                break
            nodes.append(node)
            inside.add(node.key)
            if node.key in self._opens:
                break
        return nodes

    def _without_open_graphs(self, nodes: list[Node]) -> list[Node]:
        """Return the nodes before the first whose graph would be left waiting."""
        while True:
            backward = {through.key for one in nodes if (through := goes_back_to(one)) is not None}
            is_open = (one.key in self._gone_back_to and one.key not in backward for one in nodes)
            first = next((number for number, found in enumerate(is_open) if found), None)
            if first is None:
                return nodes
            nodes = nodes[:first]

    def _outputs(self, lane: Lane, nodes: Sequence[Node]) -> tuple[list[Ref], list[Ref]]:
        """Return the fields of these nodes that are read later on, by this lane and by others."""
        read_inside = Counter(key for node in nodes for key in {one.key for one in node.inputs})
        keep, read = [], []
        for ref in (node.ref(name) for node in nodes for name in self._fields[node.key]):
            by_lane = self._readers.get(ref.key, Counter())
            later = by_lane[lane.number] - read_inside[ref.key]
            if later:
                lane.resident[ref.key] = later
                keep.append(ref)
            if ref.key in self._wanted or any(number != lane.number for number in by_lane):
                read.append(ref)
        return keep, read


def _release(lane: Lane, nodes: Sequence[Node]) -> list[Key]:
    """Count down what these nodes read of what the worker holds; return what no later one reads."""
    released = []
    for key in (key for node in nodes for key in {one.key for one in node.inputs} & lane.resident.keys()):
        lane.resident[key] -= 1
        if not lane.resident[key]:
            del lane.resident[key]
            released.append(key)
    return released
