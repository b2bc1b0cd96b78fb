"""Precoding by a client's own channel and nobody else's."""

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np

from cosim.radio.precoding import Precoded, Precoding, Senders
from cosim.units import Floats

_STEPS = 200


class TruncatedInversion(Precoding):
    """Each inverts its own channel times a factor of its own, and is silent where that takes too much power.

    Factors are worked out from the mean gains and the distribution of the fading,
    so that nobody needs to know another's channel, nor the base station who is
    silent. A client with factor ``f`` sends where its gain is at least ``f^2`` over
    its power, which is with probability ``b``; the base station divides by the sum
    of all ``f b``. In the mean over the fading each then counts with the weight that
    is wanted; from one sum to the next it counts with more, or with nothing. The
    client that is weakest for its weight is silent below the threshold of the
    medium, the others below a lower one.

    Source
    ------
    M. Faraz Ul Abrar and N. Michelusi, "Biased federated learning under wireless
    heterogeneity", arXiv 2503.06078, its zero-bias design (method card 1: the model is
    recalled, the algebra re-derived: ``alpha = gamma exp(-gamma^2 G^2 / (d Lambda E))``
    under Rayleigh fading; there the noise is least at a threshold of one half, -3 dB).
    """

    kind: Literal["truncated_inversion"] = "truncated_inversion"
    needs_each_channel: ClassVar[bool] = False

    def precode(self, senders: Senders) -> Precoded:
        """Return factors over their wanted sum; they add up to one in the mean over the fading."""
        wants = (senders.weights > 0.0) & (senders.tx_power_w > 0.0)
        nothing = Precoded(np.zeros_like(senders.gains), np.zeros_like(senders.shares))
        if not wants.any():
            return nothing
        share_above = senders.share_above()
        # amplitude of each for a threshold of one, root W
        size = np.sqrt(senders.tx_power_w * senders.mean_gains)[wants]
        wanted = senders.weights[wants] / size
        levels = _levels(share_above, wanted / wanted.max(), senders.threshold)
        factors = size * np.sqrt(levels)
        total = float((factors * share_above(levels)).sum())
        if not total > 0.0:
            return nothing
        each, level = np.zeros(len(wants)), np.full(len(wants), np.inf)
        each[wants], level[wants] = factors / total, levels * senders.mean_gains[wants] * (1.0 - 1e-12)
        is_heard = senders.harmonic_gains >= level[:, None, None]
        weights = np.where(is_heard, each[:, None, None], 0.0)
        return Precoded(np.broadcast_to(weights, senders.gains.shape), np.full_like(senders.shares, total**2))


def _levels(share_above: Callable[[Floats], Floats], wanted: Floats, threshold: float) -> Floats:
    """Return the least level of each at which the mean amplitude is in the proportion that is wanted.

    The mean amplitude is the root of the level times the share above it. The largest
    of ``wanted`` is one, and its level is the threshold or below, where the mean
    amplitude is as large.
    """

    def amplitude(levels: Floats) -> Floats:
        return np.sqrt(levels) * share_above(levels)

    target = wanted * float(amplitude(np.array([threshold]))[0])
    tried = threshold * np.geomspace(1e-9, 1.0, _STEPS)
    high = np.full_like(target, tried[int(amplitude(tried).argmax())])
    high[wanted == 1.0] = threshold
    low = np.zeros_like(target)
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        is_enough = amplitude(middle) >= target
        low, high = np.where(is_enough, low, middle), np.where(is_enough, middle, high)
    return high
