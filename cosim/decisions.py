"""When the allocator is asked, what it is shown, and what it said."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cosim.allocation import Allocator, GainChange
from cosim.allocation.decision import Allocation, Plan
from cosim.allocation.foresight import foresee, with_bound
from cosim.allocation.state import Amounts, CellState, LinkState
from cosim.compute.device import Device
from cosim.errors import AllocationError
from cosim.learning.lesson import Lesson
from cosim.learning.training import split_amounts
from cosim.radio.access import Access
from cosim.radio.access.orthogonal import Orthogonal
from cosim.radio.cell import Cell
from cosim.radio.settings import LINKS, DownlinkSettings
from cosim.rng import stream


class Decisions:
    """The decisions of one run, taken on snapshots of its cell.

    Parameters
    ----------
    clients, main_server
        The devices.
    cell, access
        The channel, and how senders share grants.
    max_tx_power_w
        Power limit of each client, W.
    allocator
        Decides who gets what.
    lesson
        What is learned.
    local_steps
        Split steps in a round.
    links
        The links that are sent over.
    is_closed_form
        Whether rounds last as :mod:`cosim.allocation.delay` says while the air holds still.
    first
        The first decision, where it is known already.

    Attributes
    ----------
    current
        What is in force, once anything is.
    """

    def __init__(
        self,
        *,
        clients: Sequence[Device],
        main_server: Device,
        cell: Cell,
        access: Access,
        max_tx_power_w: Sequence[float],
        allocator: Allocator,
        lesson: Lesson,
        local_steps: int,
        links: Collection[str],
        is_closed_form: bool = False,
        first: Allocation | None = None,
    ) -> None:
        self.current: Allocation | None = None
        self._clients = clients
        self._main_server = main_server
        self._lesson = lesson
        self._local_steps = local_steps
        self._links = links
        self._is_closed_form = is_closed_form
        self._first = first
        self._begun: tuple[CellState, Allocation, Allocator] | None = None
        self._seen: CellState | None = None
        self.change(cell, access, max_tx_power_w, allocator)

    def change(
        self, cell: Cell, access: Access, max_tx_power_w: Sequence[float], allocator: Allocator
    ) -> None:
        """Let another air, or another allocator, hold from the next decision on."""
        self.cell, self._access, self._allocator = cell, access, allocator
        self._max_tx_power_w = np.array(max_tx_power_w)

    def decide(self, time_ns: int, round_: int) -> Allocation:
        """Return the allocator's decision for the cell as it is now, checked against its limits.

        Cut layer and rank stay what the first decision in force made them.

        Raises
        ------
        AllocationError
            If the decision breaks a limit.
        """
        state, kept = self.state(time_ns, round_), self.current
        if kept is None and self._first is not None:
            return self._first
        allocation = self._allocator.allocate(state)
        if kept is not None and (allocation.cut_layer, allocation.lora_rank) != (
            kept.cut_layer,
            kept.lora_rank,
        ):
            allocation = replace(allocation, cut_layer=kept.cut_layer, lora_rank=kept.lora_rank, plan=None)
        allocation.check(state, shares_in_time=self._allocator.shares_in_time)
        return allocation

    def put_in_force(self, allocation: Allocation, time_ns: int, round_: int) -> None:
        """Remember a decision, and the cell it was taken for."""
        self._seen = self.state(time_ns, round_)
        if self.current is None:
            self._begun = (self._seen, allocation, self._allocator)
        self.current = allocation

    def is_due(self, time_ns: int) -> bool:
        """Return whether the allocator is to be asked again at the beginning of a round."""
        policy = self._allocator.reallocate
        if isinstance(policy, GainChange):
            return self.gain_change_db(time_ns) > policy.gain_change_db
        return policy == "every_round"

    def gain_change_db(self, time_ns: int) -> float:
        """Return by how much the channel has changed since the last decision, dB.

        The largest change of any client on any link; a client's gain is its
        mean over the subchannels it was granted.
        """
        if self._seen is None or self.current is None:
            return 0.0
        largest = 0.0
        for name, link in self._seen.links.items():
            now = self.cell.gain_at(name, time_ns)
            for client, grant in enumerate(self.current.grants[name]):
                means = now[client, grant.subchannels].mean(), link.gains[client, grant.subchannels].mean()
                largest = max(largest, abs(10.0 * float(np.log10(means[0] / means[1]))))
        return largest

    def predicted_round_s(self) -> float | None:
        """Return how long a round lasts under the decision in force while the air holds still, s.

        None where the closed form does not hold: subchannels are shared in
        time or lent, or the scheme has no such rounds.
        """
        if self._seen is None or self.current is None or not self._is_foreseen:
            return None
        return foresee(self._seen, self.current).round_s

    def plan(self) -> dict[str, Any] | None:
        """Return what was to be expected of the first decision, as plain numbers for a manifest.

        Seconds, for the air as it was at the beginning. ``lower_bound_s`` and
        ``gap_to_bound`` are None where there is no bound, and ``no_bound`` says why.
        """
        if self._begun is None or not self._is_foreseen:
            return None
        state, allocation, allocator = self._begun
        plan, why_not = foresee(state, allocation), None
        try:
            plan = with_bound(state, allocation, plan, allocator)
        except AllocationError as fault:
            why_not = str(fault)
        return {**_as_entries(plan), "no_bound": why_not}

    @property
    def _is_foreseen(self) -> bool:
        return (
            self._is_closed_form
            and not self._allocator.shares_in_time
            and isinstance(self._access, Orthogonal)
        )

    def state(self, time_ns: int, round_: int) -> CellState:
        """Return the snapshot an allocator sees."""
        lesson, decided = self._lesson, self.current
        return CellState(
            time_ns=time_ns,
            round=round_,
            links={name: self._link_state(name, time_ns) for name in LINKS if self._is_allocated(name)},
            client_flop_per_s=np.array([device.flop_per_s for device in self._clients]),
            main_server_flop_per_s=self._main_server.flop_per_s,
            amounts=self._amounts,
            cut_layer=lesson.model.cut_layer if decided is None else decided.cut_layer,
            cut_layers=tuple(range(1, lesson.shape.num_layers)) if decided is None else (decided.cut_layer,),
            lora_rank=lesson.lora.rank if decided is None else decided.lora_rank,
            local_steps=self._local_steps,
            stream=stream(self.cell.seed, "allocation", round_),
            is_settled=decided is not None,
            model_hash=lesson.model_hash,
            data_hash=lesson.tokens.content_key,
        )

    def is_counted(self, link: str) -> bool:
        """Return whether what a link carries takes time."""
        settings = self.cell.radio.link(link)
        return settings.counted if isinstance(settings, DownlinkSettings) else True

    def _is_allocated(self, link: str) -> bool:
        return link in self._links and self.is_counted(link)

    def _amounts(self, cut_layer: int, lora_rank: int) -> Amounts:
        one = split_amounts(self._lesson, cut_layer, lora_rank)
        return Amounts(
            client_forward_flop=one.client_forward_flop,
            client_backward_flop=one.client_backward_flop,
            server_flop=one.server_flop * len(self._clients),
            activation_bits=one.activation_bits,
            gradient_bits=one.activation_bits,
            adapter_bits=one.adapter_bits,
        )

    def _link_state(self, name: str, time_ns: int) -> LinkState:
        settings = self.cell.radio.link(name)
        total_w = settings.max_total_tx_power_w
        limits = self._max_tx_power_w
        if isinstance(settings, DownlinkSettings):
            limits = np.full(len(self._clients), settings.tx_power_w)
            total_w = settings.tx_power_w
        return LinkState(
            name=name,
            bandwidths_hz=self.cell.bandwidths_hz(name),
            gains=self.cell.gain_at(name, time_ns),
            noise_psd_w_per_hz=self.cell.noise_psd_w_per_hz,
            max_tx_power_w=limits,
            max_total_tx_power_w=float("inf") if total_w is None else total_w,
            rate=self.cell.radio.rate,
        )


def _as_entries(plan: Plan) -> dict[str, Any]:
    return {
        "predicted_round_s": plan.round_s,
        "rounds_to_target": plan.rounds_to_target,
        "predicted_total_s": plan.total_s,
        "lower_bound_s": plan.lower_bound_s,
        "gap_to_bound": plan.gap_to_bound,
        "objective_trace_s": list(plan.objective_trace_s),
        "notes": dict(plan.notes),
    }
