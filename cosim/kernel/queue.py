"""A queue in front of a number of places, served in order of arrival."""

from collections import deque

from simpy.events import Event

from cosim.kernel.clock import Clock


class Queue:
    """``capacity`` places; who finds none waits, first come first served.

    Unlike :class:`simpy.Resource` it tells those who waited which span made room,
    so that the wait has a cause in the record.
    """

    def __init__(self, clock: Clock, capacity: int, name: str) -> None:
        self._clock = clock
        self._name = name
        self._free = capacity
        self._waiting: deque[Event] = deque()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def enter(self) -> Event | None:
        """Take a place at once, or return the event of having one, whose value is the span that made room."""
        if self._free:
            self._free -= 1
            return None
        turn = self._clock.event(f"a place at {self._name}")
        self._waiting.append(turn)
        return turn

    def leave(self, span: int) -> None:
        """Give the place up after ``span``; the first in the queue has it at this instant."""
        if self._waiting:
            self._waiting.popleft().succeed(span)
        else:
            self._free += 1
