"""Nodes: computations of the value plane, added to the graph before they are computed.

A :class:`Node` says which operation, on which inputs, under which parameters. Its
key is a hash of everything that decides its value and of nothing about time,
radio or device speed, so two runs that meet the same key have the same value.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import count
from typing import Any, NamedTuple

from cosim.graph.code_identity import code_key, code_of
from cosim.graph.operation import Operation
from cosim.parts import Table


class Values(dict[str, Any]):
    """The fields that are held of one key; they live as long as a node of that key does."""

    __slots__ = ("__weakref__",)


class Node:
    """One computation.

    Attributes
    ----------
    operation
        What is computed.
    inputs
        Fields of other nodes it reads; empty once the node was materialised.
    params
        Further parameters of the operation: plain numbers, texts, lists and tables, in a fixed order.
    key
        Hex; decides the value.
    order
        Place in the order of addition: a node comes after its inputs.
    values
        The fields that are held, None before any is.
    is_materialised
        Whether its fields are held here or in the store, and its inputs are forgotten.
    context
        Which of the contexts of a training computes it; it decides nothing that is not in the key.
    is_rebuilt
        Whether the store leaves its fields out, as they can be computed again from what it keeps.
    """

    __slots__ = (
        "__weakref__",
        "context",
        "inputs",
        "is_materialised",
        "is_rebuilt",
        "key",
        "operation",
        "order",
        "params",
        "values",
    )

    def __init__(
        self,
        operation: Operation,
        inputs: tuple["Ref", ...],
        params: dict[str, Any],
        key: str,
        order: int,
        context: int = 0,
    ) -> None:
        self.operation = operation
        self.inputs = inputs
        self.params = params
        self.key = key
        self.order = order
        self.values: Values | None = None
        self.is_materialised = False
        self.context = context
        self.is_rebuilt = False

    def ref(self, field: str) -> "Ref":
        """Return one named field of this node's value."""
        return Ref(self, field)

    def forget_inputs(self) -> None:
        """Let go of how the value came to be; memory then does not grow with what was computed before."""
        self.inputs = ()
        self.is_materialised = True


class Params:
    """Parameters that many nodes share, written out once: their repr takes longer than the rest of a key.

    Parameters
    ----------
    entries
        Plain values by name.
    code
        Hash of the code that makes something of them, where it is not that of the operation.
    """

    def __init__(self, entries: Mapping[str, Any], code: str | None = None) -> None:
        self.entries = dict(entries)
        self._repr = repr(self.entries if code is None else (self.entries, code))

    @classmethod
    def of(cls, part: Table, exclude: frozenset[str] = frozenset()) -> "Params":
        """Return the settings of a part, and the code they are settings of."""
        return cls(part.model_dump(mode="json", exclude=set(exclude)), code_of(part))

    def __repr__(self) -> str:
        return self._repr

    def __getitem__(self, name: str) -> Any:
        return self.entries[name]


class Ref(NamedTuple):
    """One named field of a node's value."""

    node: Node
    field: str

    @property
    def key(self) -> tuple[str, str]:
        """What the value is known under here and in the store: key of the node, and field."""
        return self.node.key, self.field


class Graph:
    """Takes nodes, numbering them in the order of addition.

    Parameters
    ----------
    context_modules
        Full names of the modules whose code the bodies of operations compute with. Like the
        module an operation is written in, it is part of every key.
    """

    def __init__(self, *context_modules: str) -> None:
        self._order = count()
        self._context_modules = context_modules
        self._codes: dict[str, str] = {}
        self._heads: dict[Operation, str] = {}
        self._context = 0

    def beside(self, context: int) -> "Graph":
        """Return a graph whose nodes are computed in another context, numbered along with those of this."""
        graph = Graph(*self._context_modules)
        graph._order, graph._context = self._order, context
        graph._codes, graph._heads = self._codes, self._heads
        return graph

    def add(self, operation: Operation, inputs: Sequence[Ref] = (), **params: Any) -> Node:
        """Return the node of a computation; nothing is computed."""
        head = self._heads.get(operation) or self._head(operation)
        read = ", ".join([f"({node.key!r}, {field!r})" for node, field in inputs])
        # repr of plain numbers and texts is exact, and several times faster than json; this is the repr of
        # the tuple (name, code, inputs, parameters), whose first two are formatted once per operation
        content = f"({head}, [{read}], {params!r})"
        key = blake2b(content.encode(), digest_size=16).hexdigest()
        return Node(operation, tuple(inputs), params, key, next(self._order), self._context)

    def _head(self, operation: Operation) -> str:
        """Return what all keys of an operation have in common: its name, and the hash of the code it runs."""
        module = operation.module
        if module not in self._codes:
            self._codes[module] = code_key(module, *self._context_modules)
        self._heads[operation] = head = f"{operation.name!r}, {self._codes[module]!r}"
        return head
