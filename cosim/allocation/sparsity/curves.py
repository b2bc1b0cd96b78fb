"""What is lost by sending less: the energy each client leaves unsent, as a convex falling curve of its bits.

Two shapes. :class:`Stepped` is exact: when pairs are sent in the order of energy
per bit, the rest falls in straight pieces, one a pair. :class:`Exponential` is
the fit a client may report instead, two numbers. The generic curve, a straight
line, is the first with one piece.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from cosim.allocation.sparsity.flat_rate import (
    bandwidth_for_rate,
    bandwidth_for_slope,
    flat_rate,
    near_snr_and_slope,
    rate_slope,
    rate_slope_change,
)
from cosim.units import Floats, Ints

_LN2 = float(np.log(2.0))
_GUESSES = 22
_COARSE_PIECES = 16
_HIGHEST = 7.0  # logarithm of a slope that no bandwidth of use has
_MOST_STEPS = 100
_TOLERANCE = 1e-13


@dataclass(frozen=True, eq=False)
class Window:
    """How long and over what each client may send.

    Attributes
    ----------
    snr_hz, overhead_bits
        As in :class:`~cosim.allocation.sparsity.uplink.Uplink`, shape (num_clients,).
    left_s
        From its first bit to the deadline, s, positive, shape (num_deadlines, num_clients).
    """

    snr_hz: Floats
    overhead_bits: Floats
    left_s: Floats


@dataclass(frozen=True, eq=False)
class Demand:
    """What the clients take at a price per Hz, each of shape (num_deadlines, num_clients).

    Attributes
    ----------
    bandwidth_hz
        Bandwidth, Hz.
    change_hz
        What it changes by when the logarithm of the price does, not positive, Hz.
    num_pieces
        How many pieces of its curve a client sends whole; 0 where there are none.
    """

    bandwidth_hz: Floats
    change_hz: Floats
    num_pieces: Ints

    def where(self, chosen: np.ndarray, other: "Demand") -> "Demand":
        """Return this one in the chosen rows, and another in the rest."""
        return Demand(
            np.where(chosen, self.bandwidth_hz, other.bandwidth_hz),
            np.where(chosen, self.change_hz, other.change_hz),
            np.where(chosen, self.num_pieces, other.num_pieces),
        )


class Curves(ABC):
    """The curves of all clients, already times their weights; bits count without the overhead.

    Attributes
    ----------
    useful_bits
        From how many bits on nothing more is won, shape (num_clients,).
    num_pieces
        Straight pieces of each curve, shape (num_clients,).
    """

    useful_bits: Floats
    num_pieces: Ints

    @abstractmethod
    def remaining(self, bits: Floats) -> Floats:
        """Return the energy left unsent, shape (..., num_clients)."""

    @abstractmethod
    def worth(self, bits: Floats) -> Floats:
        """Return what the last of these bits saves, energy per bit, shape (..., num_clients)."""

    def coarse(self) -> "Curves":
        """Return curves of few pieces close to these."""
        return self

    def guess(self, window: Window, bandwidth_hz: float) -> tuple[Floats, Ints] | None:
        """Return about what price fills the band, and the pieces then sent whole; None if that is not known.

        The logarithm of the price is of shape (num_deadlines, 1), the pieces of (num_deadlines, num_clients).
        """
        return None

    @abstractmethod
    def demand(
        self, log_price: Floats, window: Window, least: Demand, most: Demand, near: Ints | None
    ) -> Demand:
        """Return what each client takes at a price: one more hertz saves just what it costs.

        Parameters
        ----------
        log_price
            Logarithm of energy per Hz, shape (num_deadlines, 1).
        window
            How long and over what the clients may send.
        least, most
            The demand at a higher and at a lower price, or the limits; the answer lies between.
        near
            About how many pieces will be sent whole.
        """


class Stepped(Curves):
    """Curves of straight pieces, each less steep than the one before."""

    def __init__(self, bits: Sequence[Floats], energies: Sequence[Floats], weights: Floats) -> None:
        """Put the pieces of each client in the order of energy per bit.

        Parameters
        ----------
        bits, energies
            For each client, size in bits and energy of what it may send piece by
            piece, shape (num_pieces,).
        weights
            Weight of each client, shape (num_clients,).

        Raises
        ------
        ValueError
            If a size is not positive, or an energy or weight is negative or not finite.
        """
        most = max(len(one) for one in bits)
        self._ends = np.zeros((len(bits), most + 1))
        self._worth = np.zeros((len(bits), most))
        for client, (size, energy) in enumerate(zip(bits, energies, strict=True)):
            if not (np.asarray(size) > 0).all():
                raise ValueError(f"client {client}: sizes in bits must be positive, got {list(size)}")
            if not (np.isfinite(energy) & (np.asarray(energy) >= 0.0)).all():
                raise ValueError(
                    f"client {client}: energies must be finite and not negative, got {list(energy)}"
                )
            per_bit = np.asarray(energy, dtype=float) / size
            order = np.argsort(-per_bit, kind="stable")
            self._worth[client, : len(order)] = weights[client] * per_bit[order]
            self._ends[client, 1 : len(order) + 1] = np.asarray(size, dtype=float)[order]
        self._ends = np.cumsum(self._ends, axis=1)
        self._rests = np.zeros_like(self._ends)
        self._rests[:, :-1] = np.cumsum((self._worth * np.diff(self._ends))[:, ::-1], axis=1)[:, ::-1]
        self._clients = np.arange(len(bits))
        self.num_pieces = (self._worth > 0.0).sum(axis=1)
        self.useful_bits = self._ends[self._clients, self.num_pieces]
        with np.errstate(divide="ignore"):
            self._log_worth = np.log(self._worth)

    @classmethod
    def generic(cls, dense_bits: Floats, energies: Floats, weights: Floats) -> Self:
        """Return straight lines from a client's energy to nothing at its dense bits."""
        return cls(list(dense_bits[:, None]), list(energies[:, None]), weights)

    def remaining(self, bits: Floats) -> Floats:
        bits = np.clip(bits, 0.0, self.useful_bits)
        piece = self._piece(bits)
        gone = (bits - self._ends[self._clients, piece]) * self._worth[self._clients, piece]
        return np.asarray(self._rests[self._clients, piece] - gone)

    def worth(self, bits: Floats) -> Floats:
        return np.asarray(self._worth[self._clients, self._piece(bits)])

    def num_whole(self, bits: Floats) -> Ints:
        """Return how many pieces fit whole into some bits, shape (..., num_clients)."""
        return np.asarray((self._ends[:, 1:] <= np.asarray(bits)[..., None]).sum(axis=-1)).clip(
            max=self.num_pieces
        )

    def bits_of(self, num_pieces: Ints) -> Floats:
        """Return the bits of so many whole pieces, shape (..., num_clients)."""
        return np.asarray(self._ends[self._clients, num_pieces])

    def _piece(self, bits: Floats) -> Ints:
        """Return the piece the last of some bits lies in."""
        before = (self._ends[:, 1:] < np.asarray(bits)[..., None]).sum(axis=-1)
        return np.asarray(np.minimum(before, np.maximum(self.num_pieces - 1, 0)))

    def coarse(self) -> Curves:
        """Return curves whose pieces are several of these each."""
        most = self._worth.shape[1]
        if most <= 2 * _COARSE_PIECES:
            return self
        cuts = np.linspace(0, most, _COARSE_PIECES + 1).round().astype(np.int64)
        sizes = np.diff(self._ends[:, cuts])
        energies = np.maximum(-np.diff(self._rests[:, cuts]), 0.0)
        kept = sizes > 0.0
        return Stepped(
            [one[some] for one, some in zip(sizes, kept, strict=True)],
            [one[some] for one, some in zip(energies, kept, strict=True)],
            np.ones(len(sizes)),
        )

    def guess(self, window: Window, bandwidth_hz: float) -> tuple[Floats, Ints] | None:
        left_s = window.left_s[..., None]
        rates = (window.overhead_bits[:, None] + self._ends) / left_s
        log_snr, log_slope = near_snr_and_slope(rates * (_LN2 / window.snr_hz[:, None]))
        widths = np.minimum(window.snr_hz[:, None] * np.exp(-log_snr), bandwidth_hz)
        known = np.arange(self._worth.shape[1]) < self.num_pieces[:, None]
        worth = np.where(known, self._log_worth, -np.inf) + np.log(left_s)
        begins, ends = worth + log_slope[..., :-1], worth + log_slope[..., 1:]
        rows, clients = np.ogrid[: len(left_s), : len(self._clients)]
        finite = np.isfinite(ends)
        high = begins[..., 0].max(axis=1, keepdims=True)
        low = np.where(finite, ends, np.inf).min(axis=(1, 2))[:, None]
        whole = np.zeros(window.left_s.shape, dtype=np.int64)
        for _ in range(_GUESSES):
            log_price = 0.5 * (low + high)
            whole = (ends >= log_price[..., None]).sum(axis=-1)
            piece = np.minimum(whole, ends.shape[-1] - 1)
            begin, end = begins[rows, clients, piece], ends[rows, clients, piece]
            with np.errstate(invalid="ignore", divide="ignore"):
                part = np.clip((begin - log_price) / (begin - end), 0.0, 1.0)
            base, top = widths[rows, clients, whole], widths[rows, clients, piece + 1]
            taken = base + np.where(whole < self.num_pieces, part, 0.0) * (top - base)
            is_short = taken.sum(axis=1, keepdims=True) < bandwidth_hz
            low, high = np.where(is_short, low, log_price), np.where(is_short, log_price, high)
        return log_price, whole

    def demand(
        self, log_price: Floats, window: Window, least: Demand, most: Demand, near: Ints | None
    ) -> Demand:
        if near is None:
            return self._searched(log_price, window, least, most)
        # The pieces expected to be sent whole are right if the last of them is left beyond its end, and
        # the next is not; both are looked at in one go.
        number = np.minimum(np.maximum(near, least.num_pieces), most.num_pieces)
        before, after = self._left_at(np.stack([number - 1, number]), log_price, window)
        end, next_end = self._end_hz(np.stack([number, np.minimum(number + 1, self.num_pieces)]), window)
        is_right = ((number == least.num_pieces) | (before >= end)) & (
            (number == most.num_pieces) | (after < next_end)
        )
        if is_right.all():
            return self._demand(number, after, end, window, least, most)
        return self._searched(log_price, window, least, most)

    def _searched(self, log_price: Floats, window: Window, least: Demand, most: Demand) -> Demand:
        """Return the demand, with the pieces sent whole found by bisection."""
        low, high = least.num_pieces, most.num_pieces
        while (low < high).any():
            middle = (low + high) // 2  # is the piece of this number sent whole?
            carried = window.left_s * flat_rate(window.snr_hz, self._left_at(middle, log_price, window))
            ends = self._ends[self._clients, np.minimum(middle + 1, self._worth.shape[1])]
            whole = (carried - window.overhead_bits >= ends) & (middle < high)
            low, high = np.where(whole, middle + 1, low), np.where(whole, high, middle)
        return self._demand(
            low, self._left_at(low, log_price, window), self._end_hz(low, window), window, least, most
        )

    def _demand(
        self, whole: Ints, left_at: Floats, end_hz: Floats, window: Window, least: Demand, most: Demand
    ) -> Demand:
        """Return the demand with so many whole pieces, given where the next would be left and these end."""
        floor = np.where(whole > least.num_pieces, np.maximum(end_hz, least.bandwidth_hz), least.bandwidth_hz)
        has_next = whole < self.num_pieces
        is_inside = has_next & (left_at > floor) & (left_at < most.bandwidth_hz)
        wanted = np.where(has_next, left_at, most.bandwidth_hz)
        taken = np.minimum(np.maximum(wanted, floor), most.bandwidth_hz)
        relative = rate_slope(window.snr_hz, taken) / rate_slope_change(window.snr_hz, taken)
        return Demand(taken, np.where(is_inside, relative, 0.0), whole)

    def _left_at(self, piece: Ints, log_price: Floats, window: Window) -> Floats:
        """Return where a piece, were it endless, would be left, Hz."""
        inside = np.maximum(np.minimum(piece, self._worth.shape[1] - 1), 0)
        log_slope = log_price - np.log(window.left_s) - self._log_worth[self._clients, inside]
        return bandwidth_for_slope(window.snr_hz, np.exp(np.minimum(log_slope, _HIGHEST)))

    def _end_hz(self, num_pieces: Ints, window: Window) -> Floats:
        """Return what carries the overhead and so many pieces, Hz."""
        bits = window.overhead_bits + self._ends[self._clients, num_pieces]
        return bandwidth_for_rate(window.snr_hz, bits / window.left_s)


class Exponential(Curves):
    """Curves ``energy * exp(-decay * bits / dense_bits)``."""

    def __init__(self, dense_bits: Floats, energies: Floats, decays: Floats, weights: Floats) -> None:
        """Take the two numbers of each client.

        Parameters
        ----------
        dense_bits, energies, decays, weights
            Shape (num_clients,); bits positive, the others not negative.
        """
        self._energies = weights * energies
        self._per_bit = decays / dense_bits
        with np.errstate(divide="ignore"):
            self._log_first = np.log(self._energies * self._per_bit)
        self.useful_bits = np.where(np.isfinite(self._log_first), dense_bits, 0.0)
        self.num_pieces = np.zeros(len(dense_bits), dtype=np.int64)

    @classmethod
    def fit(
        cls, bits: Sequence[Floats], energies: Sequence[Floats], dense_bits: Floats, weights: Floats
    ) -> Self:
        """Return the fit each client would report: its whole energy, and the decay of the same mean.

        The mean of the true curve over all keep ratios, as a share of the whole
        energy, is that of the fit, ``(1 - exp(-d)) / d``.
        """
        steps = Stepped(bits, energies, np.ones(len(bits)))
        whole = steps.remaining(np.zeros(len(bits)))
        areas = 0.5 * ((steps._rests[:, 1:] + steps._rests[:, :-1]) * np.diff(steps._ends)).sum(axis=1)
        means = np.divide(areas, whole * dense_bits, out=np.full(len(bits), 0.5), where=whole > 0.0)
        return cls(dense_bits, whole, _decay_of_mean(means), weights)

    def remaining(self, bits: Floats) -> Floats:
        return np.asarray(self._energies * np.exp(-self._per_bit * bits))

    def worth(self, bits: Floats) -> Floats:
        return np.asarray(self._per_bit * self.remaining(bits))

    def demand(
        self, log_price: Floats, window: Window, least: Demand, most: Demand, near: Ints | None
    ) -> Demand:
        snr_hz, left_s = window.snr_hz, window.left_s
        low, high = least.bandwidth_hz, most.bandwidth_hz
        goal = log_price - np.log(left_s) - self._log_first - self._per_bit * window.overhead_bits
        steep = self._per_bit * left_s

        def excess_at(taken: Floats) -> tuple[Floats, Floats]:
            """Return how far the last hertz's worth lies above the price, in logarithms, and its slope."""
            slope = rate_slope(snr_hz, taken)
            excess = np.log(slope) - steep * flat_rate(snr_hz, taken) - goal
            return excess, taken * (rate_slope_change(snr_hz, taken) / slope - steep * slope)

        is_low, is_high = excess_at(low)[0] <= 0.0, excess_at(high)[0] >= 0.0
        done = is_low | is_high
        taken = np.where(is_high, high, np.where(is_low, low, np.sqrt(low * high)))
        for _ in range(_MOST_STEPS):
            excess, falls = excess_at(taken)
            low, high = np.where(excess > 0.0, taken, low), np.where(excess > 0.0, high, taken)
            step = -excess / falls
            done |= (np.abs(step) <= _TOLERANCE) | (high - low <= _TOLERANCE * high)
            if done.all():
                break
            with np.errstate(over="ignore"):
                following = taken * np.exp(step)
            following = np.where((low < following) & (following < high), following, np.sqrt(low * high))
            taken = np.where(done, taken, following)
        return Demand(taken, np.where(is_low | is_high, 0.0, taken / falls), least.num_pieces)


def _decay_of_mean(means: Floats) -> Floats:
    """Return ``d`` with ``(1 - exp(-d)) / d`` equal to each mean, which convexity keeps up to 1/2."""
    means = np.clip(means, 1e-6, 0.5)
    decays = 1.0 / means
    for _ in range(_MOST_STEPS):
        share = -np.expm1(-decays)
        step = (share / decays - means) / ((share / decays - np.exp(-decays)) / decays)
        decays = decays + step
        if (np.abs(step) <= _TOLERANCE * decays).all():
            break
    return decays
