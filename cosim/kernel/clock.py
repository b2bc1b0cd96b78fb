"""The clock: SimPy in integer nanoseconds, with names for those who wait."""

import gc
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from heapq import heappop
from typing import Any, cast

import simpy
from simpy.events import Condition, Event, Process

from cosim.errors import StalledError

_ALLOCATIONS = 50_000  # between two looks for garbage while time passes
_AFTER_ALL_ELSE = 9  # of the events of one instant; SimPy's own have 0 and 1

Steps = Generator[Event, Any, Any]


class Awaited(Event):
    """An event somebody must bring about, with a name for it."""

    def __init__(self, environment: simpy.Environment, what: str) -> None:
        super().__init__(environment)
        self.what = what


class All(Event):
    """Happens when all of some events have; SimPy's own gathers their values, which nobody asks for."""

    def __init__(self, environment: simpy.Environment, events: Iterable[Event]) -> None:
        super().__init__(environment)
        self._events = tuple(events)
        self._num_open = 0
        for event in self._events:
            if not event.processed:
                event.callbacks.append(self._count)
                self._num_open += 1
        if not self._num_open:
            self.succeed()

    def _count(self, _event: Event) -> None:
        self._num_open -= 1
        if not self._num_open:
            self.succeed()


class Clock:
    """Simulated time of one run, in integer nanoseconds from zero.

    Floats would drift (2000 times 0.1 s is not 200 s). Events at one instant
    are served in the order in which they were scheduled.

    Attributes
    ----------
    now
        Simulated time, ns.

    Examples
    --------
    >>> clock = Clock()
    >>> def nap():
    ...     yield clock.timeout(5)
    >>> clock.run(clock.process(nap(), "nap"))
    >>> clock.now
    5
    """

    def __init__(self) -> None:
        self._environment = simpy.Environment(initial_time=0)
        self.now = 0
        self._alive: dict[Event, str] = {}

    def timeout(self, delay_ns: int, value: Any = None) -> Event:
        """Return an event that happens ``delay_ns`` from now."""
        return self._environment.timeout(delay_ns, value)

    def event(self, what: str) -> Event:
        """Return an event somebody must bring about; ``what`` names it if nobody ever does."""
        return Awaited(self._environment, what)

    def process(self, steps: Steps, name: str) -> Process:
        """Start ``steps`` at this instant; ``name`` says who it is when it never ends."""
        process = self._environment.process(steps)
        self._alive[process] = name
        process.callbacks.append(self._ended)
        return process

    def end_of_instant(self) -> Event:
        """Return an event that happens when all else has that happens now, without time passing."""
        event = Event(self._environment)
        event._ok, event._value = True, None
        self._environment.schedule(event, priority=_AFTER_ALL_ELSE)  # type: ignore[arg-type]  # any whole number
        return event

    def all_of(self, events: Iterable[Event]) -> Event:
        """Return an event that happens when all of ``events`` have."""
        return All(self._environment, events)

    def any_of(self, events: Iterable[Event]) -> Condition:
        """Return an event that happens when the first of ``events`` does."""
        return self._environment.any_of(events)

    def after(self, delay_ns: int, then: Callable[[], None]) -> None:
        """Call ``then`` at ``delay_ns`` from now."""
        self._environment.timeout(delay_ns).callbacks.append(lambda _event: then())

    def run(self, until: Process) -> None:
        """Let time pass until ``until`` ends, and no further: timers left over are not waited for.

        A fault in any process, waited for or not, ends the run and comes out as it was raised.

        Raises
        ------
        StalledError
            If nothing is left to happen before ``until`` ends; names who waits for what.
        """
        environment = self._environment
        queue: list[tuple[int, int, int, Any]] = cast(Any, environment)._queue
        with _seldom_collecting():
            while until.callbacks is not None:
                if not queue:
                    raise StalledError(self._who_waits())
                now_ns, _, _, event = heappop(queue)
                environment._now = self.now = now_ns
                callbacks, event.callbacks = event.callbacks, None
                for callback in callbacks:
                    callback(event)
                if not event._ok and not hasattr(event, "_defused"):
                    raise cast(BaseException, event._value)

    def _ended(self, process: Event) -> None:
        """Forget a process; one that failed ends the run with the very exception it raised.

        Left alone, SimPy would hand those who wait a copy made from the
        exception's ``args``, which not every class can be made from.
        """
        del self._alive[process]
        if not process._ok:
            raise cast(BaseException, process.value)

    def _who_waits(self) -> str:
        alive = ((cast(Process, process), name) for process, name in self._alive.items())
        waits = [f"{name} waits for {self._what(process.target)}" for process, name in alive]
        return f"nothing can happen any more at {self.now / 1e9:.9g} s: " + "; ".join(waits) + "."

    def _what(self, event: Event | None) -> str:
        """Name what a process waits for, through conditions down to what is still open."""
        if isinstance(event, All | Condition):
            return " and ".join(self._what(part) for part in event._events if not part.processed)
        if isinstance(event, Process):
            return self._alive.get(event, "a process")
        return event.what if isinstance(event, Awaited) else "a timer"


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """Look for garbage less often: nearly all that a run makes stays until it ends."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _ALLOCATIONS) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
