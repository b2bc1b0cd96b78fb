"""Biased weights of updates that are sent as bits: who is hard to hear counts less, and less is lost."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.control.allocators.biased import Weighing
from cosim.control.allocators.time_shared import whole_bands
from cosim.control.decision import Allocation
from cosim.control.knobs import DELIVERY_RATE, QUANTISATION_BITS, SPECTRAL_EFFICIENCY, WEIGHT, Setting
from cosim.control.solvers.biased_digital import THRESHOLDS, Slots
from cosim.control.stages import bits_over
from cosim.control.state import CellState, LinkState
from cosim.errors import AllocationError
from cosim.radio.grant import Grant
from cosim.units import NS_PER_S, Floats


class BiasedDigital(Weighing):
    """Weights, rates and widths of numbers that stay the same over all rounds; slots as ``time_shared``.

    Each client has the whole band in a slot of its own, quantises to a width and sends at a
    spectral efficiency of its own; what the channel does not allow is lost. The server divides
    what arrives by how often it arrives, and does not renormalise, so the average is right in the mean.

    For the medium ``fluid`` with ``rate = "fixed"`` and ``outage = "silent"``, under Rayleigh fading
    that is alike on all subchannels, and updates whose last step is ``quantise``. A slot is no longer
    than gains hold; the coherence time should be long against it, as one that crosses two blocks is lost
    more often than was decided. Of its lengths, those behind ``clip`` count.

    Attributes
    ----------
    theta
        The share of the variance in what is minimised; the rest is the bias. At 1 the strongest
        client is almost alone.
    airtime_s
        What the slots of a round add up to in the mean, at most.
    crest_factor
        Largest number of an update over its root mean square, which sets how coarse levels are.

    Source
    ------
    M. Faraz Ul Abrar and N. Michelusi, arXiv 2503.06078, its digital half (method card 1: structure
    by the abstract, equations re-derived). Quantisation is by subtractive dither, of variance
    ``step^2 / 12`` (ours; the card bounds that of stochastic rounding by ``step^2 / 4``). Successive
    convex approximation is replaced by two exact steps in turns.
    """

    kind: Literal["biased_digital"] = "biased_digital"
    shares_in_time: ClassVar[bool] = True
    sets_knobs: ClassVar[frozenset[str]] = frozenset(
        one.name for one in (WEIGHT, DELIVERY_RATE, SPECTRAL_EFFICIENCY, QUANTISATION_BITS)
    )
    airtime_s: float = Field(default=0.1, gt=0.0)
    crest_factor: float = Field(default=6.0, ge=1.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"airtime_s": 1e3},
        {"theta": 0.0, "airtime_s": 1e3},
    )

    def allocate(self, state: CellState) -> Allocation:
        """Return whole bands, weights, and how each client sends.

        Raises
        ------
        AllocationError
            If the scheme or the medium does not read what is decided, or no slots fit into the airtime.
        """
        link = self.uplink(state)
        if QUANTISATION_BITS not in state.knobs:
            raise AllocationError(
                f"allocator.kind: {self.kind!r} says with how many bits clients quantise, and they do not; "
                "take the scheme 'federated', and put { kind = 'quantise', rounding = 'dithered' } last in "
                "scheme.update."
            )
        if DELIVERY_RATE not in state.knobs:
            raise AllocationError(
                f"allocator.kind: {self.kind!r} has the server average without renormalising, which takes "
                "sums alone; take an aggregator such as 'fedavg', with one rank for all clients."
            )
        if SPECTRAL_EFFICIENCY not in state.knobs:
            raise AllocationError(
                f"allocator.kind: {self.kind!r} gives each client a rate, and the medium has none that are "
                "fixed; take the medium 'fluid' with rate = 'fixed' and outage = 'silent'."
            )
        takes_part = state.weights > 0.0
        grants = whole_bands(state)
        widths = np.arange(QUANTISATION_BITS.least, QUANTISATION_BITS.most + 1.0)
        slots = Slots(
            speeds=np.stack([_speeds(link, *one) for one in enumerate(grants[link.name])])[takes_part],
            wanted=state.weights[takes_part],
            airtime_s=self.airtime_s,
            bits=np.array([self._bits(state, int(width)) for width in widths]),
            errors=np.asarray(self.crest_factor**2 / (12.0 * (2.0 ** (widths - 1.0) - 1.0) ** 2)),
            block_s=np.inf if state.block_ns is None else state.block_ns / NS_PER_S,
        )
        factors = self.bound_factors(int(takes_part.sum()))
        found = slots.design(*(factors if self.theta is None else (1.0 - self.theta, self.theta)))
        figures = {
            "design_bias": ((found.weights - slots.wanted) ** 2).sum(),
            "design_fading": (found.weights**2 * found.by_outage).sum(),
            "design_noise": (found.weights**2 * found.by_rounding).sum(),
            "design_airtime_s": found.slots_s.sum(),
        }

        def of_all(values: Floats, absent: float) -> tuple[float, ...]:
            each = np.full(state.num_clients, absent)
            each[takes_part] = values
            return tuple(each.tolist())

        return Allocation(
            grants,
            state.cut_layer,
            state.lora_rank,
            knobs={
                WEIGHT.name: of_all(found.weights, 0.0),
                DELIVERY_RATE.name: of_all(found.rates, 1.0),
                SPECTRAL_EFFICIENCY.name: of_all(found.speeds / link.bandwidths_hz.sum(), 1.0),
                QUANTISATION_BITS.name: of_all(widths[found.widths], QUANTISATION_BITS.least),
            },
            figures={name: float(value) for name, value in figures.items()},
        )

    def _bits(self, state: CellState, width: int) -> int:
        """Return the bits of an update whose numbers have a width."""
        knobs = {QUANTISATION_BITS.name: (float(width),) * state.num_clients}
        cut = state.client_cut_layers or state.cut_layer
        round_ = state.phases(Setting(cut, state.lora_rank, knobs))
        return max(1, *(bits_over(round_, "federated_uplink", client) for client in range(state.num_clients)))


def _speeds(link: LinkState, client: int, grant: Grant) -> Floats:
    """Return what multiples of a client's mean gain allow it, bit/s, shape (num_thresholds,)."""
    snr = grant.tx_power_w * link.mean_gains[client] / (link.noise_psd_w_per_hz * link.bandwidths_hz)
    return np.asarray(link.data_share * link.rate.rates(THRESHOLDS[:, None] * snr, link.bandwidths_hz))
