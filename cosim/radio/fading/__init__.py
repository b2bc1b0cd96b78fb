"""Fast fading: how the gain of a link moves around its mean, block by block."""

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.parts import LONGEST_S, Part, Plane
from cosim.rng import Stream, stream
from cosim.units import Floats, seconds_to_ns


class Fading(Part):
    """Power gains of mean one that hold still for a block and may change at the next.

    Block ``b`` lasts from ``b * block_ns`` to ``(b + 1) * block_ns``. A gain
    depends on the stream and the block alone, so any block can be asked for in any order.

    ``selectivity``: ``subchannel`` lets every subchannel fade by itself,
    ``flat`` gives all of them one gain.
    """

    plane: ClassVar[Plane] = "time"
    fades: ClassVar[bool] = True
    """Whether gains differ at all from one link, subchannel or block to another."""

    draws_rows_alone: ClassVar[bool] = False
    """Whether :meth:`draw` makes each gain of the uniforms of its own block and column, to the same bits
    whichever are drawn with it."""

    selectivity: Literal["flat", "subchannel"] = "subchannel"

    @property
    @abstractmethod
    def block_ns(self) -> int | None:
        """How long a gain holds, ns; None where it holds for the whole run."""

    @property
    def follows_mobility(self) -> bool:
        """Whether it changes with how far a client has gone (:meth:`gains_along`) instead of with time."""
        return False

    def gains_over(self, stream: Stream, first: int, count: int, widths_hz: Floats) -> Floats:
        """Return what :meth:`gains` does, of subchannels of these widths side by side, Hz."""
        return self.gains(stream, first, count, len(widths_hz))

    def gains_along(self, stream: Stream, gone: Floats, widths_hz: Floats) -> Floats:
        """Return linear power gains after so many wavelengths of way, shape (count, num_subchannels).

        Parameters
        ----------
        gone
            How far the client has gone, in wavelengths, shape (count,).
        widths_hz
            Width of each subchannel, Hz.
        """
        raise NotImplementedError(f"{self.kind!r} does not follow clients")

    @abstractmethod
    def draw(self, stream: Stream, first: int, count: int, width: int) -> Floats:
        """Return independent series of linear power gains, mean one, shape (count, width).

        Row ``r`` is block ``first + r`` and must not depend on ``first`` or
        ``count`` otherwise; the gains of one row are independent of each other.
        """

    def gains(self, stream: Stream, first: int, count: int, num_subchannels: int) -> Floats:
        """Return the linear power gains of blocks ``first`` to ``first + count - 1``.

        Parameters
        ----------
        stream
            The link's own stream.
        first, count
            First block, at least 0, and number of blocks.
        num_subchannels
            The same at every call, or it is another air.

        Returns
        -------
        ndarray
            Mean one, shape (count, num_subchannels); maybe read-only. Where
            ``block_ns`` is None every row is the same.

        Raises
        ------
        ValueError
            If ``first`` or ``count`` is negative.
        """
        if first < 0 or count < 0:
            raise ValueError(f"blocks count from 0, got first {first} and count {count}")
        width = 1 if self.selectivity == "flat" else num_subchannels
        if self.block_ns is None:
            drawn = self.draw(stream, 0, 1, width)
        else:
            drawn = self.draw(stream, first, count, width)
        return np.broadcast_to(drawn, (count, num_subchannels))

    def exceeding(self, level: Floats) -> Floats:
        """Return how likely a gain is at least so much, of the shape of ``level``.

        From 20,000 draws, unless a part knows its distribution.
        """
        drawn = np.sort(self.draw(stream(0, "fading statistics"), 0, 1, 20_000)[0])
        return np.asarray(1.0 - np.searchsorted(drawn, level) / len(drawn))


class BlockFading(Fading):
    """Fading drawn afresh for each coherence time, independent of the block before.

    ``coherence_time_s``: how long a gain holds; left out, it holds for the whole run.
    """

    coherence_time_s: float | None = Field(default=None, ge=1e-9, le=LONGEST_S)

    @property
    def block_ns(self) -> int | None:
        return None if self.coherence_time_s is None else seconds_to_ns(self.coherence_time_s)
