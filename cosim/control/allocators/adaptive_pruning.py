"""Pruning ratios and bandwidth against a latency limit, by the conditions of Karush, Kuhn and Tucker."""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.control.allocators import Allocator
from cosim.control.allocators.equal import equal_shares, even_powers
from cosim.control.closed_form import durations_s, link_rates, normalised_gains
from cosim.control.decision import Allocation
from cosim.control.knobs import PRUNING_RATIO, Setting
from cosim.control.solvers.assignment import check_enough
from cosim.control.solvers.pruning import Pruning, Shared
from cosim.control.stages import Barrier, Compute, Stage
from cosim.control.state import CellState, LinkState
from cosim.errors import AllocationError
from cosim.parts import LONGEST_S
from cosim.radio.grant import Grant
from cosim.units import Floats

_LINK = "federated_uplink"


class AdaptivePruning(Allocator):
    """Says how much of the model each client leaves out, so that a round keeps a limit.

    The band of ``federated_uplink`` is split into a channel of any width for each client, at its
    full power, which sees the mean of the client's gains; other links are shared equally. As little as
    possible is left out, weighted by data. Whole heads and columns make a client a little faster than
    planned, never slower. In a round whose fading keeps the limit out of reach all leave
    out the most and are done as early as can be.

    Attributes
    ----------
    latency_limit_s
        How long a round may last, s. Without it nobody leaves out more than it must, and the band is
        split so that the round is as short as can be.
    bandwidth
        ``optimal``, or ``equal`` widths.

    Source
    ------
    arXiv 2309.01816, method card 6 (re-derived). Bits and FLOP are lines through what the scheme says
    of a client that keeps everything and of one that keeps nothing; downloads and what is never
    left out count, too.
    """

    kind: Literal["adaptive_pruning"] = "adaptive_pruning"
    plans_senders: ClassVar[bool] = True
    sets_knobs: ClassVar[frozenset[str]] = frozenset({PRUNING_RATIO})
    latency_limit_s: float | None = Field(default=None, gt=0.0, le=LONGEST_S)
    bandwidth: Literal["optimal", "equal"] = "optimal"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"latency_limit_s": 100.0},
        {"bandwidth": "equal", "latency_limit_s": 100.0},
    )

    @property
    def splits_bands(self) -> bool:
        """It does."""
        return True

    def allocate(self, state: CellState) -> Allocation:
        """Return widths and pruning ratios.

        Raises
        ------
        AllocationError
            If nobody prunes, a client hears nothing, or no decision keeps the limit before fading.
        """
        knob = next((one for one in state.knobs if one.name == PRUNING_RATIO), None)
        link = state.links.get(_LINK)
        if knob is None or link is None:
            raise AllocationError(
                f"allocator.kind: {self.kind!r} says how much of the model clients leave out, and the scheme "
                "leaves out nothing; take the scheme 'pruned_federated'."
            )
        check_enough(link.name, link.num_clients, link.num_subchannels)
        costs = _costs(state, link.data_share)
        now, before_fading = (
            Pruning(snr, float(link.bandwidths_hz.sum()), *costs, state.weights, knob.least, knob.most)
            for snr in _snr_hz(link)
        )
        shared = self._decided(now, before_fading, per_client=knob.per_client)
        powers = even_powers(link)
        grants = tuple(
            Grant(np.array([client]), powers[client : client + 1], shared.bandwidth_hz[client : client + 1])
            for client in range(link.num_clients)
        )
        others = {name: equal_shares(one) for name, one in state.links.items() if name != _LINK}
        ratios = np.clip(shared.ratios, knob.least, knob.most)
        return Allocation(
            {_LINK: grants, **others},
            state.cut_layer,
            state.lora_rank,
            knobs={PRUNING_RATIO: tuple(ratios.tolist()) if knob.per_client else float(ratios.max())},
        )

    def _decided(self, now: Pruning, before_fading: Pruning, *, per_client: bool) -> Shared:
        equal_hz = np.full(len(now.snr_hz), now.bandwidth_hz / len(now.snr_hz))
        if self.latency_limit_s is None:
            alike = Shared(equal_hz, np.full(len(equal_hz), now.least))
            return alike if self.bandwidth == "equal" else now.shortest(now.least)
        self._check_limit(before_fading, equal_hz)
        if self.bandwidth == "equal":
            ratios = now.ratios(equal_hz, self.latency_limit_s)
            return Shared(equal_hz, np.minimum(ratios if per_client else ratios.max(), now.most))
        if not now.is_met(self.latency_limit_s, now.most):
            return now.shortest(now.most)
        return (now.least_left_out if per_client else now.alike)(self.latency_limit_s)

    def _check_limit(self, before_fading: Pruning, equal_hz: Floats) -> None:
        limit_s, most = self.latency_limit_s, before_fading.most
        assert limit_s is not None
        if self.bandwidth == "optimal":
            is_met = before_fading.is_met(limit_s, most)
            shortest_s = before_fading.shortest_s(most)
        else:
            shortest_s = before_fading.finish_s(equal_hz, most)
            is_met = shortest_s <= limit_s
        if not is_met:
            raise AllocationError(
                f"allocator.latency_limit_s: {limit_s:g} s cannot be kept before fading, though every client "
                f"leaves out {most:g} of what it may; the least that can be had is {shortest_s:.6g} s; raise "
                "the limit or scheme.max_ratio, take fewer local steps, or widen the link."
            )


def _snr_hz(link: LinkState) -> Iterable[Floats]:
    """Return what each client's SNR would be in one hertz, Hz: under this channel, and before fading."""
    per_watt = normalised_gains(link).mean(axis=1)
    if not (per_watt > 0.0).all():
        deaf = int(np.flatnonzero(~(per_watt > 0.0))[0])
        raise AllocationError(f"{link.name}: client {deaf} hears nothing, its gain is 0; bring it nearer.")
    now = even_powers(link) * per_watt
    return now, now * link.mean_gains.mean(axis=1) / link.gains.mean(axis=1)


def _costs(state: CellState, data_share: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Return what a round takes of each client beside its upload, s, and what it sends, in bits.

    First what is never left out of either, then what may be. Of a rate only a share is for data.
    """
    rates = {
        name: link_rates(link, equal_shares(link)) for name, link in state.links.items() if name != _LINK
    }
    duration = durations_s(state, rates)

    def at(ratio: float) -> tuple[Floats, Floats]:
        cut = state.client_cut_layers or state.cut_layer
        setting = Setting(cut, state.lora_rank, {PRUNING_RATIO: ratio})
        barrier, *more = state.phases(setting)
        if more or not isinstance(barrier, Barrier):
            raise AllocationError(
                "allocator.kind: 'adaptive_pruning' plans rounds of one barrier, and the scheme's have more; "
                "take the scheme 'pruned_federated'."
            )
        joint_s = sum(duration(stage, None) for stage in barrier.joint)
        spans = [sum(duration(one, client) for one in chain) for client, chain in enumerate(barrier.chains)]
        bits = [sum(map(_uplink_bits, chain)) for chain in barrier.chains]
        return np.array(spans, dtype=float) + joint_s, np.array(bits, dtype=float) / data_share

    (whole_s, whole_bits), (fixed_s, fixed_bits) = at(0.0), at(1.0)
    return fixed_s, fixed_bits, whole_s - fixed_s, whole_bits - fixed_bits


def _uplink_bits(stage: Stage) -> int:
    return 0 if isinstance(stage, Compute) or stage.link != _LINK else stage.bits
