"""Executors: who computes the values of nodes, and when."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from cosim.graph.finite import NotFiniteError, is_finite, not_finite
from cosim.graph.node import Node, Ref, Values

if TYPE_CHECKING:
    from cosim.graph.store import Namespace


class Executor(Protocol):
    """Computes values when they are needed and holds them no longer than that."""

    computes: bool
    """Whether there are values at all."""

    @property
    def num_computed(self) -> int:
        """Nodes computed so far."""

    @property
    def num_recalled(self) -> int:
        """Nodes that needed no computing, because the store had what was asked of them."""

    @property
    def fallback_reason(self) -> str | None:
        """Why nodes that were to be computed together were not; None if they were, or were not to be."""

    def materialise(self, keep: Sequence[Ref], read: Sequence[Ref]) -> list[Any]:
        """Compute what is asked for, all in one go.

        Parameters
        ----------
        keep
            Fields that later nodes build on. Their nodes forget their inputs in
            place, and hold the field as long as they are referenced. Numbers of a
            computed node are held in any case.
        read
            Fields whose values are returned.

        Raises
        ------
        NotFiniteError
            If a training cannot go on with what was computed, or is not to.
        """


class Context(Protocol):
    """What the bodies of operations compute with."""

    def compute(self, node: Node, inputs: list[Any]) -> dict[str, Any]:
        """Return the fields of a node's value by name, from the values of its inputs in their order."""


Key = tuple[str, str]
"""What a value is known under: key of the node, and field."""

Fetch = Callable[[Ref], Any]
"""Returns a value kept elsewhere, for a materialised node whose value is not held here."""


class Computing(ABC):
    """Computes nodes group by group, and drops a value when the last node that reads it has.

    Nodes of one key are one node, however often it was added: it is computed
    once, and not again while its value is held. What is in a group, and how one
    is computed, is for those derived to say.

    Parameters
    ----------
    make_context
        Returns what the bodies of operations compute with; called when there is
        something to compute, since it loads the model.
    fetch
        Where values come from that neither are held nor can be computed.
    goes_on
        Whether to go on where values are not finite.

    Attributes
    ----------
    scalars
        Numbers computed by the last call.
    not_finite
        What the last call found not to be finite, in the order in which it was computed.
    within
        Called as nodes are computed, with how many of a call are and how many there are.
    """

    computes = True
    num_recalled = 0
    fallback_reason: str | None = None

    def __init__(
        self, make_context: Callable[[], Any], fetch: Fetch | None = None, *, goes_on: bool = False
    ) -> None:
        self._make_context = make_context
        self._fetch = fetch
        self._goes_on = goes_on
        self._values: WeakValueDictionary[str, Values] = WeakValueDictionary()
        self.scalars: dict[Key, Any] = {}
        self.not_finite: list[Ref] = []
        self.num_computed = 0
        self.within: Callable[[int, int], None] = lambda done, total: None

    @cached_property
    def context(self) -> Any:
        """What the bodies of operations compute with; loads the model."""
        return self._make_context()

    def serve(self, fetch: Fetch) -> None:
        """Compute for another executor from now on: with its values, and leaving it to stop where it must."""
        self._fetch, self._goes_on = fetch, True
        self.within = lambda done, total: None

    @abstractmethod
    def _groups(self, nodes: Sequence[Node]) -> Iterable[Sequence[Node]]:
        """Return all nodes, which come inputs first, in the order in which to compute them.

        None in a group may read another of it.
        """

    @abstractmethod
    def _compute(self, nodes: Sequence[Node], inputs: Sequence[list[Any]]) -> Sequence[dict[str, Any]]:
        """Return the fields of each node of a group, from the values of its inputs."""

    def _plain(self, value: Any) -> Any:
        """Return a value as it leaves the executor."""
        return value

    def materialise(self, keep: Sequence[Ref], read: Sequence[Ref]) -> list[Any]:
        """Compute everything below ``keep`` and ``read``.

        All of it is computed also where a value is not finite, so that what came
        before it in time is known, in whatever order nodes were computed.
        """
        wanted = (*keep, *read)
        nodes = self.uncomputed(wanted)
        reads_left = Counter(one.key for node in nodes for one in node.inputs)
        reads_left.update(one.key for one in wanted)
        computed: dict[Key, Any] = {}
        self.scalars, self.not_finite = {}, []
        self._compute_all(nodes, computed, reads_left, keep, read)
        for key in {one.key for one in wanted} & computed.keys():
            computed[key] = self._plain(computed[key])
        if self.not_finite and not self._goes_on:
            raise NotFiniteError(tuple(self.not_finite), self._known(read, computed))
        for one in keep:
            self._held(one.node)[one.field] = self._value(one, computed)
        values = [self._value(one, computed) for one in read]
        for one in keep:
            one.node.forget_inputs()
        return values

    def _compute_all(
        self,
        nodes: Sequence[Node],
        computed: dict[Key, Any],
        reads_left: Counter[Key],
        keep: Sequence[Ref],
        read: Sequence[Ref],
    ) -> None:
        """Compute all nodes into ``computed``, group by group."""
        num_done = 0
        for group in self._groups(nodes):
            self._compute_group(group, computed, reads_left, read)
            num_done += len(group)
            self.within(num_done, len(nodes))

    def _compute_group(
        self,
        group: Sequence[Node],
        computed: dict[Key, Any],
        reads_left: Counter[Key],
        read: Sequence[Ref],
    ) -> None:
        """Compute a group into ``computed``, and drop from there what nobody will read again."""
        inputs = [[self._value(one, computed) for one in node.inputs] for node in group]
        try:
            results = self._compute(group, inputs)
        except Exception as fault:  # any that an operation may raise on what is not finite
            bad = [
                one
                for node, given in zip(group, inputs, strict=True)
                for one, value in zip(node.inputs, given, strict=True)
                if not is_finite(value)
            ]
            if not bad:
                raise
            reason = f"{group[0].operation.name}: {' '.join(str(fault).split())}"
            found = tuple(self.not_finite or bad)
            raise NotFiniteError(found, self._known(read, computed), reason) from fault
        for node, given, fields in zip(group, inputs, results, strict=True):
            self.not_finite += not_finite(node, given, fields)
            self._take(node, fields, computed, reads_left)

    def _take(
        self, node: Node, fields: Mapping[str, Any], computed: dict[Key, Any], reads_left: Counter[Key]
    ) -> None:
        """Note what a node gave, and drop what it was the last to read."""
        self.num_computed += 1
        for name, value in fields.items():
            if isinstance(value, int | float):
                self._held(node)[name] = self.scalars[node.key, name] = value
            elif reads_left[node.key, name]:
                computed[node.key, name] = value
        for one in node.inputs:
            reads_left[one.key] -= 1
            if not reads_left[one.key]:
                computed.pop(one.key, None)

    def _known(self, read: Sequence[Ref], computed: dict[Key, Any]) -> dict[Key, Any]:
        """Return what of ``read`` is known, though not all could be computed."""
        known = {one.key: computed[one.key] for one in read if one.key in computed}
        for one in read:
            held = self._values.get(one.node.key)
            if held is not None and one.field in held:
                known[one.key] = held[one.field]
        return known

    def _value(self, ref: Ref, computed: dict[Key, Any]) -> Any:
        values = self._values.get(ref.node.key)
        if values is not None and ref.field in values:
            return values[ref.field]
        if ref.key not in computed:
            if self._fetch is None:
                raise LookupError(
                    f"the field {ref.field!r} of {ref.node.operation} was not kept when the node was "
                    "materialised; name it among those to keep"
                )
            computed[ref.key] = self._fetch(ref)
        return computed[ref.key]

    def _held(self, node: Node) -> Values:
        """Return what is held of a node's value, shared by all nodes of its key."""
        values = self._values.get(node.key)
        if values is None:
            values = self._values[node.key] = Values()
        node.values = values
        return values

    def uncomputed(self, wanted: Iterable[Ref]) -> list[Node]:
        """Return the nodes that would have to be computed, each once, inputs first."""
        found: dict[str, Node] = {}
        open_ = list(wanted)
        while open_:
            ref = open_.pop()
            node = ref.node
            first = found.get(node.key)
            if first is not None and first.order <= node.order:
                continue
            if ref.field in self._values.get(node.key, ()) or node.is_materialised:
                continue
            found[node.key] = node  # of several, the one added first: it comes after its inputs, too
            open_.extend(node.inputs)
        return sorted(found.values(), key=lambda node: node.order)


class Sequential(Computing):
    """Computes one node after the other, in the order in which they were added.

    That order is chosen by the schemes so that few values live at one time.
    """

    def _groups(self, nodes: Sequence[Node]) -> Iterable[Sequence[Node]]:
        return ((node,) for node in nodes)

    def _compute(self, nodes: Sequence[Node], inputs: Sequence[list[Any]]) -> Sequence[dict[str, Any]]:
        return [self.context.compute(node, given) for node, given in zip(nodes, inputs, strict=True)]


class Recalling:
    """Looks in the store first; what is not there is computed, and kept.

    What is to be rebuilt is computed with what is missing and held in memory alone. Where nothing is missing
    it stays a description, whose inputs are in the store.

    What was computed together with a value that is not finite is not kept: a run
    that meets the same keys later finds out again, in the same place.

    Parameters
    ----------
    namespace
        The store's values of this training.
    make_computing
        Returns who computes what is missing, given how to fetch what is not.
    device
        Where torch computes.
    """

    computes = True

    def __init__(
        self, namespace: "Namespace", make_computing: Callable[[Fetch], Computing], device: str
    ) -> None:
        self._namespace = namespace
        self._computing = make_computing(lambda ref: namespace.get(ref.key, device))
        self.num_recalled = 0

    @property
    def fallback_reason(self) -> str | None:
        """Why nodes that were to be computed together were not."""
        return self._computing.fallback_reason

    @property
    def num_computed(self) -> int:
        """Nodes computed so far."""
        return self._computing.num_computed

    def materialise(self, keep: Sequence[Ref], read: Sequence[Ref]) -> list[Any]:
        """Recall or compute everything below ``keep`` and ``read``."""
        rebuilt = [one for one in keep if one.node.is_rebuilt]
        keep = [one for one in keep if not one.node.is_rebuilt]
        wanted = (*keep, *read)
        if self._missing(wanted):
            self._namespace.refresh()  # another process may have computed it by now
        missing = self._missing(wanted)
        if not missing:
            return self._materialise(keep, read, rebuilt)
        with self._namespace.locked([one.key for one in missing]):
            self._namespace.refresh()
            return self._materialise(keep, read, rebuilt)

    def _missing(self, wanted: Iterable[Ref]) -> list[Ref]:
        return [one for one in wanted if one.key not in self._namespace]

    def _materialise(self, keep: Sequence[Ref], read: Sequence[Ref], rebuilt: Sequence[Ref]) -> list[Any]:
        missing_keep, missing_read = self._missing(keep), self._missing(read)
        num_nodes = len([one for one in self._computing.uncomputed((*keep, *read)) if not one.is_rebuilt])
        before = self.num_computed
        values: dict[Key, Any] = {}
        if missing_keep or missing_read:
            missing = [*missing_keep, *missing_read]
            try:
                new = self._computing.materialise([*missing_keep, *rebuilt], missing)
            except NotFiniteError as found:
                here = [one.key for one in read if one.key in self._namespace]
                recalled = {key: self._namespace.get(key) for key in here}
                raise NotFiniteError(found.refs, recalled | found.known, found.fault) from found
            values = {one.key: value for one, value in zip(missing, new, strict=True)}
            if not self._computing.not_finite:
                self._namespace.put(self._computing.scalars | values)
        self.num_recalled += max(num_nodes - (self.num_computed - before), 0)
        for one in keep:
            one.node.forget_inputs()
        return [values[one.key] if one.key in values else self._namespace.get(one.key) for one in read]


class TimingOnly:
    """Computes nothing; a run with it is the time plane alone."""

    computes = False
    num_computed = 0
    num_recalled = 0
    fallback_reason: str | None = None

    def materialise(self, keep: Sequence[Ref], read: Sequence[Ref]) -> list[Any]:
        """Forget how the nodes to keep came to be; there are no values to read."""
        for one in keep:
            one.node.forget_inputs()
        return []
