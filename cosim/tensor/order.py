"""The order of a run's spans, and what it depends on; it is kept, as it takes long to find."""

import os
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy
import simpy

from cosim.control.decision import Allocation
from cosim.errors import ScenarioError
from cosim.graph.recall import recalled
from cosim.record.folder import Record
from cosim.scenario.settings import Scenario
from cosim.tensor.program import Program
from cosim.tensor.reading import program_of
from cosim.tensor.refusals import overlapping
from cosim.world import World

MOST_SPANS = 20_000
"""Of an order that is kept."""

_PACKAGE, _LOADED_NS = Path(__file__).parents[1], time.time_ns()
"""The code that plays a run, and about when this process loaded it."""


class Order(NamedTuple):
    """The order of the spans of a run.

    Attributes
    ----------
    program
        The spans.
    decided
        What the allocator decided, but for its grants; with other decisions there are other spans.
    shared
        Links whose whole band one client has at a time.
    """

    program: Program
    decided: str
    shared: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {"program": self.program.to_json(), "decided": self.decided, "shared": sorted(self.shared)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the order from its JSON value."""
        return cls(Program.from_json(value["program"]), value["decided"], frozenset(value["shared"]))


def order_of(scenario: Scenario, world: World) -> Order:
    """Return the order of the spans of a run that has ended, and in which nobody was late.

    Raises
    ------
    ScenarioError
        If what the spans wait for does not say when they begin, or clients share part of their band.
    """
    site, allocation = world.site, world.decisions.current
    assert allocation is not None
    shared, radio = overlapping(allocation.grants), scenario.radio
    timed = {link.name for link in scenario.scheme.links if radio.link(link.name).is_modelled}
    capacities = {name: device.queue_capacity for name, device in site.devices.items()}
    program = program_of(site.log.spans, site.client_names, timed, capacities, shared)
    return Order(program, told_of(allocation), shared)


def told_of(allocation: Allocation) -> str:
    """Return a decision in words, but for its grants."""
    return repr((allocation.cut, allocation.lora_rank, allocation.knobs, allocation.sparsification_ratios))


def kept_order(record: Record, parts: object, find: Callable[[], Order]) -> Order:
    """Return the order of the spans of a run as it is kept; else find it, and keep it unless it is long.

    It is kept for the code that found it: another may play the same scenario otherwise. That there is
    none is kept, too.

    Parameters
    ----------
    record
        The run.
    parts
        What is played that is not of cosim, with its code.
    find
        Finds the order.

    Raises
    ------
    ScenarioError
        If the tensor clock cannot say when a span begins.
    """
    digest = record.manifest.get("digest")
    code = _code()
    if digest is None or code is None:
        return find()
    words = digest, code, numpy.__version__, simpy.__version__, parts
    told = recalled(words, lambda: _told(find), place="orders")
    if isinstance(told, str):
        raise ScenarioError(told)
    return Order.from_json(told)


def _told(find: Callable[[], Order]) -> dict[str, Any] | str:
    """Return an order as a JSON value, or why there is none, which takes as long to find."""
    try:
        return find().to_json()
    except ScenarioError as fault:
        return str(fault)


@cache
def _code() -> tuple[tuple[str, int, int], ...] | None:
    """Return path, size and date of each file of cosim, as this process loaded them.

    None if one has changed since then, or they cannot be read.
    """
    found, open_ = [], [os.fspath(_PACKAGE)]
    try:
        while open_:
            with os.scandir(open_.pop()) as files:
                for one in files:
                    if one.name.endswith(".py"):
                        state = one.stat()
                        if max(state.st_mtime_ns, state.st_ctime_ns) >= _LOADED_NS:
                            return None
                        found.append((one.path, state.st_size, state.st_mtime_ns))
                    elif one.name != "__pycache__" and one.is_dir():
                        open_.append(one.path)
    except OSError:
        return None
    return tuple(sorted(found))
