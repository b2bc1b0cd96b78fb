"""A decision, and the limits it must keep."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from cosim.control.knobs import PARTICIPATION, SPARSIFICATION_RATIO, WEIGHT, Setting, Value
from cosim.control.stages import served
from cosim.control.state import CellState, LinkState
from cosim.errors import AllocationError
from cosim.radio.grant import Grant
from cosim.units import Floats

_SLACK = 1.0 + 1e-9  # a power limit met by equality must survive floating point


@dataclass(frozen=True)
class Plan:
    """What an allocator expects of its decision while the air holds still.

    Attributes
    ----------
    round_s, rounds_to_target, total_s
        One round, how many of them, and their product, s.
    objective_trace_s
        The total after each step of the search that led here, s.
    lower_bound_s
        A total no decision can beat, s, where the allocator has proven one.
    notes
        Further numbers of this allocator, by name.
    """

    round_s: float
    rounds_to_target: float
    total_s: float
    objective_trace_s: tuple[float, ...] = ()
    lower_bound_s: float | None = None
    notes: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def gap_to_bound(self) -> float | None:
        """How far the total lies above the bound, as a share of the bound; None without a bound."""
        return None if self.lower_bound_s is None else self.total_s / self.lower_bound_s - 1.0


@dataclass(frozen=True)
class Allocation:
    """Who gets what.

    Attributes
    ----------
    grants
        For each link that counts, the grant of every client.
    cut_layer, lora_rank
        Blocks kept on the clients; rank of every adapter.
    plan
        What the allocator expects of it, where it predicts anything.
    client_cut_layers
        Blocks kept on each client where they differ, ``cut_layer`` being the fewest; None where all
        keep as many.
    knobs
        Values of knobs that a part declares, by name: one, or one for each client.
    memory
        Numbers the allocator is to be reminded of when it is asked next; recorded.
    arrays
        Arrays it is to be reminded of likewise, which are not recorded.
    figures
        What else is recorded of the decision, by name.
    """

    grants: Mapping[str, tuple[Grant, ...]]
    cut_layer: int
    lora_rank: int
    plan: Plan | None = None
    client_cut_layers: tuple[int, ...] | None = None
    knobs: Mapping[str, Value] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def setting(self) -> Setting:
        """What it sets beside the grants."""
        return Setting(self.cut, self.lora_rank, self.knobs)

    @property
    def sparsification_ratios(self) -> tuple[float, ...] | None:
        """Share of its adapter's bits each client may send this round; None to send it whole."""
        value = self.knobs.get(SPARSIFICATION_RATIO.name)
        return value if isinstance(value, tuple) else None

    @property
    def cut(self) -> int | tuple[int, ...]:
        """Blocks kept on every client, or on each client in turn where they differ."""
        return self.cut_layer if self.client_cut_layers is None else self.client_cut_layers

    def cut_at(self, cut: int | tuple[int, ...]) -> "Allocation":
        """Return the same grants at another cut."""
        if isinstance(cut, int):
            return replace(self, cut_layer=cut, client_cut_layers=None)
        return replace(self, cut_layer=min(cut), client_cut_layers=cut)

    def check(self, state: CellState, *, shares_in_time: bool) -> None:
        """Hold the decision against the limits of the cell.

        Raises
        ------
        AllocationError
            Naming the client or link, what was decided for it, and its limit.
        """
        if self.cut_layer not in state.cut_layers:
            raise AllocationError(
                f"the cut layer {self.cut_layer} was chosen; "
                f"it must be {state.cut_layers[0]} to {state.cut_layers[-1]}."
            )
        if self.client_cut_layers is not None:
            _check_cuts(self.client_cut_layers, self.cut_layer, state)
        if self.lora_rank < 1:
            raise AllocationError(f"the LoRA rank {self.lora_rank} was chosen; it must be at least 1.")
        _check_knobs(self.knobs, state)
        for name, link in state.links.items():
            if name not in self.grants:
                raise AllocationError(f"nothing is granted on {name}, whose airtime counts.")
            _check_link(link, self.grants[name], shares_in_time, self._served(name, state))

    def _served(self, link: str, state: CellState) -> Collection[int]:
        """Return the clients that need something of a link: all, unless it says who takes part."""
        if PARTICIPATION.name not in self.knobs:
            return range(state.num_clients)
        round_ = state.phases(self.setting)
        if not round_:
            return [client for client in range(state.num_clients) if self.setting.takes_part(client)]
        return served(round_, link)


def _check_cuts(cuts: tuple[int, ...], fewest: int, state: CellState) -> None:
    if len(cuts) != state.num_clients or min(cuts, default=0) != fewest:
        raise AllocationError(
            f"the cut layers {list(cuts)} are given for {state.num_clients} clients, and {fewest} as the "
            "fewest; give one for each client, and the least of them."
        )
    if cuts == state.client_cut_layers:
        return
    if not state.may_cut_apart:
        raise AllocationError(
            "a cut layer of its own is chosen for each client, and the scheme cuts all at the same; "
            "choose one for all, or take a scheme that can: 'split_federated'."
        )
    for client, cut in enumerate(cuts):
        if cut not in state.cut_layers:
            raise AllocationError(
                f"the cut layer {cut} was chosen for client {client}; "
                f"it must be {state.cut_layers[0]} to {state.cut_layers[-1]}."
            )


def _check_knobs(knobs: Mapping[str, Value], state: CellState) -> None:
    declared = {knob.name: knob for knob in state.knobs}
    for name, value in knobs.items():
        if name not in declared:
            known = f"declared are {', '.join(sorted(declared))}" if declared else "none is declared"
            raise AllocationError(
                f"the knob {name!r} is set, and nobody reads it: {known}; take a scheme that reads it, or an "
                "allocator that leaves it alone."
            )
        declared[name].check(value, state.num_clients)
    if SPARSIFICATION_RATIO.name in knobs and state.sparsity is None:
        raise AllocationError(
            "sparsification ratios are given and adapters are not sent by them; take the scheme 'federated' "
            "with a codec that can leave something out, such as adapter_codec = { kind = 'soft' }."
        )
    chosen, weights = knobs.get(PARTICIPATION.name), knobs.get(WEIGHT.name)
    takes_part = (state.weights > 0.0) & (True if chosen is None else np.asarray(chosen) > 0.0)
    if not takes_part.any():
        raise AllocationError(
            "nobody is chosen who could take part in the round; choose one client at least."
        )
    if weights is not None and not abs(float(np.asarray(weights)[takes_part].sum()) - 1.0) < 1e-9:
        raise AllocationError(
            f"the weights of those who take part add up to {float(np.asarray(weights)[takes_part].sum()):g}; "
            "give weights that add up to 1."
        )


def _check_link(
    link: LinkState, grants: tuple[Grant, ...], shares_in_time: bool, served: Collection[int]
) -> None:
    if len(grants) != link.num_clients:
        raise AllocationError(f"{link.name}: {len(grants)} grants are given for {link.num_clients} clients.")
    assignment = np.full(link.num_subchannels, -1)
    for client, grant in enumerate(grants):
        if len(grant.subchannels) == 0:
            if client not in served:
                continue
            raise AllocationError(
                f"{link.name}: client {client} has no subchannel; {link.num_clients} clients share "
                f"{link.num_subchannels} subchannels; an allocator that shares in time, such as "
                "'time_shared', can serve more clients than subchannels."
            )
        if not 0 <= int(grant.subchannels.min()) <= int(grant.subchannels.max()) < link.num_subchannels:
            raise AllocationError(
                f"{link.name}: client {client} is granted subchannels {grant.subchannels.tolist()}; "
                f"there are 0 to {link.num_subchannels - 1}."
            )
        taken = grant.subchannels[assignment[grant.subchannels] >= 0]
        if len(taken) and not shares_in_time:
            other = assignment[taken[0]]
            raise AllocationError(
                f"{link.name}: subchannel {taken[0]} is granted to client {other} and to client {client}."
            )
        assignment[grant.subchannels] = client
        if grant.bandwidths_hz is not None:
            _check_widths(link, client, grant)
        if not np.isfinite(grant.tx_power_w).all() or (grant.tx_power_w < 0).any():
            raise AllocationError(
                f"{link.name}: client {client} is to send with {grant.tx_power_w.tolist()} W; "
                "powers must be finite and not negative."
            )
        if grant.total_tx_power_w > link.max_tx_power_w[client] * _SLACK:
            raise AllocationError(
                f"{link.name}: client {client} is to send with {grant.total_tx_power_w:.6g} W; "
                f"its limit is {link.max_tx_power_w[client]:.6g} W."
            )
    if any(grant.bandwidths_hz is not None for grant in grants):
        _check_band(link, grants)
    powers = [grant.total_tx_power_w for grant in grants]
    total = max(powers) if shares_in_time else sum(powers)
    if total > link.max_total_tx_power_w * _SLACK:
        raise AllocationError(
            f"{link.name}: {total:.6g} W are granted in all; "
            f"the limit of the link is {link.max_total_tx_power_w:.6g} W."
        )


def _check_widths(link: LinkState, client: int, grant: Grant) -> None:
    widths = grant.bandwidths_hz
    assert widths is not None
    if widths.shape != grant.subchannels.shape or not np.isfinite(widths).all() or (widths <= 0.0).any():
        raise AllocationError(
            f"{link.name}: client {client} is given the widths {widths.tolist()} Hz for "
            f"{len(grant.subchannels)} channels; each needs one, finite and positive."
        )


def _check_band(link: LinkState, grants: tuple[Grant, ...]) -> None:
    """Refuse channels that are wider together than the band they are parts of."""
    band_hz = float(link.bandwidths_hz.sum())
    together_hz = sum(
        float((link.bandwidths_hz[one.subchannels] if one.bandwidths_hz is None else one.bandwidths_hz).sum())
        for one in grants
    )
    if together_hz > band_hz * _SLACK:
        raise AllocationError(
            f"{link.name}: the channels it is split into are {together_hz:.9g} Hz wide together; "
            f"the link has {band_hz:.9g} Hz."
        )
