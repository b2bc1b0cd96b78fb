"""Traces: what was measured of a channel, or recorded of another one, replayed from a file."""

from abc import abstractmethod
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.errors import ScenarioError
from cosim.parts import LONGEST_S, Part, Plane
from cosim.units import NS_PER_S, Floats, Ints, seconds_to_ns

if TYPE_CHECKING:
    from cosim.radio.trace.series import TraceFile

_SHORTEST_NS = 1_000


class Trace(Part):
    """Values over time of each client and link, from a CSV or Parquet file.

    The file has the columns ``time_s``, ``client`` (from 0), ``link`` (a link of the radio, or ``all``)
    and one for the values. The rows of a client and link have increasing times, from 0 on. A value is
    the same on all subchannels. It holds for a block of ``step_s``, and for each block the
    trace is looked up at its beginning. Left out, a block is the longest time of which all times of
    the file are whole multiples, so that nothing of a trace that is held is lost.

    Attributes
    ----------
    between
        ``hold``: a row holds until the next; ``interpolate``: straight in the file's unit from one row
        to the next, which needs ``step_s``.
    at_end
        The last row of a client and link holds for one block. Then: ``refuse``, a run that still sends
        ends with an error; ``hold``, the last row holds on; ``wrap``, it begins again.
    max_gap_s
        Longest time between two rows; without it any.
    """

    plane: ClassVar[Plane] = "time"
    column: ClassVar[str]
    """The column of the values."""

    least: ClassVar[float] = -400.0
    most: ClassVar[float] = 400.0
    """What a value may be."""

    gives: ClassVar[Literal["fading", "gains", "rates"]]
    """What its values are: on top of path loss and shadowing, all of a gain, or rates."""

    takes_place_of: ClassVar[tuple[str, ...]] = ()
    """Settings of the radio that must be left out beside it."""

    file: Path
    between: Literal["hold", "interpolate"] = "hold"
    step_s: float | None = Field(default=None, ge=1e-6, le=LONGEST_S)
    at_end: Literal["refuse", "hold", "wrap"] = "refuse"
    max_gap_s: float | None = Field(default=None, gt=0.0, le=LONGEST_S)

    @model_validator(mode="after")
    def _what_is_interpolated_has_a_step(self) -> Self:
        if self.between == "interpolate" and self.step_s is None:
            raise ValueError(
                "between = 'interpolate' was given without step_s; say how long an interpolated value holds, "
                "such as step_s = 0.01"
            )
        return self

    @abstractmethod
    def gains(self, values: Floats, mean: Floats, noise_w: float) -> Floats:
        """Return linear power gains before a surface, shape (count,).

        Parameters
        ----------
        values
            Of the trace over some blocks, shape (count,); NaN beyond its end.
        mean
            Gains before fading, as modelled, shape (count,).
        noise_w
            Noise over the whole width of the link, W.
        """

    @property
    def block_ns(self) -> int | None:
        """How long a value holds, ns; None of a trace with one row for each client and link.

        Raises
        ------
        ScenarioError
            If the file cannot be read, or its times have no common step.
        """
        if self.step_s is not None:
            return seconds_to_ns(self.step_s)
        step_ns = self._read().step_ns
        if 0 < step_ns < _SHORTEST_NS:
            raise ScenarioError(
                f"radio.trace.step_s: the times of {self.file} have no common step above {_SHORTEST_NS} ns; "
                "give step_s, at whose multiples the trace is looked up."
            )
        return step_ns or None

    @property
    def ends_ns(self) -> int | None:
        """When it is over for the first client and link, ns; None where it goes on for ever."""
        block_ns = self.block_ns
        if self.at_end != "refuse" or block_ns is None:
            return None
        return min(_end_ns(one.time_ns, block_ns) for one in self._read().series.values())

    @property
    def why_over(self) -> str | None:
        """What to say of a run that goes on beyond the end; None where there is none."""
        if self.ends_ns is None:
            return None
        return (
            f"radio.trace: {self.file} ends at {self.ends_ns / NS_PER_S:g} s, and the run still sends then; "
            "give a longer trace, or set at_end = 'hold' or 'wrap'."
        )

    @property
    def note(self) -> str:
        """What a user must know of it, in a sentence."""
        read, block_ns = self._read(), self.block_ns
        clients, links = {client for client, _ in read.series}, {link for _, link in read.series}
        instead = {
            "fading": "in place of fading",
            "gains": "in place of path loss, shadowing and fading",
            "rates": "in place of a rate model",
        }[self.gives]
        told = f"radio.trace replays {self.column} of {self.file.name} {instead}, {len(clients)} client(s)"
        told += f" on {', '.join(sorted(links))}"
        if block_ns is None:
            return f"{told}: one value of each for the whole run."
        ends_s = sorted(_end_ns(one.time_ns, block_ns) / NS_PER_S for one in read.series.values())
        lasts = f"{ends_s[0]:g} s" if ends_s[0] == ends_s[-1] else f"{ends_s[0]:g} to {ends_s[-1]:g} s"
        ends = {
            "refuse": "and a run that sends after that ends with an error",
            "hold": "after that the last value holds",
            "wrap": "after that it begins again",
        }[self.at_end]
        how = "held" if self.between == "hold" else "interpolated"
        return f"{told}: {lasts}, {how} for {block_ns / NS_PER_S:g} s each, {ends}."

    def values(self, client: int, link: str, time_ns: Ints) -> Floats:
        """Return the values at beginnings of blocks, shape (count,); NaN beyond an end that is refused.

        Raises
        ------
        ScenarioError
            If the file has no rows of that client on that link.
        """
        series, block_ns = self._read().of(client, link), self.block_ns
        if series is None:
            raise ScenarioError(f"radio.trace: {self._lacks(client, link)}")
        if block_ns is None:
            return np.full(len(time_ns), series.values[0])
        end_ns = _end_ns(series.time_ns, block_ns)
        at_ns = time_ns % end_ns if self.at_end == "wrap" else time_ns
        if self.between == "interpolate":
            found = np.interp(at_ns, series.time_ns, series.values)
        else:
            found = series.values[np.searchsorted(series.time_ns, at_ns, side="right") - 1]
        return np.where(time_ns >= end_ns, np.nan, found) if self.at_end == "refuse" else np.asarray(found)

    def refuse_what_lacks(self, num_clients: int, needed: Iterable[str], links: Collection[str]) -> None:
        """Refuse a file with rows of clients or links that are not there, or without rows that are needed.

        Parameters
        ----------
        needed, links
            Links that are sent over, and all that the radio has.

        Raises
        ------
        ScenarioError
            With the first that is.
        """
        from cosim.radio.trace.series import EVERY_LINK

        read = self._read()
        for (client, link), one in read.series.items():
            if client >= num_clients:
                raise ScenarioError(
                    f"{one.place}: there is no client {client}; there are clients 0 to {num_clients - 1}, so "
                    "leave its rows out or set clients.count."
                )
            if link not in (*links, EVERY_LINK):
                raise ScenarioError(
                    f"{one.place}: there is no link {link!r}; there are {', '.join(links)}, and "
                    f"{EVERY_LINK!r} for those without rows of their own."
                )
        for link in needed:
            for client in range(num_clients):
                if read.of(client, link) is None:
                    raise ScenarioError(f"radio.trace: {self._lacks(client, link)}")

    def _lacks(self, client: int, link: str) -> str:
        return f"{self.file} has no rows of client {client} on {link}; add some, or rows of the link 'all'."

    def _read(self) -> "TraceFile":
        from cosim.radio.trace.series import read_trace

        return read_trace(self.file, self.column, (self.least, self.most), self.max_gap_s)


def _end_ns(time_ns: Ints, block_ns: int) -> int:
    """Return the end of the block that the last row is in."""
    return (int(time_ns[-1]) // block_ns + 1) * block_ns
