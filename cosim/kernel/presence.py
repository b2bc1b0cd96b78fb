"""Presence: when somebody is there, and how long work takes of who comes and goes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cosim.errors import ScenarioError
from cosim.kernel.job import NEVER_NS
from cosim.units import NS_PER_S

OnLeave = Literal["resume", "restart", "drop"]
"""What becomes of work whose owner leaves: it goes on, begins again, or is given up."""

MOST_CUTS = 100_000
"""Work that is cut more often than this never ends."""


class Away(NamedTuple):
    """A time in which somebody is away, ns; ``back_ns`` is :data:`NEVER_NS` for good."""

    leaves_ns: int
    back_ns: int


class Work(NamedTuple):
    """What came of a piece of work.

    Attributes
    ----------
    end_ns
        When it ended, or was given up.
    worked_ns, away_ns
        How long its owner worked on it, work that was lost included, and was away meanwhile.
    is_done
        Whether it ended.
    """

    end_ns: int
    worked_ns: int
    away_ns: int
    is_done: bool


@dataclass(eq=False)
class Comings:
    """When one actor is away: times in order that do not touch, each asked for once.

    Examples
    --------
    >>> phone = Comings("client-0", iter([Away(10, 15), Away(30, 40)]), "restart")
    >>> phone.back_ns(12), phone.back_ns(15), phone.leaves_ns(15)
    (15, 15, 30)
    >>> phone.work(5, 20)
    Work(end_ns=60, worked_ns=40, away_ns=15, is_done=True)
    >>> phone.last_attempt(5, 60)
    (40, 20)
    """

    name: str
    times: Iterator[Away]
    on_leave: OnLeave

    def __post_init__(self) -> None:
        self._known: list[Away] = []
        self._first = 0

    def next_away(self, now_ns: int) -> Away | None:
        """Return the first time away that is not over at an instant; None if there is none any more."""
        if self._first and self._known[self._first - 1].back_ns > now_ns:
            self._first = 0
        while True:
            while self._first < len(self._known):
                if self._known[self._first].back_ns > now_ns:
                    return self._known[self._first]
                self._first += 1
            following = next(self.times, None)
            if following is None:
                return None
            self._known.append(following)

    def back_ns(self, now_ns: int) -> int:
        """Return when it is there again: now, if it is."""
        away = self.next_away(now_ns)
        return now_ns if away is None or away.leaves_ns > now_ns else away.back_ns

    def leaves_ns(self, now_ns: int) -> int | None:
        """Return when it leaves next: now, if it is away; None if it never does."""
        away = self.next_away(now_ns)
        return None if away is None else max(away.leaves_ns, now_ns)

    def work(self, start_ns: int, duration_ns: int) -> Work:
        """Return what comes of work that begins while it is there.

        Raises
        ------
        ScenarioError
            If it is cut so often that it never ends.
        """
        now_ns, left_ns, worked_ns, away_ns = start_ns, duration_ns, 0, 0
        for _ in range(MOST_CUTS):
            leaves_ns = self.leaves_ns(now_ns)
            if leaves_ns is None or now_ns + left_ns <= leaves_ns:
                return Work(now_ns + left_ns, worked_ns + left_ns, away_ns, True)
            worked_ns += leaves_ns - now_ns
            if self.on_leave == "drop":
                return Work(leaves_ns, worked_ns, away_ns, False)
            left_ns = duration_ns if self.on_leave == "restart" else left_ns - (leaves_ns - now_ns)
            now_ns = self.back_ns(leaves_ns)
            away_ns += now_ns - leaves_ns
            if now_ns >= NEVER_NS:
                return Work(NEVER_NS, worked_ns, 0, False)
        raise ScenarioError(self.never_ends(f"work of {duration_ns / NS_PER_S:g} s"))

    def last_attempt(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Return since when work that begins again went on without a break, and how long was lost, ns."""
        begun_ns, lost_ns = start_ns, 0
        while (leaves_ns := self.leaves_ns(begun_ns)) is not None and leaves_ns < end_ns:
            lost_ns += leaves_ns - begun_ns
            begun_ns = self.back_ns(leaves_ns)
        return begun_ns, lost_ns

    def never_ends(self, what: str) -> str:
        """Return what to say of what this actor begins again and again."""
        resume = "" if self.on_leave == "resume" else ", or set availability.on_leave = 'resume'"
        return f"{self.name}: leaves {MOST_CUTS} times during {what}; let it be there for longer{resume}."


class Presence:
    """When each actor is there; who is not named always is.

    ``skips``: who is away when a round begins is left out of it.
    """

    def __init__(self, actors: Mapping[str, Comings], *, skips: bool = False) -> None:
        self._actors, self.skips = actors, skips

    @property
    def drops(self) -> bool:
        """Whether what anybody leaves is given up."""
        return any(one.on_leave == "drop" for one in self._actors.values())

    def of(self, actor: str) -> Comings | None:
        """Return when an actor is away; None if it always is there."""
        return self._actors.get(actor)

    def is_here(self, actor: str, now_ns: int) -> bool:
        """Return whether an actor is there."""
        return self.back_ns((actor,), now_ns) == now_ns

    def back_ns(self, actors: tuple[str, ...], now_ns: int) -> int:
        """Return when all of some actors are there together: now, if they are."""
        found = [one for name in actors if (one := self._actors.get(name)) is not None]
        time_ns = now_ns
        while True:
            latest_ns = max((one.back_ns(time_ns) for one in found), default=time_ns)
            if latest_ns in (time_ns, NEVER_NS):
                return latest_ns
            time_ns = latest_ns

    def first_leaving(self, actors: tuple[str, ...], now_ns: int) -> tuple[int, Comings] | None:
        """Return when the first of some actors leaves, and who; None if none ever does."""
        leaving = [
            (leaves_ns, one)
            for name in actors
            if (one := self._actors.get(name)) is not None
            and (leaves_ns := one.leaves_ns(now_ns)) is not None
        ]
        return min(leaving, key=lambda pair: pair[0], default=None)

    def attempts(
        self, actors: tuple[str, ...], start_ns: int, duration_ns: int, edge_ns: int = 1
    ) -> Iterator[tuple[int, int]]:
        """Return beginning and end, ns, of each attempt at what takes all of some actors from first to last.

        An attempt begins at a multiple of ``edge_ns`` when all are there, and ends as the first leaves; the
        last one is whole, or begins at :data:`NEVER_NS` as somebody never comes back.

        Raises
        ------
        ScenarioError
            If it is cut so often that it never ends.
        """
        now_ns = start_ns
        for _ in range(MOST_CUTS):
            now_ns = self.back_ns(actors, now_ns)
            now_ns += -now_ns % edge_ns
            leaving = self.first_leaving(actors, now_ns) if now_ns < NEVER_NS else None
            if leaving is None or leaving[0] >= now_ns + duration_ns:
                yield now_ns, now_ns + duration_ns
                return
            if leaving[0] > now_ns:
                yield now_ns, leaving[0]
            now_ns, who = leaving
        raise ScenarioError(who.never_ends(f"what takes all for {duration_ns / NS_PER_S:g} s"))

    def why_gone(self, now_ns: int) -> str | None:
        """Return what to say if nothing can happen as somebody has left for good; None if nobody has."""
        gone = next((one for one in self._actors.values() if one.back_ns(now_ns) >= NEVER_NS), None)
        if gone is None:
            return None
        return (
            f"{gone.name}: has left at {now_ns / NS_PER_S:g} s or before, never comes back, and is waited "
            "for; let it come back, or set availability.at_start = 'skip' and on_leave = 'drop'."
        )
