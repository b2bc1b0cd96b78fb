"""What allocators share that say how much of its adapter each client sends."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cosim.control.allocators import Allocator
from cosim.control.allocators.equal import equal_shares, even_powers
from cosim.control.closed_form import durations_s, lasts_s, link_rates, normalised_gains
from cosim.control.decision import Allocation
from cosim.control.knobs import SPARSIFICATION_RATIO, Setting
from cosim.control.solvers.assignment import check_enough, grants_of, spread_powers
from cosim.control.solvers.sparsity.curves import Curves, Exponential, Stepped
from cosim.control.solvers.sparsity.rounding import WholePairs, assign_subchannels
from cosim.control.solvers.sparsity.uplink import Uplink
from cosim.control.stages import Barrier
from cosim.control.state import CellState, LinkState, Sparsity
from cosim.errors import AllocationError
from cosim.parts import LONGEST_S
from cosim.radio.grant import Grant
from cosim.units import Floats

LINK, UPLOAD = "federated_uplink", "adapter_upload"
_LEAST_SHARE = 1e-9  # of the band: what a client that sends nothing is left with

Curve = Literal["exact", "exponential", "generic"]


@dataclass(frozen=True, eq=False)
class Upload:
    """The upload of one round, as the snapshot has it.

    Attributes
    ----------
    link
        The uplink of the adapters.
    sparsity
        What may be left out.
    now, average
        The uplink under the channel of this round, and under the channel before fading.
    beside_s
        What is not the upload, s: what has passed of the round, and the barriers before and
        behind it under equal shares of the band.
    weights
        Of each client, shape (num_clients,); 0 for one that does not take part.
    """

    link: LinkState
    sparsity: Sparsity
    now: Uplink
    average: Uplink
    beside_s: float
    weights: Floats

    @classmethod
    def of(cls, state: CellState) -> Self:
        """Return the upload of a snapshot.

        Raises
        ------
        AllocationError
            If nothing can be left out, no adapters are uploaded, the link's rate is
            not Shannon's, or there are fewer subchannels than clients.
        """
        link = state.links.get(LINK)
        if link is None or state.sparsity is None:
            raise AllocationError(
                "sparsification ratios are given and adapters are not sent by them; take the scheme "
                "'federated' with a codec that can leave something out, such as "
                "adapter_codec = { kind = 'soft' }."
            )
        check_enough(link.name, link.num_clients, link.num_subchannels)
        if link.data_share != 1.0:
            raise AllocationError(
                f"{link.name}: pilots of a surface, or slots of the other direction, take "
                f"{1.0 - link.data_share:.2%} of the air, which keep ratios do not know of; set "
                "radio.surface.estimation = 'free' and radio.duplex.kind = 'fdd', or take an allocator "
                "such as 'equal'."
            )
        takes_part = state.weights > 0.0
        start_s, beside_s = _around(state, takes_part)
        overhead = np.where(takes_part, float(state.sparsity.overhead_bits), 0.0)
        dense = np.full(link.num_clients, float(max(state.sparsity.dense_bits, 1)))
        powers = even_powers(link)
        per_watt = normalised_gains(link).mean(axis=1)
        if not (per_watt[takes_part] > 0.0).all():
            deaf = int(np.flatnonzero(takes_part & ~(per_watt > 0.0))[0])
            raise AllocationError(
                f"{link.name}: client {deaf} hears nothing, its gain is 0; bring it nearer."
            )
        faded = link.gains.mean(axis=1)
        before = np.divide(link.mean_gains.mean(axis=1), faded, out=np.ones(len(faded)), where=faded > 0.0)

        def uplink(gains: Floats) -> Uplink:
            snr_hz = np.maximum(powers * gains, 1e-300)
            return Uplink(snr_hz, float(link.bandwidths_hz.sum()), start_s, overhead, dense)

        return cls(link, state.sparsity, uplink(per_watt), uplink(per_watt * before), beside_s, state.weights)


def _around(state: CellState, takes_part: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Return what each client does before its upload within its barrier, and what is beside that barrier, s.

    Others than the upload are sent under equal shares of the band.
    """
    round_ = state.phases(Setting(state.client_cut_layers or state.cut_layer, state.lora_rank))
    uploading = [part for part in round_ if isinstance(part, Barrier) and UPLOAD in _names(part)]
    if len(uploading) != 1:
        raise AllocationError(
            f"sparsification ratios are given, and rounds of this scheme have no one barrier of {UPLOAD!r}; "
            "take the scheme 'federated'."
        )
    rates = {name: link_rates(link, equal_shares(link)) for name, link in state.links.items()}
    duration, start_s = durations_s(state, rates), np.zeros(state.num_clients)
    for client in np.flatnonzero(takes_part).tolist():
        before = takewhile(lambda stage: stage.name != UPLOAD, uploading[0].chains[client])
        start_s[client] = sum(duration(stage, client) for stage in before)
    others = tuple(part for part in round_ if part is not uploading[0])
    return start_s, state.elapsed_s + lasts_s(others, state, rates)


def _names(barrier: Barrier) -> set[str]:
    chains = {id(chain): chain for chain in barrier.chains}
    return {stage.name for chain in chains.values() for stage in chain}


class KeepRatios(Allocator):
    """Says how much of its adapter each client sends, and over how much bandwidth; asked at every round.

    The band of ``federated_uplink`` is shared, every client sending at its full
    power; other links that count are shared equally. A channel of any width sees
    the mean of the client's gains on the link.

    Attributes
    ----------
    latency_limit_s
        How long a round may last, s; what that means is the allocator's own affair.
    bandwidth
        ``continuous`` splits the band into a channel of any width for each
        client. ``subchannels`` assigns whole subchannels, at least one to each client,
        as near to those widths as can be; what is sent is then fitted to their rates.
    """

    sets_sparsification_ratios: ClassVar[bool] = True
    sets_knobs: ClassVar[frozenset[str]] = frozenset({SPARSIFICATION_RATIO.name})

    latency_limit_s: float = Field(gt=0.0, le=LONGEST_S)
    bandwidth: Literal["continuous", "subchannels"] = "continuous"

    @property
    def splits_bands(self) -> bool:
        """Whether it splits a link's band into channels of any width."""
        return self.bandwidth == "continuous"

    def allocate(self, state: CellState) -> Allocation:
        """Return widths and sparsification ratios for this round.

        Raises
        ------
        AllocationError
            If a round cannot keep the limit: a client computes for longer, or what it
            sends in any case takes longer, under the channel before fading.
        """
        upload = Upload.of(state)
        if state.elapsed_s == 0.0:  # later it is too late to refuse anything
            self.check_limit(upload)
        return self.decide(state, upload)

    @abstractmethod
    def decide(self, state: CellState, upload: Upload) -> Allocation:
        """Return the decision for an upload that can keep the limit."""

    def check_limit(self, upload: Upload) -> None:
        """Refuse a limit that no decision can keep."""
        limit_s = self.latency_limit_s - upload.beside_s
        last = int(upload.now.start_s.argmax())
        needs_s = float(upload.now.start_s[last])
        if not needs_s < limit_s:
            beside = (
                f"; what is not the upload takes {upload.beside_s:.6g} s" if upload.beside_s > 0.0 else ""
            )
            before = (
                f"client {last} computes for {needs_s:.6g} s before its upload"
                if needs_s > 0.0
                else ("nothing is left for the upload")
            )
            raise AllocationError(
                f"allocator.latency_limit_s: {self.latency_limit_s:g} s cannot be kept: {before}{beside}; "
                f"raise the limit above {needs_s + upload.beside_s:.6g} s, take fewer local steps, or a "
                "faster device."
            )
        least_s = float(upload.average.earliest_s(upload.average.overhead_bits))
        if not least_s < limit_s:
            raise AllocationError(
                f"allocator.latency_limit_s: {self.latency_limit_s:g} s cannot be kept: computing and "
                f"sending the {upload.sparsity.overhead_bits} bits that say what is sent take "
                f"{least_s + upload.beside_s:.6g} s before fading; raise the limit or widen the link."
            )

    def latency(self, state: CellState) -> tuple[float, float, float]:
        """Return the limit, and how long a round takes before fading if overheads alone or all is sent, s."""
        upload = Upload.of(state)
        sent = np.stack(
            [upload.average.overhead_bits, upload.average.overhead_bits + upload.average.dense_bits]
        )
        empty_s, dense_s = (upload.average.earliest_s(sent) + upload.beside_s).tolist()
        return self.latency_limit_s, empty_s, dense_s

    def decision(
        self,
        state: CellState,
        upload: Upload,
        pairs: WholePairs,
        bits: Floats,
        deadline_s: float,
        *,
        bandwidth_hz: Floats | None = None,
        memory: Mapping[str, float] | None = None,
    ) -> Allocation:
        """Return the decision to send these bits by a deadline, rounded to what can be sent.

        Parameters
        ----------
        pairs
            Rounds payloads.
        bits
            What each client sends on top of its overhead, shape (num_clients,).
        deadline_s
            By when, s, on the clock of the uplink.
        bandwidth_hz
            Width of each client, Hz; without it all are done as early as possible together.
        memory
            What to be reminded of.
        """
        now, link = upload.now, upload.link
        if bandwidth_hz is None:
            bits = pairs.fit(now, bits, deadline_s)
            widths = now.fair_widths_hz(now.overhead_bits + bits)
        else:
            bits, widths = pairs.down(bits), bandwidth_hz
        widths = np.maximum(widths, _LEAST_SHARE * now.bandwidth_hz)
        widths = widths * (now.bandwidth_hz / float(widths.sum()))
        powers = even_powers(link)
        if self.bandwidth == "continuous":
            grants = tuple(
                Grant(np.array([client]), powers[client : client + 1], widths[client : client + 1])
                for client in range(link.num_clients)
            )
        else:
            assignment = assign_subchannels(widths, link.bandwidths_hz, link.gains)
            grants = grants_of(assignment, spread_powers(assignment, powers), link.num_clients)
            carried = np.maximum(deadline_s - now.start_s, 0.0) * link_rates(link, grants)
            bits = self.fitted(pairs, bits, np.maximum(carried - now.overhead_bits, 0.0))
        others = {name: equal_shares(other) for name, other in state.links.items() if name != LINK}
        ratios = np.clip(bits / now.dense_bits, 0.0, 1.0)
        return Allocation(
            {LINK: grants, **others},
            state.cut_layer,
            state.lora_rank,
            knobs={SPARSIFICATION_RATIO.name: tuple(ratios.tolist())},
            memory=dict(memory or {}),
            figures={"latency_limit_s": self.latency_limit_s},
        )

    def fitted(self, pairs: WholePairs, wanted_bits: Floats, carried_bits: Floats) -> Floats:
        """Return payloads for the subchannels assigned, given what was wanted and what they carry in time."""
        return pairs.down(np.minimum(carried_bits, pairs.useful_bits))


def curves_of(upload: Upload, curve: Curve, scale: float = 1.0) -> tuple[Curves, WholePairs]:
    """Return what each client loses by sending less, over ``scale``, and how payloads are rounded.

    The generic curve is taken where energies are not known, and, in the place of
    an energy, as one.
    """
    sparsity, dense = upload.sparsity, upload.now.dense_bits
    weights = upload.weights / scale
    energies = sparsity.energies
    if energies is None or len(sparsity.pair_bits) == 0:
        curves: Curves = Stepped.generic(dense, np.ones(len(dense)), upload.weights)
        return curves, WholePairs(curves, sparsity.pair_bits, None)
    sizes = [np.asarray(sparsity.pair_bits, dtype=float)] * len(energies)
    if curve == "exact":
        steps = Stepped(sizes, energies, weights)
        return steps, WholePairs(steps, sparsity.pair_bits, steps)
    if curve == "exponential":
        curves = Exponential.fit(sizes, energies, dense, weights)
    else:
        curves = Stepped.generic(dense, np.array([one.sum() for one in energies]), weights)
    return curves, WholePairs(curves, sparsity.pair_bits, None)
