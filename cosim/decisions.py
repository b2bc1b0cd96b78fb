"""When the allocator is asked, what it is shown, and what it said."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from cosim.allocation import Allocator, GainChange
from cosim.allocation.decision import Allocation, Plan
from cosim.allocation.foresight import foresee, with_bound
from cosim.allocation.state import Amounts, CellState, LinkState, Sparsity
from cosim.compute.device import Device
from cosim.errors import AllocationError
from cosim.learning.lesson import Lesson
from cosim.radio.access import Access
from cosim.radio.access.orthogonal import Orthogonal
from cosim.radio.cell import Cell
from cosim.radio.settings import LINKS, DownlinkSettings
from cosim.rng import stream
from cosim.units import Floats


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
    amounts
        ``amounts(lesson, cut_layer, lora_rank)``: what the scheme sends and computes.
    cut_layers
        Cut layers the scheme can take, ascending.
    client_cut_layers
        Cut layers of the clients where they are given and differ.
    may_cut_apart
        Whether the scheme lets them differ.
    sparsity
        ``sparsity(lesson, lora_rank, round)``: what may be left out of the adapters, None if nothing.
    local_steps
        Mini-batches of each client in a round.
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
        amounts: Callable[[Lesson, int, int], Amounts],
        cut_layers: tuple[int, ...],
        sparsity: Callable[[Lesson, int, int], Sparsity | None],
        local_steps: int,
        links: Collection[str],
        client_cut_layers: tuple[int, ...] | None = None,
        may_cut_apart: bool = False,
        is_closed_form: bool = False,
        first: Allocation | None = None,
    ) -> None:
        self.current: Allocation | None = None
        self._clients = clients
        self._main_server = main_server
        self._lesson = lesson
        self._amounts = partial(amounts, lesson)
        self._cut_layers = cut_layers
        self._client_cut_layers = client_cut_layers
        self._may_cut_apart = may_cut_apart
        self._sparsity = partial(sparsity, lesson)
        self._local_steps = local_steps
        self._links = links
        self._is_closed_form = is_closed_form
        self._first = first
        self._begun: tuple[CellState, Allocation, Allocator] | None = None
        self._seen: CellState | None = None
        self._energies: tuple[Floats, ...] | None = None
        self._absent: Collection[int] = ()
        self._last_round_s: float | None = None
        self.change(cell, access, max_tx_power_w, allocator)

    def change(
        self, cell: Cell, access: Access, max_tx_power_w: Sequence[float], allocator: Allocator
    ) -> None:
        """Let another air, or another allocator, hold from the next decision on."""
        self.cell, self._access, self._allocator = cell, access, allocator
        self._max_tx_power_w = np.array(max_tx_power_w)

    def learn(
        self, last_round_s: float | None, energies: tuple[Floats, ...] | None, absent: Collection[int]
    ) -> None:
        """Take in, at the beginning of a round, what decisions are to know of it and the last one."""
        self._last_round_s, self._energies, self._absent = last_round_s, energies, absent

    def decide(self, time_ns: int, round_: int) -> Allocation:
        """Return the allocator's decision for the cell as it is now, checked against its limits.

        Cut layers and rank stay what the first decision in force made them, and cut
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
        allocation.check(state, shares_in_time=self._allocator.shares_in_time)
        return allocation

    def put_in_force(self, allocation: Allocation, time_ns: int, round_: int) -> None:
        """Remember a decision, and the cell it was taken for."""
        self._seen = self.state(time_ns, round_)
        if self.current is None:
            self._begun = (self._seen, allocation, self._allocator)
        self.current = allocation
        self._last_round_s = None

    @property
    def follows_rounds(self) -> bool:
        """Whether the allocator is asked at the beginning of every round, the first included."""
        return self._allocator.sets_keep_ratios

    def is_due(self, time_ns: int) -> bool:
        """Return whether the allocator is to be asked again at the beginning of a round."""
        policy = self._allocator.reallocate
        if isinstance(policy, GainChange):
            return self.gain_change_db(time_ns) > policy.gain_change_db
        return policy == "every_round"

    def gain_change_db(self, time_ns: int) -> float:
        """Return by how much the channel has changed since the last decision, dB.

        The largest change of any client on any link; a client's gain is its
        mean over the subchannels it was granted, or all of the link where its band was carved anew.
        """
        if self._seen is None or self.current is None:
            return 0.0
        largest = 0.0
        for name, link in self._seen.links.items():
            now = self.cell.gain_at(name, time_ns)
            for client, grant in enumerate(self.current.grants[name]):
                heard = grant.subchannels if grant.bandwidths_hz is None else slice(None)
                means = now[client, heard].mean(), link.gains[client, heard].mean()
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
    def needs_energies(self) -> bool:
        """Whether the allocator is to know what each client would lose by leaving something out."""
        return self._allocator.needs_energies

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
        lora_rank = lesson.trainable.lora_rank if decided is None else decided.lora_rank
        cut_layer, cut_layers = lesson.model.cut_layer, self._cut_layers
        client_cut_layers = self._client_cut_layers
        if decided is not None:
            cut_layer, cut_layers = decided.cut_layer, (decided.cut_layer,)
            client_cut_layers = decided.client_cut_layers
        elif client_cut_layers is not None:
            cut_layer = min(client_cut_layers)
        elif cut_layer not in cut_layers:
            cut_layer = cut_layers[-1]
        sparsity = self._sparsity(lora_rank, max(round_, 1))
        if sparsity is not None:
            sparsity = replace(sparsity, energies=self._energies)
        return CellState(
            time_ns=time_ns,
            round=round_,
            links={name: self._link_state(name, time_ns) for name in LINKS if self._is_allocated(name)},
            client_flop_per_s=np.array([device.flop_per_s for device in self._clients]),
            main_server_flop_per_s=self._main_server.flop_per_s,
            amounts=self._amounts,
            cut_layer=cut_layer,
            cut_layers=cut_layers,
            client_cut_layers=client_cut_layers,
            may_cut_apart=self._may_cut_apart,
            lora_rank=lora_rank,
            local_steps=self._local_steps,
            weights=self._weights(),
            stream=stream(self.cell.seed, "allocation", round_),
            is_settled=decided is not None,
            last_round_s=self._last_round_s,
            memory={} if decided is None or round_ == 1 else decided.memory,
            sparsity=sparsity,
            model_hash=lesson.model_hash,
            data_hash=lesson.tokens.content_key,
        )

    def _weights(self) -> Floats:
        """Return the shares in the data of those who take part in this round, adding up to one."""
        weights = np.array(self._lesson.weights)
        if self._absent:
            weights[list(self._absent)] = 0.0
            weights /= weights.sum()
        return weights

    def is_counted(self, link: str) -> bool:
        """Return whether what a link carries takes time."""
        settings = self.cell.radio.link(link)
        return settings.counted if isinstance(settings, DownlinkSettings) else True

    def _is_allocated(self, link: str) -> bool:
        return link in self._links and self.is_counted(link)

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
            gains=self.cell.gain_at(name, time_ns),
            mean_gains=np.repeat(self.cell.mean_gains[:, np.newaxis], widths, axis=1),
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
