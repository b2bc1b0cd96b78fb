"""The executor that computes the works of several clients in one call."""

import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

from cosim.learning.executor import Computes, Computing, Fetch
from cosim.learning.work import Work

_log = logging.getLogger(__name__)

_ONE_BY_ONE = ("transmit",)
"""Operations in groups only so that those around them stay together: codecs pack bits on the CPU."""

_DROPOUT = "LoRA dropout is drawn from a stream of each client's own"


class ComputesTogether(Computes, Protocol):
    """Knows besides how works of one kind are computed in one call.

    The values it takes and gives may be rows of stacks; ``plain`` makes ordinary ones of them.
    """

    def together(self, works: Sequence[Work], inputs: Sequence[list[Any]]) -> list[dict[str, Any]]:
        """Return the fields of each work's value; works are of one :func:`kind`, inputs as for one work."""

    def plain(self, value: Any) -> Any:
        """Return a value that shares memory with no other client's."""


class Batched(Computing):
    """Computes works of equal shape, for different clients, in one call with stacked adapters.

    Agrees with :class:`~cosim.learning.executor.Sequential` up to the rounding
    of sums that are added up in another order. A call always has the same number
    of slots, idle ones filled, so that the kernels are the same ones and the last
    bit of a value does not hang on who else is in the group. What cannot be
    stacked is computed one by one, and ``fallback_reason`` says why.

    Parameters
    ----------
    make_trainer
        As for ``Sequential``.
    max_group
        Slots of a call, and so most mini-batches whose graphs are alive at one time;
        with one slot all are computed one by one.
    fetch, goes_on
        As for :class:`~cosim.learning.executor.Computing`.
    """

    def __init__(
        self,
        make_trainer: Callable[[], ComputesTogether],
        max_group: int,
        fetch: Fetch | None = None,
        *,
        goes_on: bool = False,
    ) -> None:
        super().__init__(fetch, goes_on=goes_on)
        if max_group < 1:
            raise ValueError(f"a group holds at least one work, not {max_group}")
        self._make_trainer = make_trainer
        self._trainer: ComputesTogether | None = None
        self._max_group = max_group
        self._unstackable: set[str] = set()

    def _groups(self, works: Sequence[Work]) -> Iterable[Sequence[Work]]:
        if any(work.settings.get("dropout") is not None for work in works):
            self._fall_back(_DROPOUT)
        return plan(works, self._max_group)

    def _compute(self, works: Sequence[Work], inputs: Sequence[list[Any]]) -> Sequence[dict[str, Any]]:
        if self._trainer is None:
            self._trainer = self._make_trainer()
        operation = works[0].operation
        is_stackable = operation not in (*_ONE_BY_ONE, *self._unstackable) and kind(works[0]) is not None
        if self._max_group > 1 and is_stackable:
            idle = self._max_group - len(works) if operation != "client_backward" else 0
            try:
                filled = [*works, *[works[0]] * idle], [*inputs, *[inputs[0]] * idle]
                return self._trainer.together(*filled)[: len(works)]
            except (
                Exception
            ) as fault:  # a model may refuse in any way; a fault of ours comes again one by one
                if operation == "client_backward":  # goes back through all slots of its forward pass
                    raise  # torch can go back wherever it went forward; and the graphs are used up
                self._unstackable.add(operation)
                lines = str(fault).strip().splitlines() or [""]
                self._fall_back(f"{operation}: {type(fault).__name__}: {lines[0]}")
        return [self._trainer(work, given) for work, given in zip(works, inputs, strict=True)]

    def _plain(self, value: Any) -> Any:
        return value if self._trainer is None else self._trainer.plain(value)

    def _fall_back(self, reason: str) -> None:
        if self.fallback_reason is None:
            self.fallback_reason = reason
            _log.warning("computed client by client, not together: %s", reason)


def kind(work: Work) -> Hashable | None:
    """Return what must be equal for works to be computed in one group; None for those that never are."""
    told = work.settings
    if work.operation in _ONE_BY_ONE:
        return work.operation
    if work.operation == "client_backward":
        forward = kind(_forward(work))
        step = (repr(told["optimizer"]), told["step"], told["num_steps"])
        return None if forward is None else (work.operation, forward, step)
    if work.operation not in ("client_forward", "server_exchange", "whole_gradient"):
        return None
    if told["dropout"] is not None:
        return None
    of_the_side = (told.get("frozen"), told.get("rank"), len(work.inputs))
    return work.operation, told.get("cut_layer"), len(told["batch"]["rows"]), *of_the_side


def plan(works: Sequence[Work], max_group: int) -> list[list[Work]]:
    """Return works in groups to compute one after the other, each of one kind and at most ``max_group``.

    The earliest work that is ready leads, and takes along the next ready ones
    of its kind. Described client by client, as schemes do it, a group goes
    forward, through the server and back before the next one begins.
    """
    place = {work.key: number for number, work in enumerate(works)}
    readers: defaultdict[int, list[int]] = defaultdict(list)
    missing = [0] * len(works)
    for number, work in enumerate(works):
        for parent in {place[one.work.key] for one in work.inputs if one.work.key in place}:
            readers[parent].append(number)
            missing[number] += 1
    kinds = [kind(work) for work in works]
    ready = [number for number, count in enumerate(missing) if not count]
    alike: defaultdict[Hashable, list[int]] = defaultdict(list)
    for number in ready:
        alike[kinds[number]].append(number)
    heapify(ready)
    groups: list[list[Work]] = []
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
        groups.append([works[number] for number in group])
        for number in (reader for one in group for reader in readers[one]):
            missing[number] -= 1
            if not missing[number]:
                heappush(ready, number)
                heappush(alike[kinds[number]], number)
    return _there_and_back(groups)


def _there_and_back(groups: Sequence[list[Work]]) -> list[list[Work]]:
    """Part groups so that those who went forward together also come back together.

    Their stack has one graph. Where the ways of clients part in between, as in
    split learning one client after the other, a graph of all would have to be
    walked once for each.
    """
    place = {work.key: number for number, group in enumerate(groups) for work in group}
    ways: dict[str, tuple[int, int]] = {}
    for work in (work for group in groups for work in group if work.operation == "client_backward"):
        forward = _forward(work).key
        if forward in place:
            ways[work.key] = ways[forward] = (place[forward], place[work.key])
    return [part for group in groups for part in _parted(group, ways)]


def _parted(group: Sequence[Work], ways: Mapping[str, Hashable]) -> Iterable[list[Work]]:
    parts: defaultdict[Hashable, list[Work]] = defaultdict(list)
    for work in group:
        parts[ways.get(work.key)].append(work)
    return parts.values()


def _forward(backward: Work) -> Work:
    """Return the forward pass a backward pass goes back through."""
    return next(one.work for one in backward.inputs if one.field == "activations")
