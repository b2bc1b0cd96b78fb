"""Slots: work that goes on in some stretches of every frame and rests in the others."""

from fractions import Fraction

from cosim.kernel.job import NEVER_NS, Rate


class Slots:
    """Slots of equal length, some of them open, in frames that follow one another from time zero.

    Open time is what has passed of open slots; all arithmetic is in whole nanoseconds.

    Parameters
    ----------
    slot_ns
        How long a slot lasts, ns.
    is_open
        Of each slot of a frame, whether it is open; one is.

    Examples
    --------
    >>> slots = Slots(10, (False, True, False))
    >>> [slots.open_ns(time_ns) for time_ns in (5, 15, 25, 45)]
    [0, 5, 10, 15]
    >>> [slots.instant_ns(open_ns) for open_ns in (5, 10, 11)]
    [15, 20, 41]
    """

    def __init__(self, slot_ns: int, is_open: tuple[bool, ...]) -> None:
        self.slot_ns, self.is_open = slot_ns, is_open
        self.frame_ns = slot_ns * len(is_open)
        self.open_of_frame_ns = slot_ns * sum(is_open)
        self._before = [sum(is_open[:number]) for number in range(len(is_open))]
        self._places = [number for number, one in enumerate(is_open) if one]

    def open_ns(self, time_ns: int) -> int:
        """Return how much of the time until an instant was open, ns."""
        frame, rest = divmod(time_ns, self.frame_ns)
        slot, within = divmod(rest, self.slot_ns)
        return frame * self.open_of_frame_ns + self._before[slot] * self.slot_ns + within * self.is_open[slot]

    def instant_ns(self, open_ns: int) -> int:
        """Return the first instant by which so much time was open, ns; ``open_ns`` above 0."""
        frame, rest = divmod(open_ns - 1, self.open_of_frame_ns)
        slot, within = divmod(rest, self.slot_ns)
        return frame * self.frame_ns + self._places[slot] * self.slot_ns + within + 1

    def after_ns(self, start_ns: int, lasts_ns: int) -> int:
        """Return when something ends that begins at an instant and takes so much open time, ns."""
        return self.instant_ns(self.open_ns(start_ns) + lasts_ns) if lasts_ns else start_ns


class SlottedRate:
    """A rate in open time: what drains rests in all other slots.

    Parameters
    ----------
    rate
        How fast it drains, as a function of open time.
    slots
        Which time is open.
    """

    def __init__(self, rate: Rate, slots: Slots) -> None:
        self._rate, self._slots = rate, slots

    def finish_ns(self, amount: Fraction | int, start_ns: int, until_ns: int = NEVER_NS) -> int | None:
        """Return the first whole nanosecond by which ``amount`` has drained."""
        open_ns = self._slots.open_ns(start_ns)
        end_ns = self._rate.finish_ns(amount, open_ns, self._slots.open_ns(until_ns))
        if end_ns is None or end_ns == open_ns:
            return None if end_ns is None else start_ns
        found = self._slots.instant_ns(end_ns)
        return found if found < NEVER_NS else None

    def drained(self, start_ns: int, end_ns: int) -> Fraction:
        """Return what drains between two instants."""
        return self._rate.drained(self._slots.open_ns(start_ns), self._slots.open_ns(end_ns))
