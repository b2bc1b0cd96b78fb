"""When the allocator is asked, what it is shown, and what it said."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cosim.compute.device import Device
from cosim.control.allocators import Allocator, GainChange
from cosim.control.allocators.equal import equal_shares
from cosim.control.closed_form import plan_of, predict
from cosim.control.conditions import Conditions
from cosim.control.decision import Allocation, Plan
from cosim.control.knobs import PARTICIPATION, SURFACE_PHASES, Knob, Setting, surface_phases
from cosim.control.reports import REPORT, REPORT_BITS, Outcome, Report, Reported
from cosim.control.stages import Round, after, is_closed
from cosim.control.state import CellState, LinkState, Sparsity, SurfaceState
from cosim.control.terms import Terms
from cosim.errors import AllocationError
from cosim.radio.access.orthogonal import Orthogonal
from cosim.radio.channel_settings import LINKS, DownlinkSettings
from cosim.radio.grant import Grant
from cosim.radio.power_control import open_loop_psd_w_per_hz
from cosim.rng import stream
from cosim.units import NS_PER_S, Floats


class Decisions:
    """The decisions of one run, taken on snapshots of its cell.

    Parameters
    ----------
    clients, main_server, federated_server
        The devices.
    conditions
        The air, and who shares it out.
    terms
        What it decides about.
    first
        The first decision, where it is known already.

    Attributes
    ----------
    current
        What holds, once anything does.
    """

    def __init__(
        self,
        *,
        clients: Sequence[Device],
        main_server: Device,
        federated_server: Device,
        conditions: Conditions,
        terms: Terms,
        first: Allocation | None = None,
    ) -> None:
        self.current: Allocation | None = None
        self.terms = terms
        self._clients = clients
        self._main_server, self._federated_server = main_server, federated_server
        self._first = first
        self._begun: tuple[CellState, Allocation, Allocator] | None = None
        self._seen: CellState | None = None
        self._absent: Collection[int] = ()
        self._last_round_s: float | None = None
        self._began_ns = 0
        self._reported: Reported = {}
        self._has_reported = False
        self._under_way = [0] * len(clients)
        self._outcomes = [Outcome()] * len(clients)
        self.change(conditions)

    def change(self, conditions: Conditions) -> None:
        """Let other conditions hold from the next decision on.

        Raises
        ------
        AllocationError
            If the allocator wants to know what no client can report.
        """
        self.cell, self.access = conditions.channel, conditions.access
        self._allocator = allocator = conditions.allocator
        self._max_tx_power_w = np.array(conditions.max_tx_power_w)
        missing = [one.name for one in allocator.reports if one.name not in self.terms.reportable]
        if missing:
            known = ", ".join(sorted(self.terms.reportable)) or "nothing"
            raise AllocationError(
                f"allocator.kind: {allocator.kind!r} wants {missing[0]!r} reported, and clients of the "
                f"scheme report {known}; take the scheme 'federated', or an allocator such as 'equal'."
            )

    def start_round(self, time_ns: int, round_: int, absent: Collection[int]) -> None:
        """Take in, at the beginning of a round, who is absent from it and how long the last one was."""
        self._last_round_s = None if round_ == 1 else (time_ns - self._began_ns) / NS_PER_S
        self._began_ns, self._absent, self._has_reported = time_ns, absent, False

    def hear(self, reported: Mapping[str, Mapping[int, Any]], *, is_awaited: bool) -> None:
        """Take in what clients reported, when it has arrived; what is awaited opens the round's decision."""
        everybody = range(len(self._clients))
        heard = {name: tuple(of.get(client) for client in everybody) for name, of in reported.items()}
        self._reported = {**self._reported, **heard}
        self._has_reported = self._has_reported or is_awaited

    def sends(self, client: int) -> None:
        """Take in that a client begins to send."""
        self._under_way[client] += 1

    def sent(
        self, client: int, bits: int, airtime_ns: int, energy_j: float, *, is_delivered: bool = True
    ) -> None:
        """Take in what came of it."""
        self._under_way[client] -= 1
        so_far = self._outcomes[client]
        self._outcomes[client] = replace(
            so_far,
            airtime_s=so_far.airtime_s + airtime_ns / NS_PER_S,
            bits=so_far.bits + (bits if is_delivered else 0),
            delivered=so_far.delivered and is_delivered,
            energy_j=so_far.energy_j + energy_j,
        )

    def decide(self, time_ns: int, round_: int) -> Allocation:
        """Return the allocator's decision for the cell as it is now, checked against its limits.

        Cut layers and rank stay what the first decision that held made them, and cut
        layers what the scenario gives each client.

        Raises
        ------
        AllocationError
            If the decision breaks a limit.
        """
        state, kept = self.state(time_ns, round_), self.current
        if kept is None and self._first is not None:
            return self._first
        allocation = self._allocator.allocate(state)
        given = state.client_cut_layers or (None if kept is None else kept.cut_layer)
        cut = allocation.cut if given is None else given
        lora_rank = allocation.lora_rank if kept is None else kept.lora_rank
        if (cut, lora_rank) != (allocation.cut, allocation.lora_rank):
            allocation = replace(allocation.cut_at(cut), lora_rank=lora_rank, plan=None)
        if self.cell.radio.uplink_p0_dbm is not None:
            grants = self._power_controlled(allocation.grants, time_ns)
            allocation = replace(allocation, grants=grants, plan=None)
        allocation.check(state, shares_in_time=self._allocator.shares_in_time)
        return allocation

    def _power_controlled(
        self, grants: Mapping[str, tuple[Grant, ...]], time_ns: int
    ) -> Mapping[str, tuple[Grant, ...]]:
        """Return grants with the powers on uplinks that power control leaves of them."""
        radio = self.cell.radio
        if radio.uplink_p0_dbm is None:
            return grants
        gains = self.cell.large_scale_at(time_ns).mean_gains[0]
        most = open_loop_psd_w_per_hz(radio.uplink_p0_dbm, radio.uplink_alpha, gains).tolist()
        return {
            name: tuple(self._limited(name, *one) for one in zip(granted, most, strict=True))
            if radio.link(name).is_uplink
            else granted
            for name, granted in grants.items()
        }

    def _limited(self, link: str, grant: Grant, psd_w_per_hz: float) -> Grant:
        own_hz = self.cell.bandwidths_hz(link)[grant.subchannels]
        most_w = psd_w_per_hz * (own_hz if grant.bandwidths_hz is None else grant.bandwidths_hz)
        return replace(grant, tx_power_w=np.minimum(grant.tx_power_w, most_w))

    def apply(self, allocation: Allocation, time_ns: int, round_: int) -> None:
        """Remember a decision, and the cell it was taken for; phases of a surface are set from now on."""
        phases = allocation.knobs.get(SURFACE_PHASES)
        if isinstance(phases, tuple):
            self.cell = self.cell.under(tuple(map(int, phases)))
        self._seen = self.state(time_ns, round_)
        if self.current is None:
            self._begun = (self._seen, allocation, self._allocator)
        self.current = allocation
        self._last_round_s = None
        self._outcomes = [Outcome()] * len(self._clients)

    @property
    def follows_rounds(self) -> bool:
        """Whether the allocator is asked in every round, the first included."""
        return self._allocator.sets_sparsification_ratios or self._allocator.awaits_reports

    @property
    def follows_blocks(self) -> bool:
        """Whether the allocator is asked when a block begins; not if it chooses clients, who have begun."""
        return self._allocator.reallocate == "every_block" and not self.chooses_clients

    @property
    def reports(self) -> tuple[Report, ...]:
        """What clients are to report once they have trained."""
        return self._allocator.reports

    @property
    def is_waiting(self) -> bool:
        """Whether the decision about this round waits for reports that have not arrived."""
        return self._allocator.awaits_reports and not self._has_reported

    @property
    def chooses_clients(self) -> bool:
        """Whether the allocator says who takes part: it cannot say so again while a round is under way."""
        return PARTICIPATION.name in self._allocator.sets_knobs

    def shares_while_waiting(self, time_ns: int) -> dict[str, tuple[Grant, ...]]:
        """Return the grants under which reports travel: equal shares of every link.

        The last decision will not do, as it may have left a client that had nothing
        worth sending with next to no band.
        """
        found = {}
        for name in filter(self._is_allocated, LINKS):
            link = self._link_state(name, time_ns)
            whole = np.arange(link.num_subchannels)
            one_by_one = tuple(Grant.spread(whole, power) for power in link.max_tx_power_w.tolist())
            found[name] = equal_shares(link) if link.num_clients <= link.num_subchannels else one_by_one
        return dict(self._power_controlled(found, time_ns))

    def takes_part(self, client: int) -> bool:
        """Return whether the decision that holds lets a client take part."""
        return self.current is None or self.current.setting.takes_part(client)

    def knob(self, name: str, client: int, default: float) -> float:
        """Return a client's value of a knob under the decision that holds."""
        return default if self.current is None else self.current.setting.of(name, client, default)

    def is_due(self, time_ns: int) -> bool:
        """Return whether the allocator is to be asked again at the beginning of a round."""
        policy = self._allocator.reallocate
        if isinstance(policy, GainChange):
            return self.gain_change_db(time_ns) > policy.gain_change_db
        return policy == "every_round"

    def gain_change_db(self, time_ns: int) -> float:
        """Return by how much the channel has changed since the last decision, dB.

        The largest change of any client on any link; a client's gain is its
        mean over the subchannels it was granted, or all of the link where its band was split otherwise.
        """
        if self._seen is None or self.current is None:
            return 0.0
        largest = 0.0
        for name, link in self._seen.links.items():
            now = self.cell.gain_over_noise_alone_at(name, time_ns)
            for client, grant in enumerate(self.current.grants[name]):
                if len(grant.subchannels) == 0:
                    continue
                heard = grant.subchannels if grant.bandwidths_hz is None else slice(None)
                means = now[client, heard].mean(), link.gains[client, heard].mean()
                largest = max(largest, abs(10.0 * float(np.log10(means[0] / means[1]))))
        return largest

    def predicted_round_s(self) -> float | None:
        """Return how long a round lasts under the decision that holds while the air holds still, s.

        None where the closed form does not hold: subchannels are shared in
        time or lent, or the scheme has no such rounds.
        """
        if self._seen is None or self.current is None or not self._is_predicted(self._seen, self.current):
            return None
        return _clocked_s(self._seen, self.current)

    def plan(self) -> dict[str, Any] | None:
        """Return what was to be expected of the first decision, as plain numbers for a manifest.

        Seconds, for the air as it was at the beginning. ``lower_bound_s`` and
        ``gap_to_bound`` are None where there is no bound, and ``no_bound`` says why.
        """
        if self._begun is None or not self._is_predicted(*self._begun[:2]):
            return None
        state, allocation, allocator = self._begun
        from cosim.control.bounding import with_bound  # loads the solvers, which most runs do without

        plan, why_not = plan_of(state, allocation), None
        try:
            plan = with_bound(state, allocation, plan, allocator)
        except AllocationError as fault:
            why_not = str(fault)
        return {**_as_entries(plan, _clocked_s(state, allocation)), "no_bound": why_not}

    def _is_predicted(self, state: CellState, allocation: Allocation) -> bool:
        allocator = self._allocator
        return (
            self.terms.is_closed_form
            and not (
                allocator.shares_in_time or allocator.sets_sparsification_ratios or allocator.awaits_reports
            )
            and isinstance(self.access, Orthogonal)
            and is_closed(state.phases(allocation.setting))
        )

    def state(self, time_ns: int, round_: int) -> CellState:
        """Return the snapshot an allocator sees."""
        terms, decided = self.terms, self.current
        lora_rank = terms.lora_rank if decided is None else decided.lora_rank
        cut_layer, cut_layers = terms.cut_layer, terms.cut_layers
        client_cut_layers = terms.client_cut_layers
        if decided is not None:
            cut_layer, cut_layers = decided.cut_layer, (decided.cut_layer,)
            client_cut_layers = decided.client_cut_layers
        elif client_cut_layers is not None:
            cut_layer = min(client_cut_layers)
        elif cut_layer not in cut_layers:
            cut_layer = cut_layers[-1]
        return CellState(
            time_ns=time_ns,
            round=round_,
            links={name: self._link_state(name, time_ns) for name in LINKS if self._is_allocated(name)},
            client_flop_per_s=np.array([device.flop_per_s for device in self._clients]),
            main_server_flop_per_s=self._main_server.flop_per_s,
            federated_server_flop_per_s=self._federated_server.flop_per_s,
            phases=self._phases(max(round_, 1)),
            cut_layer=cut_layer,
            cut_layers=cut_layers,
            client_cut_layers=client_cut_layers,
            may_cut_apart=terms.may_cut_apart,
            lora_rank=lora_rank,
            local_steps=terms.local_steps,
            weights=self._weights(),
            stream=stream(self.cell.seed, "allocation", round_),
            is_settled=decided is not None,
            elapsed_s=(time_ns - self._began_ns) / NS_PER_S if self._has_reported else 0.0,
            last_round_s=self._last_round_s,
            memory={} if decided is None or round_ == 1 else decided.memory,
            sparsity=self._sparsity(lora_rank, max(round_, 1)),
            knobs=self._knobs(),
            reported=self._reported,
            outcomes=() if decided is None else self._outcomes_now(),
            surface=self._surface(time_ns),
            model_hash=terms.model_hash,
            data_hash=terms.data_hash,
        )

    def _knobs(self) -> tuple[Knob, ...]:
        """Return what a decision may set: of the scheme, and the phases of a surface."""
        surface = self.cell.radio.surface
        if not surface.elements:
            return self.terms.knobs
        return (*self.terms.knobs, surface_phases(surface.elements, surface.levels))

    def _surface(self, time_ns: int) -> SurfaceState | None:
        if not self.cell.radio.surface.elements or SURFACE_PHASES not in self._allocator.sets_knobs:
            return None
        return SurfaceState.of(self.cell, filter(self._is_allocated, LINKS), time_ns)

    def _phases(self, round_: int) -> Callable[[Setting], Round]:
        """Return what gives the stages of a round, or those behind the reports that have arrived."""
        phases, reports, is_left = self.terms.phases, self._allocator.reports, self._has_reported

        def stages(setting: Setting) -> Round:
            whole = phases(round_, setting, reports)
            return after(whole, REPORT) if is_left else whole

        return stages

    def _sparsity(self, lora_rank: int, round_: int) -> Sparsity | None:
        found = self.terms.sparsity(lora_rank, round_)
        if found is None:
            return None
        if (
            not self._allocator.reports
        ):  # room for a report that nobody sends: results of old stay as they were
            return replace(found, overhead_bits=found.overhead_bits + REPORT_BITS)
        energies = self._reported.get("energies", (None,))
        known = next((one for one in energies if one is not None), None)
        if not self._has_reported or known is None:
            return found
        nothing = np.zeros_like(known)
        return replace(found, energies=tuple(nothing if one is None else one for one in energies))

    def _outcomes_now(self) -> tuple[Outcome, ...]:
        pairs = zip(self._outcomes, self._under_way, strict=True)
        return tuple(replace(one, delivered=one.delivered and under_way == 0) for one, under_way in pairs)

    def _weights(self) -> Floats:
        """Return the shares in the data of those who take part in this round, adding up to one."""
        weights = np.array(self.terms.weights)
        if self._absent:
            weights[list(self._absent)] = 0.0
            weights /= weights.sum()
        return weights

    def is_modelled(self, link: str) -> bool:
        """Return whether what a link carries takes time."""
        settings = self.cell.radio.link(link)
        return settings.modelled if isinstance(settings, DownlinkSettings) else True

    def _is_allocated(self, link: str) -> bool:
        return link in self.terms.links and self.is_modelled(link)

    def _link_state(self, name: str, time_ns: int) -> LinkState:
        settings = self.cell.radio.link(name)
        total_w = settings.max_total_tx_power_w
        limits = self._max_tx_power_w
        widths = len(self.cell.bandwidths_hz(name))
        if isinstance(settings, DownlinkSettings):
            limits = np.full(len(self._clients), settings.tx_power_w)
            total_w = settings.tx_power_w
        return LinkState(
            name=name,
            bandwidths_hz=self.cell.bandwidths_hz(name),
            gains=self.cell.gain_over_noise_alone_at(name, time_ns),
            mean_gains=np.repeat(self.cell.large_scale_at(time_ns).mean_gains.T, widths, axis=1),
            noise_psd_w_per_hz=self.cell.noise_psd_w_per_hz,
            max_tx_power_w=limits,
            max_total_tx_power_w=float("inf") if total_w is None else total_w,
            rate=self.cell.radio.rate,
            data_share=self.cell.radio.surface.data_share,
        )


def _clocked_s(state: CellState, allocation: Allocation) -> float | None:
    """Return what the clock will measure of a round, s; None if it never ends."""
    round_ns = predict(state, allocation).round_ns
    return None if round_ns is None else round_ns / NS_PER_S


def _as_entries(plan: Plan, round_s: float | None) -> dict[str, Any]:
    return {
        "predicted_round_s": round_s,
        "rounds_to_target": plan.rounds_to_target,
        "predicted_total_s": plan.total_s,
        "lower_bound_s": plan.lower_bound_s,
        "gap_to_bound": plan.gap_to_bound,
        "objective_trace_s": list(plan.objective_trace_s),
        "notes": dict(plan.notes),
    }
