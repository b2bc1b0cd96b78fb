"""What is lost by sending less: the energy each client leaves unsent, as a convex falling curve of its bits.

Two shapes. :class:`Stepped` is exact: when pairs are sent in the order of energy
per bit, the rest falls in straight pieces, one a pair. :class:`Exponential` is
the fit a client may report instead, two numbers. The generic curve, a straight
line, is the first with one piece.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np

from cosim.control.solvers.sparsity.client_demand import Pieces
from cosim.units import Floats, Ints

_SMOOTH_PIECES = 16
_MOST_STEPS = 100
_TOLERANCE = 1e-13


class Curves(ABC):
    """The curves of all clients, already times their weights; bits count without the overhead.

    Attributes
    ----------
    useful_bits
        From how many bits on nothing more is won, shape (num_clients,).
    """

    useful_bits: Floats

    @abstractmethod
    def remaining(self, bits: Floats) -> Floats:
        """Return the energy left unsent, shape (..., num_clients)."""

    @abstractmethod
    def pieces(self) -> list[Pieces]:
        """Return each client's curve in plain numbers, up to where nothing more is won."""

    @abstractmethod
    def smooth(self) -> list[Pieces] | None:
        """Return curves without kinks close to these, or these; None where kinks are all there is."""


class Stepped(Curves):
    """Curves of straight pieces, each less steep than the one before.

    Attributes
    ----------
    num_pieces
        Pieces that save anything, of each curve, shape (num_clients,).
    """

    num_pieces: Ints

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

    @property
    def kinks(self) -> tuple[Floats, Floats]:
        """Bits at which pieces begin and end, and what is left unsent there, shape (num_clients, any)."""
        return self._ends, self._rests

    def remaining(self, bits: Floats) -> Floats:
        bits = np.clip(bits, 0.0, self.useful_bits)
        piece = self._piece(bits)
        gone = (bits - self._ends[self._clients, piece]) * self._worth[self._clients, piece]
        return np.asarray(self._rests[self._clients, piece] - gone)

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

    def pieces(self) -> list[Pieces]:
        return [
            Pieces(ends[: number + 1], rests[: number + 1], worth[:number], [0.0] * number)
            for ends, rests, worth, number in zip(
                self._ends.tolist(),
                self._rests.tolist(),
                self._log_worth.tolist(),
                self.num_pieces.tolist(),
                strict=True,
            )
        ]

    def smooth(self) -> list[Pieces] | None:
        if (self.num_pieces < 2 * _SMOOTH_PIECES).any():
            return None
        return [one.smoothed(_SMOOTH_PIECES) for one in self.pieces()]


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
        rests = self.remaining(np.stack([np.zeros_like(self.useful_bits), self.useful_bits]))
        self._pieces = [
            Pieces([0.0, useful], rest, [worth], [fall]) if useful > 0.0 else Pieces([0.0], rest[:1], [], [])
            for useful, rest, worth, fall in zip(
                self.useful_bits.tolist(),
                rests.T.tolist(),
                self._log_first.tolist(),
                self._per_bit.tolist(),
                strict=True,
            )
        ]

    @classmethod
    def fit(
        cls, bits: Sequence[Floats], energies: Sequence[Floats], dense_bits: Floats, weights: Floats
    ) -> Self:
        """Return the fit each client would report: its whole energy, and the decay of the same mean.

        The mean of the true curve over all sparsification ratios, as a share of the whole
        energy, is that of the fit, ``(1 - exp(-d)) / d``.
        """
        steps = Stepped(bits, energies, np.ones(len(bits)))
        whole = steps.remaining(np.zeros(len(bits)))
        areas = 0.5 * ((steps._rests[:, 1:] + steps._rests[:, :-1]) * np.diff(steps._ends)).sum(axis=1)
        means = np.divide(areas, whole * dense_bits, out=np.full(len(bits), 0.5), where=whole > 0.0)
        return cls(dense_bits, whole, _decay_of_mean(means), weights)

    def remaining(self, bits: Floats) -> Floats:
        return np.asarray(self._energies * np.exp(-self._per_bit * bits))

    def pieces(self) -> list[Pieces]:
        return self._pieces

    def smooth(self) -> list[Pieces] | None:
        return self._pieces


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
