"""The Lagrangian bound of a barrier: rates and power limits are relaxed, each with a multiplier.

Given multipliers, a subchannel adds most to the Lagrangian where its power is
water-filled, in closed form, and with the client for which that is largest.
The sum over subchannels is an upper bound on the Lagrangian of any assignment,
and so a lower bound on its deadline, whatever the multipliers. These are called
prices here: of a client's rate, and of its power.
"""

from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Self

import numpy as np

from cosim.control.closed_form import Phase
from cosim.units import Floats

_LN2 = float(np.log(2.0))
_FEW = 32  # clients
_MOST_STEPS = 60


@dataclass(frozen=True, eq=False)
class Lagrangian:
    """The Lagrangian of one barrier.

    Prices are handled by their logarithms: those of each client's rate first,
    then of each client's power, then, if there is a limit on it, of the sum.

    Attributes
    ----------
    compute_s, bits, limits_w, total_w
        As in :class:`~cosim.control.closed_form.Phase`; the limit on the sum is
        infinite where the clients' own limits keep it.
    gains, widths_hz
        Gains over noise PSD, Hz/W, shape (num_clients, num_goods), and widths, Hz.
    """

    compute_s: Floats
    bits: Floats
    gains: Floats
    widths_hz: Floats
    limits_w: Floats
    total_w: float

    @classmethod
    def of(cls, phase: Phase, *, merges_equals: bool = False) -> Self:
        """Return the Lagrangian of a barrier; subchannels of equal gains may be merged into one."""
        gains, widths = phase.gains, phase.bandwidths_hz
        if merges_equals:
            gains, good = np.unique(phase.gains, axis=1, return_inverse=True)
            widths = np.bincount(good.ravel(), weights=widths, minlength=gains.shape[1]).astype(float)
        total = phase.max_total_tx_power_w
        return cls(
            phase.compute_s,
            phase.bits,
            gains,
            widths,
            phase.max_tx_power_w,
            total if total < float(phase.max_tx_power_w.sum()) else np.inf,
        )

    @cached_property
    def has_sum_limit(self) -> bool:
        """Whether the limit on the sum says anything."""
        return bool(np.isfinite(self.total_w))

    def start(self) -> Floats:
        """Return prices from an even share of band and power."""
        num_clients = len(self.bits)
        powers = np.minimum(self.limits_w, self.total_w / num_clients)
        psd = powers * num_clients / self.widths_hz.sum()
        levels = psd + 1.0 / np.maximum(self.gains.max(axis=1), 1e-300)
        share = 0.5 if self.has_sum_limit else 1.0
        logs = [np.log(_LN2 * levels), np.full(num_clients, np.log(share))]
        return np.concatenate([*logs, [np.log(0.5)]] if self.has_sum_limit else logs)

    def split(self, logs: Floats) -> tuple[Floats, Floats, float]:
        """Return the prices of rate, of each client's power, and of the sum."""
        num_clients = len(self.bits)
        values = np.exp(logs)
        total = float(values[-1]) if self.has_sum_limit else 0.0
        return values[:num_clients], values[num_clients : 2 * num_clients], total

    def deadline(self, logs: Floats, norm: float) -> tuple[float, Floats]:
        """Return the bound these prices prove, s, and its slope in the logarithms; smooth if finite."""
        rate, power, total = self.split(logs)
        ceiling, rates, powers, _ = self.ceiling(logs, norm)
        priced = rate * self.bits
        deadline = float(earliest_s(priced, self.compute_s, ceiling))
        left = np.maximum(deadline - self.compute_s, 1e-12 * deadline)
        steepness = float(np.add.reduce(priced / (left * left)))
        slope = [rate * (self.bits / left - rates), -power * (self.limits_w - powers)]
        if self.has_sum_limit:
            slope.append(np.array([-total * (self.total_w - powers.sum())]))
        return deadline, np.concatenate(slope) / steepness

    def excess(
        self, logs: Floats, norm: float, rates_needed: Floats, allowed: np.ndarray
    ) -> tuple[float, Floats]:
        """Return how far the ceiling lies above what is needed, as a logarithm, and its slope.

        Below zero the rates cannot be reached by the assignment allowed.

        Parameters
        ----------
        rates_needed
            Rate each client needs, bit/s, shape (num_clients,).
        allowed
            Who may own what, shape (num_clients, num_goods).
        """
        rate, power, total = self.split(logs)
        ceiling, rates, powers, _ = self.ceiling(logs, norm, allowed)
        needed = float((rate * rates_needed).sum())
        slope = [
            rate * (rates / ceiling - rates_needed / needed),
            power * (self.limits_w - powers) / ceiling,
        ]
        if self.has_sum_limit:
            slope.append(np.array([total * (self.total_w - powers.sum()) / ceiling]))
        return float(np.log(ceiling / needed)), np.concatenate(slope)

    def ceiling(
        self, logs: Floats, norm: float, allowed: np.ndarray | None = None
    ) -> tuple[float, Floats, Floats, Floats]:
        """Return the most all can earn, the rates and powers that would, and the value of each good to each.

        With a finite ``norm`` the best buyer is replaced by the p-norm over
        buyers, which is smooth and never less.
        """
        rate, power, total = self.split(logs)
        level = (rate / (_LN2 * (power + total)))[:, None]
        fill = np.maximum(level * self.gains, 1.0)
        logs_of_fill, inverse = np.log(fill), 1.0 / fill
        value = (rate / _LN2)[:, None] * (logs_of_fill - 1.0 + inverse)
        if allowed is not None:
            value = np.where(allowed, value, 0.0)
        best = np.maximum.reduce(value, axis=0)
        is_sold = best > 0.0
        safe = np.where(is_sold, best, 1.0)
        if np.isinf(norm):
            good = best
            weight = np.zeros_like(value)
            weight[value.argmax(axis=0), np.arange(value.shape[1])] = 1.0
        else:
            ratio = value / safe
            with np.errstate(under="ignore"):
                powered = ratio ** (norm - 1.0)
            spread = np.maximum(np.add.reduce(powered * ratio, axis=0), 1e-300)
            good = best * spread ** (1.0 / norm)
            weight = powered * spread ** (1.0 / norm - 1.0)
        weight = np.where(is_sold, weight, 0.0) * self.widths_hz
        rates = np.add.reduce(weight * logs_of_fill, axis=1) / _LN2
        psd = np.where(fill > 1.0, level * (1.0 - inverse), 0.0)
        powers = np.add.reduce(weight * psd, axis=1)
        sold = float(np.add.reduce(good * self.widths_hz))
        spent = float(np.add.reduce(power * self.limits_w))
        return sold + spent + (total * self.total_w if total > 0.0 else 0.0), rates, powers, value


def earliest_s(priced_bits: Floats, compute_s: Floats, ceiling: float) -> Floats:
    """Return the root t of ``sum priced_bits / (t - compute_s) = ceiling``, from below.

    Newton steps on the reciprocal of the sum, which is concave in t: begun left
    of the root they never pass it, so even an unfinished search gives a bound.
    """
    if priced_bits.ndim == compute_s.ndim == 1 and len(priced_bits) <= _FEW:
        return np.asarray(_earliest_s(priced_bits.tolist(), compute_s.tolist(), float(ceiling)))
    at = np.maximum.reduce(compute_s + priced_bits / ceiling, axis=-1)
    pays = priced_bits > 0.0
    with np.errstate(all="ignore"):  # absurd prices prove nothing, and do no harm
        for _ in range(_MOST_STEPS):
            left = at[..., None] - compute_s
            terms = np.where(pays, priced_bits / left, 0.0)
            slope = np.add.reduce(np.where(pays, terms / left, 0.0), axis=-1)
            together = np.add.reduce(terms, axis=-1)
            step = (together - ceiling) * together / (ceiling * slope)
            step = np.where(np.isfinite(step) & (step > 0.0), step, 0.0)
            at = at + step
            if (step <= 1e-15 * at).all():
                break
    return np.asarray(at)


def _earliest_s(priced_bits: list[float], compute_s: list[float], ceiling: float) -> float:
    """Return the root for one barrier; a search asks for thousands, and numbers are quicker than arrays."""
    if not 0.0 < ceiling < inf:
        return inf if ceiling == 0.0 and any(priced_bits) else max(compute_s)
    at = max(begin + bits / ceiling for begin, bits in zip(compute_s, priced_bits, strict=True))
    paying = [one for one in zip(compute_s, priced_bits, strict=True) if one[1] > 0.0]
    for _ in range(_MOST_STEPS):
        terms = [(bits / (at - begin), at - begin) for begin, bits in paying if at > begin]
        if len(terms) < len(paying):
            break
        together, slope = sum(term for term, _ in terms), sum(term / left for term, left in terms)
        if not (together > ceiling and ceiling * slope > 0.0):
            break
        step = (together - ceiling) * together / (ceiling * slope)
        if not step < inf:
            break
        at += step
        if step <= 1e-15 * at:
            break
    return at
