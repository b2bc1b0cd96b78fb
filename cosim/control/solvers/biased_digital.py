"""Weights, rates and widths of updates that are sent as bits, from statistics of the channel.

Variances are relative to the norm of the clip, squared.

Source
------
M. Faraz Ul Abrar and N. Michelusi, "Biased federated learning under wireless
heterogeneity", arXiv 2503.06078, its digital half (method card 1: the structure is that of
the abstract, the inner equations are re-derived). Rayleigh fading, one gain for a slot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from cosim.errors import AllocationError
from cosim.units import Floats, Ints

THRESHOLDS = np.geomspace(1e-3, 5.0, 240)
"""Gains over their mean below which a client is silent; the highest lets it send 7 times in 1,000."""

_ROUNDS, _HALVINGS, _PRICES = 60, 60, 60.0  # of a price its logarithm
_MOST_PAIRED, _LITTLE = 8, 1e-6


@dataclass(frozen=True, eq=False)
class Design:
    """How clients send and count, each of shape (num_clients,).

    Attributes
    ----------
    weights
        How much each counts in the mean; they add up to one.
    speeds, rates
        At how many bit/s each sends, and how often its slot is delivered.
    widths
        Which of the widths of a number.
    slots_s
        Expected time of each client's slot, s.
    by_outage, by_rounding
        Variance for a weight of one, from lost slots and from quantisation.
    """

    weights: Floats
    speeds: Floats
    rates: Floats
    widths: Ints
    slots_s: Floats
    by_outage: Floats
    by_rounding: Floats


@dataclass(frozen=True, eq=False)
class Slots:
    """What designs there are: client by client a threshold and a width, within the airtime of all.

    A client whose gain is ``t`` times its mean at least, with probability ``exp(-t)``, sends at
    what that gain allows; the others are silent and take no time. The server divides what
    arrives by that probability, so a slot has the variance ``exp(t) - 1``, and ``exp(t)`` times
    that of quantisation.

    Attributes
    ----------
    speeds
        What a gain of each of ``THRESHOLDS`` allows each client, bit/s, shape (num_clients, num_thresholds).
    wanted
        Share in the data, positive, adding up to one, shape (num_clients,).
    airtime_s
        What the expected slots may add up to, s.
    bits, errors
        For each width of a number the bits of an update and the variance of its quantisation,
        shape (num_widths,).
    block_s
        How long gains hold, s. No slot is longer: one that crosses blocks is delivered as often as all of
        them allow, which is no closed form, as it depends on when the slots of others end.
    """

    speeds: Floats
    wanted: Floats
    airtime_s: float
    bits: Floats
    errors: Floats
    block_s: float = np.inf

    def design(self, bias_weight: float, noise_gain: float) -> Design:
        """Return the design of the least ``bias_weight x bias + noise_gain x variance``.

        Weights for given slots are a closed form, and slots for given weights a price on airtime; the
        two are found in turns, from the weights that are wanted and from those of least variance.
        What a price leaves of the airtime is used by other slots of one client, or of two at once.

        Raises
        ------
        AllocationError
            If a client's slots fit into no block, or no slots into the airtime.
        """
        if not np.isfinite(self._costs_s).any(axis=1).all():
            shortest_s = float((self.bits.min() / self.speeds.max(axis=1)).max())
            raise AllocationError(
                f"radio.fading.coherence_time_s: gains hold for {self.block_s:g} s, and the shortest slot of "
                f"a client takes {shortest_s:.3g} s; make it longer, send fewer bits, or widen the link."
            )
        needed_s = float(self._costs_s.min(axis=1).sum())
        if needed_s > self.airtime_s:
            raise AllocationError(
                f"allocator.airtime_s: {self.airtime_s:g} s is too short: even where clients send in 7 of "
                f"1,000 rounds their slots take {needed_s:.3g} s; give it more, or send fewer bits."
            )
        # where variance counts for nothing it decides among designs without bias
        value = _Value(self.wanted, bias_weight, noise_gain or _LITTLE * bias_weight)
        least = 1.0 / self._variances[self._within(self.wanted**2)]
        begun = [self._priced(begin, value) for begin in (self.wanted, least / least.sum())]
        best = min(begun, key=lambda one: self._worth(one, value))
        return self._described(self._exchanged(best, value), _Value(self.wanted, bias_weight, noise_gain))

    def _worth(self, chosen: Ints, value: "_Value") -> float:
        return float(value(*value.sums(self._variances[chosen])))

    def _priced(self, weights: Floats, value: "_Value") -> Ints:
        """Return slots that these weights, and then those that go with them, buy at one price."""
        best, tried = np.inf, self._within(weights**2)
        chosen = tried
        for _ in range(_ROUNDS):
            now = self._worth(tried, value)
            if not now < best * (1.0 - 1e-9):
                break
            best, chosen = now, tried
            tried = self._within(value.weights(self._variances[chosen]) ** 2)
        return chosen

    @cached_property
    def _costs_s(self) -> Floats:
        """Expected slots, s, of every threshold and width, shape (num_clients, num_slots).

        Infinite at no speed, and where a slot is longer than a block.
        """
        with np.errstate(divide="ignore"):
            slots_s = self.bits / self.speeds[:, :, None]
        often = np.exp(-THRESHOLDS)[:, None]
        return np.where(slots_s <= self.block_s, often * slots_s, np.inf).reshape(len(self.wanted), -1)

    @cached_property
    def _variances(self) -> Floats:
        """Variance of every slot, shape (num_slots,)."""
        often = np.exp(THRESHOLDS)[:, None]
        return np.asarray(often - 1.0 + often * self.errors).reshape(-1)

    def _within(self, matters: Floats) -> Ints:
        """Return the slots, by their places, that one price on airtime makes the best of."""
        costs = self._costs_s
        losses = (matters / max(float(matters.max()), 1e-300))[:, None] * self._variances
        every = np.arange(len(costs))

        def at(log_price: float) -> Ints:
            return np.asarray((losses + np.exp(log_price) * costs).argmin(axis=1))

        low, high = -_PRICES, _PRICES
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            is_over = costs[every, at(middle)].sum() > self.airtime_s
            low, high = (middle, high) if is_over else (low, middle)
        return at(high)

    def _exchanged(self, chosen: Ints, value: "_Value") -> Ints:
        """Return slots of which no others of one client, or of two, would be better within the airtime."""
        every = range(len(chosen))
        groups: list[tuple[int, ...]] = [(client,) for client in every]
        if len(chosen) <= _MOST_PAIRED:
            groups = [*combinations(every, 2), *groups]
        chosen, best = chosen.copy(), np.inf
        while (now := self._worth(chosen, value)) < best * (1.0 - 1e-3):
            best = now
            for clients in groups:
                self._exchange(chosen, clients, value)
        return chosen

    def _exchange(self, chosen: Ints, clients: Sequence[int], value: "_Value") -> None:
        """Give one client, or two, the best slots that fit beside those of all others."""
        others = np.delete(np.arange(len(chosen)), clients)
        costs_s: Floats = np.array(self._costs_s[others, chosen[others]].sum())
        sums = [np.delete(one, clients).sum() for one in value.terms(self._variances[chosen])]
        # of two clients every second slot, as a single one is then looked at again; shapes (num_slots,) * 2
        tried = [self._worthwhile[client][:: len(clients)] for client in clients]
        for client, slots in zip(clients, tried, strict=True):
            costs_s = costs_s[..., None] + self._costs_s[client, slots]
            terms = value.terms(self._variances[slots], client)
            sums = [one[..., None] + more for one, more in zip(sums, terms, strict=True)]
        values = np.where(costs_s <= self.airtime_s, value(*sums), np.inf)
        places = np.unravel_index(int(values.argmin()), values.shape)
        if values[places] < self._worth(chosen, value):
            chosen[list(clients)] = [slots[place] for slots, place in zip(tried, places, strict=True)]

    @cached_property
    def _worthwhile(self) -> list[Ints]:
        """Slots of each client than which no other has less variance for as little time."""
        found = []
        for costs_s in self._costs_s:
            order = np.lexsort((self._variances, costs_s))
            variances = self._variances[order]
            before = np.concatenate([[np.inf], np.minimum.accumulate(variances)[:-1]])
            found.append(order[variances < before])
        return found

    def _described(self, chosen: Ints, value: "_Value") -> Design:
        places, widths = np.divmod(chosen, len(self.bits))
        every, often = np.arange(len(chosen)), np.exp(THRESHOLDS[places])
        return Design(
            weights=value.weights(self._variances[chosen]),
            speeds=self.speeds[every, places],
            rates=1.0 / often,
            widths=widths,
            slots_s=self._costs_s[every, chosen],
            by_outage=often - 1.0,
            by_rounding=often * self.errors[widths],
        )


@dataclass(frozen=True, eq=False)
class _Value:
    """What slots are worth with the weights that go with them.

    ``a sum (p - w)^2 + b sum p^2 v`` is least over weights ``p`` that add up to one at
    ``p = (a w + n) / s`` with ``s = a + b v``, where it is ``a sum w^2 - sum (a w)^2 / s +
    (1 - sum a w / s)^2 / sum 1 / s``.
    """

    wanted: Floats
    bias_weight: float
    noise_gain: float

    def terms(self, variances: Floats, client: int | None = None) -> tuple[Floats, Floats, Floats]:
        """Return what the value is made of: for all clients each, or for one and many slots."""
        pull = self.bias_weight * (self.wanted if client is None else self.wanted[client])
        stiff = self.bias_weight + self.noise_gain * variances
        return np.asarray(1.0 / stiff), np.asarray(pull / stiff), np.asarray(pull**2 / stiff)

    def sums(self, variances: Floats) -> tuple[Floats, ...]:
        """Return the terms over all clients."""
        return tuple(np.asarray(one.sum()) for one in self.terms(variances))

    def __call__(self, softness: Floats, pulled: Floats, gained: Floats) -> Floats:
        """Return the value from sums of the terms."""
        fixed = self.bias_weight * float((self.wanted**2).sum())
        return np.asarray(fixed - gained + (1.0 - pulled) ** 2 / softness)

    def weights(self, variances: Floats) -> Floats:
        """Return the best weights."""
        softness, pulled, _ = self.terms(variances)
        return np.asarray(pulled + (1.0 - pulled.sum()) * softness / softness.sum())
