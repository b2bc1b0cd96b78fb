"""A queue in front of a number of places, served in order of arrival."""

from collections import deque
from heapq import heappop, heappush

from simpy.events import Event

from cosim.kernel.clock import Clock


class Queue:
    """``capacity`` places; who finds none waits, first come first served.

    Unlike :class:`simpy.Resource` it tells those who waited which span made room,
    so that the wait has a cause in the record. Who asks at the same instant is served in
    the order of the clients, whichever asked first in the order of events: places are
    given at the end of the instant.

    Parameters
    ----------
    clock, capacity, name
        Simulated time, number of places, and what it is called.
    is_shared
        Whether several clients can ask at one instant; where they cannot, a free place is taken at once.
    """

    def __init__(self, clock: Clock, capacity: int, name: str, *, is_shared: bool = False) -> None:
        self._clock, self._name, self._is_shared = clock, name, is_shared
        self._free = capacity
        self._made_room: deque[int] = deque()  # spans that ended now
        self._waiting: list[tuple[int, int, int, Event]] = []  # asked at, client, number, turn
        self._num_asked, self._is_due = 0, False

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def enter(self, client: int = 0) -> Event | None:
        """Take a place at once, or return the event of having one.

        Its value is the span that made room, None where a place was free.
        """
        if self._free and not self._is_shared:
            self._free -= 1
            return None
        turn = self._clock.event(f"a place at {self._name}")
        self._num_asked += 1
        heappush(self._waiting, (self._clock.now, client, self._num_asked, turn))
        if self._free:
            self._serve_at_end()
        return turn

    def leave(self, span: int) -> None:
        """Give the place up after ``span``; the first in the queue has it at this instant."""
        if self._is_shared:
            self._made_room.append(span)
            self._serve_at_end()
        elif self._waiting:
            heappop(self._waiting)[-1].succeed(span)
        else:
            self._free += 1

    def _serve_at_end(self) -> None:
        """Give free places away when everybody who asks at this instant has."""
        if not self._is_due:
            self._is_due = True
            self._clock.end_of_instant().callbacks.append(self._serve)

    def _serve(self, _event: Event) -> None:
        self._is_due = False
        while self._waiting and (self._free or self._made_room):
            span = None
            if self._free:
                self._free -= 1
            else:
                span = self._made_room.popleft()
            heappop(self._waiting)[-1].succeed(span)
        self._free += len(self._made_room)
        self._made_room.clear()
