"""Phases of a reflecting surface, and bandwidths with which all clients are done together."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from cosim.control.allocators import Allocator, GainChange
from cosim.control.allocators.equal import equal_shares, even_powers
from cosim.control.closed_form import normalised_gains
from cosim.control.decision import Allocation
from cosim.control.knobs import SURFACE_PHASES, Setting
from cosim.control.legs import Leg, legs_of, refuse_measured, servers_s
from cosim.control.solvers.assignment import check_enough
from cosim.control.solvers.phases import Found, Users, fixed_point, levels_of, search, turns_of
from cosim.control.solvers.sparsity.uplink import Uplink
from cosim.control.state import CellState, LinkState, SurfaceState
from cosim.errors import AllocationError
from cosim.radio.grant import Grant
from cosim.units import Floats, Ints

_LEAST_SHARE = 1e-9  # of the band: what a client that sends nothing is left with


class SurfacePhases(Allocator):
    """Sets the phases of a surface for the shortest round, and shares bands so that all are done together.

    Phases are one setting for all clients and links. However they are found, every client
    sends at full power on a channel as wide as it needs, which sees the mean of its gains.

    Attributes
    ----------
    method
        ``optimised``: an outer learner (cross-entropy) looks for a weight of each client, and
        an inner fixed point turns weights into phases; the weights of the last decision
        are where the next begins. ``model_free``: the same learner looks for all phases
        themselves. ``random``: drawn phases. ``none``: phases stay as they are, which
        also works without a surface.
    num_evaluations
        How many settings a decision tries, as the channels that were estimated predict them;
        that takes no simulated time.

    Source
    ------
    S. Gong et al., arXiv 2008.12938: an outer learner chooses some of the variables, and an
    optimisation the others (method card 10; its equations are standard or re-derived,
    and the learner is a simpler one than the paper's actor and critic).
    """

    kind: Literal["surface_phases"] = "surface_phases"
    sets_knobs: ClassVar[frozenset[str]] = frozenset({SURFACE_PHASES})
    method: Literal["optimised", "model_free", "random", "none"] = "optimised"
    num_evaluations: int = Field(default=160, ge=1, le=100_000)
    reallocate: Literal["once", "every_round", "every_block"] | GainChange = "every_block"
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"method": "none"},)

    @property
    def splits_bands(self) -> bool:
        """Always."""
        return True

    def allocate(self, state: CellState) -> Allocation:
        """Return phases, and the bandwidths for the gains they make.

        Raises
        ------
        AllocationError
            If there is no surface to set, a link has fewer subchannels than clients, or the
            round has another form than barriers in each of which every client sends once.
        """
        rounds = _Rounds.of(state)
        if self.method == "none":
            return rounds.allocation(state)
        if state.surface is None:
            raise AllocationError(
                "allocator.kind: 'surface_phases' sets the phases of a surface, and radio.surface has no "
                "elements; take radio.surface = { kind = 'reflecting' }, or allocator.method = 'none'."
            )
        found = self._find(state, state.surface, rounds)
        links = {
            name: replace(link, gains=state.surface.gains(name, found.levels))
            for name, link in state.links.items()
        }
        now = replace(state, links=links)
        allocation = _Rounds.of(now).allocation(now)
        figures = {"surface_latency_s": found.latency_s} if np.isfinite(found.latency_s) else {}
        return replace(
            allocation,
            knobs={SURFACE_PHASES: tuple(found.levels.astype(float).tolist())},
            memory=_names(found.centre) if self.method == "optimised" else {},
            figures=figures,
        )

    def _find(self, state: CellState, surface: SurfaceState, rounds: "_Rounds") -> Found:
        """Return the phases to set."""
        chance, num_levels = state.stream.child("phases", state.time_ns).generator(), surface.num_levels
        users = {name: Users.of(surface, name) for name in state.links}

        def latency(levels: Ints) -> Floats:
            turns = turns_of(levels, num_levels)
            return rounds.latency_s({name: one.gains(turns) for name, one in users.items()})

        if self.method == "random":
            levels = chance.integers(0, num_levels, size=(1, surface.num_elements))
            return Found(levels[0], float(latency(levels)[0]), np.zeros(0))
        if self.method == "model_free":
            begin = chance.uniform(0.0, 2.0 * np.pi, surface.num_elements)
            return search(
                lambda phases: levels_of(phases, num_levels),
                latency,
                chance,
                begin,
                np.pi,
                self.num_evaluations,
            )
        sending = [users[name] for name in rounds.legs if name in users] or list(users.values())
        begin = np.array([state.memory.get(name, 0.0) for name in _names(np.zeros(state.num_clients))])
        return search(
            lambda logs: fixed_point(sending, _weights(logs, sending), num_levels),
            latency,
            chance,
            begin,
            1.0,
            self.num_evaluations,
        )


def _weights(logs: Floats, users: list[Users]) -> Floats:
    """Return weights from logarithms, those of clients that are hard to reach being larger by that."""
    strength = np.sqrt(
        np.mean([one.power + (np.abs(one.reflected) ** 2).sum(axis=1) for one in users], axis=0)
    )
    return np.asarray(np.exp(logs - logs.mean(axis=1, keepdims=True)) / strength)


def _names(values: Floats) -> dict[str, float]:
    return {f"log weight of client-{client}": float(one) for client, one in enumerate(values.tolist())}


@dataclass(frozen=True, eq=False)
class _Rounds:
    """A round, for bands shared so that all are done together.

    ``legs`` has the barrier of each link that counts; ``beside_s`` is what else a round lasts.
    """

    legs: Mapping[str, Leg]
    links: Mapping[str, LinkState]
    compute_s: Mapping[str, Floats]
    powers_w: Mapping[str, Floats]
    beside_s: float

    @classmethod
    def of(cls, state: CellState) -> Self:
        for name, link in state.links.items():
            check_enough(name, link.num_clients, link.num_subchannels)
        round_ = state.phases(Setting(state.client_cut_layers or state.cut_layer, state.lora_rank))
        refuse_measured(state)
        legs = {leg.name: leg for leg in legs_of(round_)}
        compute_s = {name: leg.flop / state.client_flop_per_s for name, leg in legs.items()}
        beside_s = servers_s(state, [(leg.times, leg) for leg in legs.values()])
        beside_s += sum(
            leg.times * float(compute_s[name].max()) for name, leg in legs.items() if name not in state.links
        )
        powers = {name: even_powers(link) for name, link in state.links.items()}
        return cls(legs, state.links, compute_s, powers, beside_s)

    def uplink(self, name: str, gains: Floats) -> Uplink:
        """Return the barrier of a link at these mean gains, shape (..., num_clients)."""
        link, leg = self.links[name], self.legs[name]
        scale = normalised_gains(link).mean(axis=1) / np.maximum(link.gains.mean(axis=1), 1e-300)
        snr_hz = np.maximum(self.powers_w[name] * gains * scale, 1e-300)
        bits = leg.bits / link.data_share
        return Uplink(
            snr_hz, float(link.bandwidths_hz.sum()), self.compute_s[name], np.zeros_like(bits), bits
        )

    def latency_s(self, gains: Mapping[str, Floats]) -> Floats:
        """Return how long the round lasts at mean gains of each link, s, shape (...)."""
        total: Floats = np.asarray(self.beside_s)
        for name, leg in self.legs.items():
            if name in self.links:
                barrier = self.uplink(name, gains[name])
                sent = np.broadcast_to(barrier.dense_bits, gains[name].shape)
                total = total + leg.times * barrier.earliest_s(sent)
        return total

    def allocation(self, state: CellState) -> Allocation:
        """Return the grants under the gains of the snapshot."""
        grants = {
            name: self._grants(name, link) if name in self.legs else equal_shares(link)
            for name, link in state.links.items()
        }
        return Allocation(grants, 1, state.lora_rank).cut_at(state.client_cut_layers or state.cut_layer)

    def _grants(self, name: str, link: LinkState) -> tuple[Grant, ...]:
        barrier = self.uplink(name, link.gains.mean(axis=1))
        widths = barrier.fair_widths_hz(barrier.dense_bits)
        widths = np.maximum(widths, _LEAST_SHARE * barrier.bandwidth_hz)
        widths = widths * (barrier.bandwidth_hz / float(widths.sum()))
        powers = self.powers_w[name]
        return tuple(
            Grant(np.array([client]), powers[client : client + 1], widths[client : client + 1])
            for client in range(link.num_clients)
        )
