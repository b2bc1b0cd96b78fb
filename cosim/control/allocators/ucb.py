"""Chosen clients: a bandit that learns who is fast, and lets the fast ones do more."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from cosim.control.allocators import Allocator
from cosim.control.allocators.equal import shares_among
from cosim.control.decision import Allocation
from cosim.control.knobs import PARTICIPATION, WEIGHT, Setting
from cosim.control.reports import Report
from cosim.control.stages import served
from cosim.control.state import CellState
from cosim.units import Floats, Ints


class Ucb(Allocator):
    """A few clients a round: those with the highest upper confidence bound on how fast they are.

    A client's time is that of one local step, by the training times it reports, and of what it
    sent, as measured. Its reward is one less the share of its time in the longest of all.
    Chosen are those of the highest reward plus ``sqrt((num_clients + 1) log(round) / rounds it
    took part in)``; clients never chosen come first. Links are shared round robin among those
    who send over them, at full power.

    A chosen client takes as many of the round's local steps as fit into the time the slowest
    chosen one is expected to take, and weighs by its data over its steps, so that it does not
    pull the more for having taken more of them.

    Attributes
    ----------
    num_clients
        How many take part in a round, where there are so many.
    min_local_steps
        Local steps of the slowest, and of clients nothing is known of yet.

    Source
    ------
    W. Xia et al., "Multi-armed bandit-based client scheduling for federated learning",
    IEEE Trans. Wireless Commun. 19(11), 2020, arXiv 2007.02315, after its policy CS-UCB; the
    measure of a reward is ours. Weights over steps are those of J. Wang et al., "Tackling the
    objective inconsistency problem in heterogeneous federated optimization", NeurIPS 2020
    (FedNova), without its longer step of the server.
    """

    kind: Literal["ucb"] = "ucb"
    sets_knobs: ClassVar[frozenset[str]] = frozenset({PARTICIPATION.name, "local_steps", WEIGHT.name})
    reallocate: Literal["every_round"] = "every_round"
    num_clients: int = Field(default=2, ge=1)
    min_local_steps: int = Field(default=1, ge=1)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"num_clients": 1})

    @property
    def reports(self) -> tuple[Report, ...]:
        """How long each took to train."""
        return (Report("delay"),)

    def allocate(self, state: CellState) -> Allocation:
        """Return who takes part in this round, with which steps and weights.

        Raises
        ------
        AllocationError
            If a link has fewer subchannels than clients that send over it.
        """
        known = _Known.of(state)
        chosen = self._chosen(state, known)
        steps = self._steps(state, known, chosen)
        pull = np.where(chosen, state.weights / np.maximum(steps, 1), 0.0)
        knobs = {
            PARTICIPATION.name: tuple(chosen.astype(float).tolist()),
            "local_steps": tuple(np.maximum(steps, 1).astype(float).tolist()),
            WEIGHT.name: tuple((pull / pull.sum()).tolist()),
        }
        cut = state.client_cut_layers or state.cut_layer
        round_ = state.phases(Setting(cut, state.lora_rank, knobs))
        grants = {
            name: shares_among(link, served(round_, name) if round_ else np.flatnonzero(chosen).tolist())
            for name, link in state.links.items()
        }
        bare = Allocation(grants, 1, state.lora_rank, knobs=knobs, memory=known.memory(steps))
        return bare.cut_at(cut)

    def _chosen(self, state: CellState, known: "_Known") -> np.ndarray:
        """Return who takes part, shape (num_clients,)."""
        counts, times_s = known.counts, known.step_s + known.upload_s
        reward = 1.0 - times_s / max(float(times_s.max()), 1e-300)
        doubt = np.sqrt((self.num_clients + 1) * np.log(state.round) / np.maximum(counts, 1))
        index = np.where(counts > 0, reward + doubt, np.inf)
        index = np.where(state.weights > 0.0, index, -np.inf)
        first = np.argsort(-index, kind="stable")[: self.num_clients]
        chosen = np.zeros(state.num_clients, dtype=bool)
        chosen[first] = state.weights[first] > 0.0
        return chosen

    def _steps(self, state: CellState, known: "_Known", chosen: np.ndarray) -> Ints:
        """Return the local steps of each, 0 for who does not take part, shape (num_clients,)."""
        least = min(self.min_local_steps, state.local_steps)
        is_known = chosen & (known.counts > 0)
        needs_s = least * known.step_s + known.upload_s
        latest_s = float(needs_s[is_known].max(initial=0.0))
        fit = (latest_s - known.upload_s) / np.maximum(known.step_s, 1e-300)
        steps = np.where(is_known, np.clip(np.floor(fit * (1.0 + 1e-9)), least, state.local_steps), least)
        return np.where(chosen, steps, 0).astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of each client, shape (num_clients,): rounds it took part in, and mean times, s."""

    counts: Ints
    step_s: Floats
    upload_s: Floats

    @classmethod
    def of(cls, state: CellState) -> Self:
        """Return what the memory has, with what came of the last decision taken in."""
        clients = range(state.num_clients)

        def column(name: str) -> Floats:
            return np.array([state.memory.get(f"{name} of client-{client}", 0.0) for client in clients])

        known = cls(column("rounds").astype(np.int64), column("step_s"), column("upload_s"))
        delays = state.reported.get("delay", (None,) * state.num_clients)
        for client, (steps, delay_s) in enumerate(zip(column("steps").tolist(), delays, strict=True)):
            if steps and delay_s is not None and state.outcomes[client].delivered:
                known._take_in(client, delay_s / steps, state.outcomes[client].airtime_s)
        return known

    def _take_in(self, client: int, step_s: float, upload_s: float) -> None:
        self.counts[client] += 1
        self.step_s[client] += (step_s - self.step_s[client]) / self.counts[client]
        self.upload_s[client] += (upload_s - self.upload_s[client]) / self.counts[client]

    def memory(self, steps: Ints) -> dict[str, float]:
        """Return what to be reminded of, with the steps decided now."""
        columns = {"rounds": self.counts, "step_s": self.step_s, "upload_s": self.upload_s, "steps": steps}
        return {
            f"{name} of client-{client}": float(value)
            for name, column in columns.items()
            for client, value in enumerate(column.tolist())
        }
