"""How much of the model each client leaves out, and how wide its channel is, for a round of a given length.

The share that a client keeps is known in closed form for a channel of any width, and is concave in it; so
one price per Hz shares the band, at which the weighted share of each client that is neither at its most nor
at its least would grow alike with one more hertz. Two nested
searches, each in a bracket, find it.

Source
------
The problem of arXiv 2309.01816 as method card 6 has it: the abstract names the KKT conditions, the equations
are re-derived. Power is spread over the own channel, so a rate is ``b log2(1 + c / b)``.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cosim.control.solvers.sparsity.flat_rate import bandwidth_for_rate, flat_rate, rate_slope
from cosim.units import Floats

_INNER, _AT_ONCE = 45, 64  # halvings of a width; prices that are looked at in one go
_PRICE = 1e-9  # how near the logarithm of the price comes
_CLOSE = 1e-12


class Shared(NamedTuple):
    """Width of each client's channel, Hz, and the share it leaves out, each of shape (num_clients,)."""

    bandwidth_hz: Floats
    ratios: Floats


@dataclass(frozen=True, eq=False)
class Pruning:
    """What clients compute and send, as a line in the share of the model that they keep.

    Attributes
    ----------
    snr_hz
        SNR each client would have in one hertz, Hz, shape (num_clients,).
    bandwidth_hz
        Width of the whole band, Hz.
    fixed_s, fixed_bits
        What takes time beside the upload, s, and what is sent, however little a client keeps,
        shape (num_clients,).
    prunable_s, prunable_bits
        What a client that keeps everything takes and sends beside that.
    weights
        How much what each leaves out counts.
    least, most
        Ratios that are possible: shares that are left out.
    """

    snr_hz: Floats
    bandwidth_hz: float
    fixed_s: Floats
    fixed_bits: Floats
    prunable_s: Floats
    prunable_bits: Floats
    weights: Floats
    least: float
    most: float

    def ratios(self, bandwidth_hz: Floats, limit_s: float) -> Floats:
        """Return the least that each client must leave out to be done in time; above ``most`` none is enough.

        ``1 - (T - c_v - b_v / R) / (c_u + b_u / R)``, not below ``least``.
        """
        rates = flat_rate(self.snr_hz, bandwidth_hz)
        left = (limit_s - self.fixed_s) * rates - self.fixed_bits
        whole = self.prunable_s * rates + self.prunable_bits
        with np.errstate(divide="ignore", invalid="ignore"):
            kept = np.where(whole > 0.0, left / whole, np.where(left >= 0.0, np.inf, -np.inf))
        return np.maximum(1.0 - kept, self.least)

    def needed_hz(self, limit_s: float, ratios: Floats) -> Floats:
        """Return the width with which each client is done in time, Hz; infinite where none is enough."""
        kept = 1.0 - ratios
        left = limit_s - self.fixed_s - kept * self.prunable_s
        bits = self.fixed_bits + kept * self.prunable_bits
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = np.where(left > 0.0, bits / left, np.where(bits > 0.0, np.inf, 0.0))
        return np.where(left < 0.0, np.inf, bandwidth_for_rate(self.snr_hz, rates))

    def is_met(self, limit_s: float, ratio: float) -> bool:
        """Return whether all can be done in time if each leaves out so much."""
        together = float(self.needed_hz(limit_s, np.full(len(self.snr_hz), ratio)).sum())
        return together <= self.bandwidth_hz * (1.0 + _CLOSE)

    def finish_s(self, bandwidth_hz: Floats, ratio: float) -> float:
        """Return when the last is done, s, if each leaves out so much."""
        kept = 1.0 - ratio
        bits = self.fixed_bits + kept * self.prunable_bits
        ends = self.fixed_s + kept * self.prunable_s + bits / flat_rate(self.snr_hz, bandwidth_hz)
        return float(ends.max())

    def shortest_s(self, ratio: float) -> float:
        """Return the least time by which all can be done, s, if each leaves out so much."""
        equal_hz = np.full(len(self.snr_hz), self.bandwidth_hz / len(self.snr_hz))
        early, late = 0.0, self.finish_s(equal_hz, ratio)
        while late - early > _CLOSE * late:
            middle = 0.5 * (early + late)
            early, late = (early, middle) if self.is_met(middle, ratio) else (middle, late)
        return late

    def shortest(self, ratio: float) -> Shared:
        """Return the decision by which all are done as early as can be, each leaving out so much."""
        ratios = np.full(len(self.snr_hz), ratio)
        return Shared(self._filled(self.needed_hz(self.shortest_s(ratio), ratios)), ratios)

    def alike(self, limit_s: float) -> Shared:
        """Return the decision in which all leave out the same, no more than they must.

        Where that is the least that is possible, they are done as early as can be.

        Raises
        ------
        ValueError
            If the limit cannot be kept.
        """
        self._refuse(limit_s)
        low, high = self.least, self.most
        if self.is_met(limit_s, low):
            return self.shortest(low)
        while high - low > _CLOSE:
            middle = 0.5 * (low + high)
            low, high = (low, middle) if self.is_met(limit_s, middle) else (middle, high)
        ratios = np.full(len(self.snr_hz), high)
        return Shared(self._filled(self.needed_hz(limit_s, ratios)), ratios)

    def least_left_out(self, limit_s: float) -> Shared:
        """Return the decision that leaves out the least weighted sum of shares and keeps the limit.

        Where nobody need leave out more than the least, all are done as early as can be.

        Raises
        ------
        ValueError
            If the limit cannot be kept.
        """
        self._refuse(limit_s)
        if self.is_met(limit_s, self.least):
            return self.shortest(self.least)
        ends = (self.needed_hz(limit_s, np.full(len(self.snr_hz), one)) for one in (self.most, self.least))
        low, high = (np.minimum(one, self.bandwidth_hz) for one in ends)
        widths = self._priced(limit_s, low, high)
        if not widths.all():  # who takes no part needs none, and a grant has some
            widths = self._filled(widths)
        return Shared(widths, np.minimum(self.ratios(widths, limit_s), self.most))

    def gains_per_hz(self, bandwidth_hz: Floats, limit_s: float) -> Floats:
        """Return what one more hertz adds to the weighted share each client keeps, 1/Hz."""
        rates, slopes = flat_rate(self.snr_hz, bandwidth_hz), rate_slope(self.snr_hz, bandwidth_hz)
        bent = (limit_s - self.fixed_s) * self.prunable_bits + self.fixed_bits * self.prunable_s
        whole = self.prunable_s * rates + self.prunable_bits
        return np.divide(self.weights * bent * slopes, whole**2, out=np.zeros_like(whole), where=whole > 0.0)

    def _priced(self, limit_s: float, low: Floats, high: Floats) -> Floats:
        """Return widths between two bounds whose sum is the band, at one price per Hz."""
        ends = self.gains_per_hz(np.maximum([low, high], _CLOSE * self.bandwidth_hz), limit_s)
        cheap, dear = np.log(float(ends[ends > 0.0].min())), np.log(float(ends.max()))
        while dear - cheap > _PRICE:
            prices = np.linspace(cheap, dear, _AT_ONCE)
            widths = self._demand(limit_s, np.exp(prices)[:, np.newaxis], low, high)
            fits = int(np.argmax(widths.sum(axis=1) <= self.bandwidth_hz))
            cheap, dear = prices[max(fits - 1, 0)], prices[fits]
            if fits == 0:
                break
        # what a hair's breadth of the price decides is shared in proportion
        fewer, more = self._demand(limit_s, np.exp([[dear], [cheap]]), low, high)
        spare = float((more - fewer).sum())
        missing = self.bandwidth_hz - float(fewer.sum())
        return fewer if spare == 0.0 else np.asarray(fewer + (more - fewer) * (missing / spare))

    def _demand(self, limit_s: float, price: Floats, low: Floats, high: Floats) -> Floats:
        """Return the width up to which one more hertz is worth a price to each client, Hz.

        ``price`` has shape (num_prices, 1), the widths shape (num_prices, num_clients).
        """
        narrow = np.maximum(low, _CLOSE * self.bandwidth_hz) + 0.0 * price
        wide = np.maximum(high, narrow)
        for _ in range(_INNER):
            middle = 0.5 * (narrow + wide)
            is_worth = self.gains_per_hz(middle, limit_s) > price
            narrow, wide = np.where(is_worth, middle, narrow), np.where(is_worth, wide, middle)
        return np.clip(0.5 * (narrow + wide), low, high)

    def _filled(self, widths: Floats) -> Floats:
        """Return widths that fill the band, in proportion."""
        widths = np.maximum(widths, _CLOSE * self.bandwidth_hz)
        return widths * (self.bandwidth_hz / float(widths.sum()))

    def _refuse(self, limit_s: float) -> None:
        if not self.is_met(limit_s, self.most):
            raise ValueError(f"{limit_s:g} s cannot be kept; the least is {self.shortest_s(self.most):.6g} s")
