"""When the allocator is asked, what it is shown, and what it said."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cosim.compute.device import Device
from cosim.control.allocators import Allocator, GainChange
from cosim.control.allocators.equal import equal_shares, shares_among
from cosim.control.cell import Cell
from cosim.control.closed_form import link_rates, plan_of, predict
from cosim.control.conditions import Conditions
from cosim.control.decision import Allocation, Plan
from cosim.control.heard import Heard
from cosim.control.knobs import PARTICIPATION, SPECTRAL_EFFICIENCY, SURFACE_PHASES
from cosim.control.reports import Report
from cosim.control.stages import is_closed
from cosim.control.state import CellState
from cosim.control.terms import Terms
from cosim.errors import AllocationError
from cosim.radio.access.orthogonal import Orthogonal
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.knowledge import Sounding
from cosim.radio.power_control import power_controlled
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
    heard
        What clients reported, and what came of the decision that holds.
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
        self.terms, self.heard = terms, Heard(len(clients))
        self._devices = clients, main_server, federated_server
        self._first = first
        self._begun: tuple[CellState, Allocation, Allocator] | None = None
        self._seen: CellState | None = None
        self.change(conditions)

    def change(self, conditions: Conditions) -> None:
        """Let other conditions hold from the next decision on.

        Raises
        ------
        AllocationError
            If the allocator wants to know what no client can report.
        """
        before, self.access = getattr(self, "_cell", None), conditions.access
        self._cell = Cell(*self._devices, conditions, self.terms)
        self._cell.sounded_ns = 0 if before is None else before.sounded_ns
        self._allocator = allocator = conditions.allocator
        missing = [one.name for one in allocator.reports if one.name not in self.terms.reportable]
        if missing:
            known = ", ".join(sorted(self.terms.reportable)) or "nothing"
            raise AllocationError(
                f"allocator.kind: {allocator.kind!r} wants {missing[0]!r} reported, and clients of the "
                f"scheme report {known}; take the scheme 'federated', or an allocator such as 'equal'."
            )

    @property
    def channel(self) -> Channel:
        """The channel as it is now."""
        return self._cell.channel

    def state(self, time_ns: int, round_: int) -> CellState:
        """Return the snapshot an allocator sees."""
        return self._cell.state(time_ns, round_, self.current, self.heard)

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
        grants = power_controlled(self.channel, allocation.grants, time_ns)
        if grants is not allocation.grants:
            allocation = replace(allocation, grants=grants, plan=None)
        if SPECTRAL_EFFICIENCY.name in allocation.knobs:
            allocation = replace(allocation, grants=_at_rates(allocation))
        elif self.terms.backoff is not None:
            allocation = replace(allocation, grants=self._at_known_rates(allocation.grants, time_ns))
        allocation.check(state, shares_in_time=self._allocator.shares_in_time)
        return allocation

    def apply(self, allocation: Allocation, time_ns: int, round_: int) -> None:
        """Remember a decision, and the cell it was taken for; phases of a surface are set from now on."""
        phases = allocation.knobs.get(SURFACE_PHASES)
        if isinstance(phases, tuple):
            self._cell.channel = self.channel.under(tuple(map(int, phases)))
        self._seen = self.state(time_ns, round_)
        if self.current is None:
            self._begun = (self._seen, allocation, self._allocator)
        self.current = allocation
        self.heard.begin_again()

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
        return self._allocator.awaits_reports and not self.heard.has_reported

    @property
    def chooses_clients(self) -> bool:
        """Whether the allocator says who takes part: it cannot say so again while a round is under way."""
        return PARTICIPATION.name in self._allocator.sets_knobs

    def shares_while_waiting(self, time_ns: int) -> Mapping[str, tuple[Grant, ...]]:
        """Return the grants under which reports travel: equal shares of every link.

        The last decision will not do, as it may have left a client that had nothing
        worth sending with next to no band.
        """
        found = {}
        for name in self._cell.links():
            link = self._cell.link_state(name, time_ns)
            whole = np.arange(link.num_subchannels)
            one_by_one = tuple(Grant.spread(whole, power) for power in link.max_tx_power_w.tolist())
            chosen = list(filter(self.takes_part, range(link.num_clients)))
            if link.num_clients <= link.num_subchannels:
                found[name] = equal_shares(link)
            else:
                few = len(chosen) <= link.num_subchannels
                found[name] = shares_among(link, chosen) if few else one_by_one
        grants = power_controlled(self.channel, found, time_ns)
        return grants if self.terms.backoff is None else self._at_known_rates(grants, time_ns)

    def _at_known_rates(
        self, grants: Mapping[str, tuple[Grant, ...]], time_ns: int
    ) -> dict[str, tuple[Grant, ...]]:
        """Return grants with the efficiency that what is known, less the back-off, lets expect."""
        backoff, found = self.terms.backoff or 1.0, {}
        for name, granted in grants.items():
            share = self.channel.radio.surface.data_share  # slots of the other direction slow nobody down
            link = replace(self._cell.link_state(name, time_ns), data_share=share)
            weaker = tuple(replace(grant, tx_power_w=grant.tx_power_w * backoff) for grant in granted)
            rates = link_rates(link, weaker).tolist()
            found[name] = tuple(
                replace(
                    grant,
                    spectral_efficiency_bit_per_s_per_hz=rate / grant.width_hz(link.bandwidths_hz)
                    if len(grant.subchannels)
                    else None,
                )
                for grant, rate in zip(granted, rates, strict=True)
            )
        return found

    def takes_part(self, client: int) -> bool:
        """Return whether the decision that holds lets a client take part."""
        return self.current is None or self.current.setting.takes_part(client)

    def knob(self, name: str, client: int, default: float) -> float:
        """Return a client's value of a knob under the decision that holds."""
        return default if self.current is None else self.current.setting.of(name, client, default)

    @property
    def soundings(self) -> list[Sounding]:
        """What goes over the air ahead of each decision, so that the channel is known."""
        return self._cell.soundings

    def pilot_powers_w(self, link: str) -> Floats:
        """Return what each client's pilots are sent with, W, shape (num_clients,)."""
        return self._cell.pilot_powers_w(link)

    def sound(self, began_ns: int) -> None:
        """Take in that a sounding that began then has ended."""
        self._cell.sounded_ns = began_ns

    @property
    def may_be_due(self) -> bool:
        """Whether a round may begin with a decision, so that the channel has to be known."""
        return self._allocator.reallocate == "every_round" or isinstance(
            self._allocator.reallocate, GainChange
        )

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
            now = self._cell.link_state(name, time_ns).gains
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
        time or reused while idle, or the scheme has no such rounds.
        """
        if self._seen is None or self.current is None or not self._is_predicted(self._seen, self.current):
            return None
        return _clocked_s(self._seen, self.current)

    def rates(self, time_ns: int) -> dict[str, Floats]:
        """Return each client's rate over each link that takes time, bit/s, under the grants that hold.

        Each client is assumed to have its grant for itself, and the channel to stay as it is.
        """
        grants = {} if self.current is None else self.current.grants
        return {name: link_rates(self._cell.link_state(name, time_ns), each) for name, each in grants.items()}

    def tx_power_w(self, client: int) -> dict[str, float]:
        """Return what a client radiates over each uplink while it sends, W."""
        grants = {} if self.current is None else self.current.grants
        return {
            name: each[client].total_tx_power_w for name, each in grants.items() if name.endswith("uplink")
        }

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
            and self._cell.is_known_perfectly
            and not self.channel.radio.interference.reuses
            and self.channel.radio.duplex.slots(is_uplink=True) is None
            and not any(map(self.channel.radio.transport_of, state.links))
            and not (
                allocator.shares_in_time or allocator.sets_sparsification_ratios or allocator.awaits_reports
            )
            and isinstance(self.access, Orthogonal)
            and is_closed(state.phases(allocation.setting))
        )


def _at_rates(allocation: Allocation) -> dict[str, tuple[Grant, ...]]:
    """Return grants with the spectral efficiencies that were decided."""
    efficiency = SPECTRAL_EFFICIENCY.name
    return {
        name: tuple(
            replace(
                grant, spectral_efficiency_bit_per_s_per_hz=allocation.setting.of(efficiency, client, 0.0)
            )
            for client, grant in enumerate(granted)
        )
        for name, granted in allocation.grants.items()
    }


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
