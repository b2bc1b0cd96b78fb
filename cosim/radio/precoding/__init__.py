"""Precoding: with which amplitude each client sends its part of a sum over the air, and who is silent.

Values are laid on resource elements, and an element lies in one block of the
channel and one subchannel. A precoding sees the gains of all of them and says what
part of a client's values arrives there.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar, Literal

import numpy as np

from cosim.parts import Part, Plane
from cosim.radio.fading import Fading
from cosim.rng import stream
from cosim.units import Floats

Unit = Literal["transmission", "symbol", "subchannel"]
"""For how much a client is silent or not: a whole transmission, all subchannels of a block, or each."""

_NUM_SAMPLES = 200_000


@dataclass(frozen=True, eq=False)
class Senders:
    """Those who are ready to send at once, and the air between them and the base station.

    Attributes
    ----------
    gains
        Linear power gains, shape (num_senders, num_blocks, num_subchannels).
    mean_gains
        The same before fading, shape (num_senders,).
    shares
        Share of the resource elements in each block and subchannel, adding up to
        one, shape (num_blocks, num_subchannels).
    weights
        Share of each sender in the sum that is wanted, shape (num_senders,).
    tx_power_w
        What each may radiate on one subcarrier, W, shape (num_senders,).
    fading
        Says how gains move around their means.
    unit, threshold
        For how much a client is silent at once; it is where the harmonic mean of its
        gains, which is what the power of inverting them follows, is below so much of
        its gain before fading.
    """

    gains: Floats
    mean_gains: Floats
    shares: Floats
    weights: Floats
    tx_power_w: Floats
    fading: Fading
    unit: Unit
    threshold: float

    @cached_property
    def harmonic_gains(self) -> Floats:
        """Mean gains for who inverts them, one for each unit, of a shape that broadcasts to that of gains."""
        axes = {"transmission": (-2, -1), "symbol": (-1,), "subchannel": ()}[self.unit]
        return _harmonic(self.gains, self.shares, axes)

    @property
    def is_heard(self) -> Floats:
        """1 where a client is not silent, 0 where it is, in the shape of the harmonic means."""
        least = self.threshold * (1.0 - 1e-12) * self.mean_gains  # equal but for rounding is not below
        wants = (self.weights > 0.0) & (self.tx_power_w > 0.0)
        return np.asarray(wants[:, None, None] * (self.harmonic_gains >= least[:, None, None]), dtype=float)

    def share_above(self) -> Callable[[Floats], Floats]:
        """Return what gives the share of units whose harmonic mean is at least so much of the mean gain."""
        return share_above(self.fading, self.unit, *self.shares.shape)


def share_above(
    fading: Fading, unit: Unit, num_blocks: int, num_subchannels: int
) -> Callable[[Floats], Floats]:
    """Return what gives the share of units whose harmonic mean is at least so much of the mean gain.

    From the distribution of the fading where a unit has one gain; else from draws of
    whole units.
    """
    blocks = num_blocks if unit == "transmission" and fading.block_ns is not None else 1
    width = 1 if unit == "subchannel" or fading.selectivity == "flat" else num_subchannels
    if blocks == width == 1 or not fading.fades:
        return fading.exceeding
    drawn = _sorted_means(fading, blocks, width)
    return lambda levels: np.asarray(1.0 - np.searchsorted(drawn, levels) / len(drawn))


def _harmonic(gains: Floats, shares: Floats, axes: tuple[int, ...]) -> Floats:
    """Return the gain whose inverse is the mean inverse; zero if any that is used is zero."""
    used = np.broadcast_to(shares, gains.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(used > 0.0, used / gains, 0.0).sum(axis=axes, keepdims=True)
        total = used.sum(axis=axes, keepdims=True)
        return np.asarray(np.where(total > 0.0, total / inverse, 0.0))


@lru_cache(maxsize=16)
def _sorted_means(fading: Fading, num_blocks: int, width: int) -> Floats:
    """Return the harmonic means of many drawn units, ascending."""
    count = max(_NUM_SAMPLES // (num_blocks * width), 200)
    drawn = fading.draw(stream(0, "fading statistics"), 0, num_blocks, count * width)
    inverse = (1.0 / drawn).reshape(num_blocks, count, width).mean(axis=(0, 2))
    return np.asarray(np.sort(1.0 / inverse))


@dataclass(frozen=True, eq=False)
class Precoded:
    """What arrives of each sender.

    Attributes
    ----------
    weights
        What part of a sender's values is in the sum that the base station goes on
        with, shape (num_senders, num_blocks, num_subchannels); 0 where it is silent.
    received_w
        Power with which values of full size and weight one would arrive on a subcarrier,
        W, shape (num_blocks, num_subchannels); the base station divides by its root.
        0 where it does not listen.
    """

    weights: Floats
    received_w: Floats


class Precoding(Part):
    """Decides with which amplitude each client sends; a pure function.

    No sender may radiate more than its power in the mean over a unit.
    """

    plane: ClassVar[Plane] = "value"
    truncates: ClassVar[bool] = True
    """Whether who is below the threshold is silent."""
    num_scalars: ClassVar[int] = 0
    """Numbers each sender and the base station must exchange before a sum, each way, for each unit."""
    needs_each_channel: ClassVar[bool] = True
    """Whether the base station must know every sender's channel; else each needs its own alone."""

    @abstractmethod
    def precode(self, senders: Senders) -> Precoded:
        """Return what arrives of each sender, whose values are of the largest size there is."""
