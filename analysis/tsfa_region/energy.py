"""How much sooner TSFA sends the same energy than one ratio does, with energies known: no training.

The energies of a pilot training are taken for all channels, so what differs is the air and who decides.
Rounds are those of the simulator: uploads begin when clients have computed (TSFA: when all have), the band is
split for the earliest common end under the channel of the decision, and stays so whatever the fading does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from analysis.soft_tsfa.gap import timeline_of
from analysis.soft_tsfa.long_run import Timeline, least_unsent
from analysis.tsfa_region.cells import Place
from cosim.control.allocators.sparsifying import Upload
from cosim.control.solvers.sparsity.curves import Stepped
from cosim.control.solvers.sparsity.deadline import best_round, next_queue_s
from cosim.control.solvers.sparsity.flat_rate import flat_rate
from cosim.control.solvers.sparsity.sharing import share_band
from cosim.control.solvers.sparsity.uplink import Uplink
from cosim.scenario.build import prepare
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario
from cosim.units import Floats

_LONGEST = 8.0  # of what is known of the air, in rounds as long as the limit
_STEPS = 16  # of the bound's grid in a round


class Saving(NamedTuple):
    """TSFA under one limit and weight on one place.

    Attributes
    ----------
    time
        Its time over that of the one ratio that leaves as much unsent, less one.
    overrun
        Its mean round over the limit, less one.
    fixed, tsfa, even, bound
        Share of the energy left unsent in TSFA's time: by one ratio; by TSFA; at least by any policy whose
        rounds are equally long, and by any policy. The last two are nan where they were not wanted.
    """

    time: float
    overrun: float
    fixed: float
    tsfa: float
    even: float
    bound: float


@dataclass(frozen=True, eq=False)
class Air:
    """A place as its rounds meet it: the air of the run, the one before fading, and what may be sent."""

    timeline: Timeline
    average_hz: Floats
    curves: Sequence[Stepped]
    dense_bits: Floats

    @classmethod
    def of(cls, scenario: Scenario, place: Place, curves: Sequence[Stepped]) -> "Air":
        """Build the air of a place for as many rounds as there are curves."""
        prepared = prepare(change(scenario, place.fixed(1.0).changes, place.seed))
        upload = Upload.of(prepared.decisions().state(0, round_=1))
        length_s = _LONGEST * len(curves) * place.dense_s
        return cls(
            timeline_of(prepared, upload, length_s), upload.average.snr_hz, curves, upload.now.dense_bits
        )

    def uplink(self, instant_s: float, start_s: Floats) -> Uplink:
        """Return the uplink of the block at an instant."""
        block = min(int(instant_s / self.timeline.block_s), len(self.timeline.snr_hz) - 1)
        return self._over(self.timeline.snr_hz[block], start_s)

    def _over(self, snr_hz: Floats, start_s: Floats) -> Uplink:
        band = self.timeline.bandwidth_hz
        return Uplink(snr_hz, band, start_s, self.timeline.overhead_bits, self.dense_bits)

    def end_s(self, begin_s: float, bits: Floats, ready_s: Floats, decided_s: float) -> float:
        """Return when a round is over in which clients send ``bits`` from ``ready_s`` after its begin on.

        The band is split at ``decided_s``, for the earliest common end in the block that holds then.
        """
        widths = self.uplink(decided_s, begin_s + ready_s - decided_s).fair_widths_hz(bits)
        first, block_s = int(begin_s / self.timeline.block_s), self.timeline.block_s
        count = 8
        while True:
            edges = block_s * np.arange(first, first + count + 1)
            rates = flat_rate(self.timeline.snr_hz[first : first + count], widths)  # (blocks, clients)
            lasts_s = np.diff(np.maximum(edges[: len(rates) + 1, None], begin_s + ready_s), axis=0)
            carried = np.cumsum(lasts_s * rates, axis=0)
            if (carried[-1] >= bits).all():
                block = (carried >= bits).argmax(axis=0)
                clients = np.arange(len(bits))
                over = (carried[block, clients] - bits) / np.maximum(rates[block, clients], 1e-300)
                return float(np.where(bits > 0.0, edges[block + 1] - over, begin_s + ready_s).max())
            if len(rates) < count:
                raise ValueError(f"the air is known for {edges[len(rates)]:g} s, and a round lasts longer")
            count *= 2

    def fixed(self, ratio: float) -> tuple[float, float]:
        """Return the share left unsent by one ratio, mean over rounds, and when the last is over, s."""
        now_s, bits = 0.0, ratio * self.dense_bits
        for _ in self.curves:
            now_s = self.end_s(now_s, bits, self.timeline.start_s, now_s)
        return self.unsent([bits] * len(self.curves)), now_s

    def unsent(self, bits: Sequence[Floats]) -> float:
        """Return the share left unsent, mean over rounds."""
        return float(
            np.mean([one.remaining(sent).sum() for one, sent in zip(self.curves, bits, strict=True)])
        )

    def tsfa(self, limit_s: float, factor: float) -> tuple[float, float]:
        """Return the same for TSFA, its own weight taken ``factor`` times."""
        start_s = self.timeline.start_s
        waits_s, last = np.zeros_like(start_s), np.full_like(start_s, start_s.max())
        average = self._over(self.average_hz, waits_s)
        left_s = np.array([limit_s - last[0]])
        slope = -float(share_band(average, self.curves[0], left_s).slope_per_s[0])
        weight = factor * limit_s / max(slope, 1e-6 / limit_s)
        queue_s, now_s, sent = weight * slope, 0.0, []
        for curve in self.curves:
            uplink = self.uplink(now_s + last[0], waits_s)
            sent.append(best_round(uplink, curve, weight=weight, queue_s=queue_s).bits)
            begin_s, now_s = now_s, self.end_s(now_s, sent[-1], last, now_s + last[0])
            queue_s = next_queue_s(queue_s, now_s - begin_s, limit_s)
        return self.unsent(sent), now_s

    def saving(self, place: Place, limit: float, factor: float = 1.0, *, bounds: bool = False) -> Saving:
        """Return what TSFA saves; see :class:`Saving`."""
        limit_s = place.limit_s(limit)
        unsent, lasts_s = self.tsfa(limit_s, factor)
        same_energy = _root(lambda ratio: unsent - self.unsent([ratio * self.dense_bits] * len(self.curves)))
        same_time = _root(lambda ratio: self.fixed(ratio)[1] - lasts_s)
        least = [np.nan, np.nan]
        if bounds:
            blocks = self.timeline.snr_hz[: int(lasts_s / self.timeline.block_s) + 1]
            met = replace(self.timeline, snr_hz=blocks)
            found = least_unsent(met, self.curves, lasts_s, steps_per_round=_STEPS)
            least = [found.even, found.mean]
        return Saving(
            lasts_s / self.fixed(same_energy)[1] - 1.0,
            lasts_s / (limit_s * len(self.curves)) - 1.0,
            self.fixed(same_time)[0],
            unsent,
            *least,
        )


def _root(rising: Callable[[float], float]) -> float:
    """Return the ratio at which something that rises with it is zero, or the nearer end."""
    low, high = 0.0, 1.0
    for _ in range(14):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if rising(middle) > 0.0 else (middle, high)
    return 0.5 * (low + high)
