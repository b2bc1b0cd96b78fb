"""Operations: the kinds of computation of the value plane, each registered where it is written.

A module that declares operations imports no heavy library: a body imports what
it computes with when it is called, so that a graph can be built without it.
"""

from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cosim.graph.node import Node

Fields = dict[str, Any]
"""The value of a node: numbers, tensors by name or raw bytes, by the name of the field."""

Body = Callable[..., Fields]
"""``body(context, params, *inputs)`` returns the fields of one node's value.

It is a pure function: what it is given stays as it was. ``context`` is what the
executor was built with.
"""

BatchBody = Callable[..., list[Fields]]
"""``body(context, nodes, *inputs)`` returns the fields of each node of a group.

Each of ``inputs`` is a list with one value for each node.
"""

_REGISTERED: dict[str, "Operation"] = {}


class Operation:
    """One kind of computation.

    Attributes
    ----------
    name
        Part of the key of every node of this kind.
    group
        ``group(node)`` returns what must be equal for nodes to be computed in one
        group, None for a node that is computed by itself.
    goes_back_through
        Name of an input field whose node this one goes back through, such as the
        forward pass of a backward pass. The groups of both then hold the same
        clients, and slots of this operation are not filled up.
    state
        Fields of tensors that later nodes build on; a training ends where one is not finite.
    passing
        Fields of tensors that a state takes in; looked at only where that state is not finite.
    may_overflow
        Numbers that can be infinite although the training is sound.
    """

    def __init__(
        self,
        name: str,
        body: Body,
        group: Callable[["Node"], Hashable | None] | None,
        goes_back_through: str | None,
        state: Collection[str],
        may_overflow: Collection[str],
        passing: Collection[str] = (),
    ) -> None:
        self.name = name
        self.body = body
        self.group = group
        self.goes_back_through = goes_back_through
        self.state = frozenset(state)
        self.passing = frozenset(passing)
        self.may_overflow = frozenset(may_overflow)
        self.batch_body: BatchBody | None = None
        self.module = body.__module__

    def together(self, body: BatchBody) -> BatchBody:
        """Register how a group of nodes is computed in one call; without it they are computed one by one."""
        self.batch_body = body
        return body

    def __repr__(self) -> str:
        return f"<operation {self.name!r} of {self.module}>"


def operation(
    name: str,
    *,
    group: Callable[["Node"], Hashable | None] | None = None,
    goes_back_through: str | None = None,
    state: Collection[str] = (),
    passing: Collection[str] = (),
    may_overflow: Collection[str] = (),
) -> Callable[[Body], Operation]:
    """Register the decorated function as the body of an operation.

    Raises
    ------
    ValueError
        If another module has registered an operation of this name.

    Examples
    --------
    >>> @operation("doctest_double")
    ... def double(context, params, number):
    ...     return {"number": 2 * number}
    >>> double.body(None, {}, 4)
    {'number': 8}
    """

    def register(body: Body) -> Operation:
        known = _REGISTERED.get(name)
        if known is not None and (known.module, known.body.__qualname__) != (
            body.__module__,
            body.__qualname__,
        ):
            raise ValueError(
                f"two operations have the name {name!r}: {known.module}.{known.body.__qualname__} and "
                f"{body.__module__}.{body.__qualname__}; give one of them another name"
            )
        _REGISTERED[name] = Operation(name, body, group, goes_back_through, state, may_overflow, passing)
        return _REGISTERED[name]

    return register


def registered() -> dict[str, Operation]:
    """Return the operations registered so far, by name."""
    return dict(sorted(_REGISTERED.items()))
