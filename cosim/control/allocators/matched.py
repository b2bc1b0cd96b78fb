"""Chosen clients and channels: a bandit over pairs, matched so that the slowest pair is as fast as can be."""

from dataclasses import dataclass
from math import ceil, log, log2, sqrt
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from cosim.control.allocators import Allocator
from cosim.control.allocators.equal import full_power, shares_among
from cosim.control.decision import Allocation
from cosim.control.knobs import ASSIGNMENT_BITS, PARTICIPATION, Setting
from cosim.control.reports import Report
from cosim.control.solvers.max_min import exact_matching, greedy_matching
from cosim.control.stages import Compute, barriers_of, served
from cosim.control.state import CellState, LinkState
from cosim.errors import AllocationError
from cosim.units import Floats, Ints

_LINK = "federated_uplink"
_ORACLE_BLOCKS = 200


class Matched(Allocator):
    """A few clients a round, each with one subchannel of the uplink to itself.

    The reward of a pair of client and subchannel is one less the client's delay, from the beginning
    of the round to the end of its upload, over ``max_delay_s``; a lost upload has none. By default a
    pair is worth ``delay_weight`` times its upper confidence bound, mean reward plus
    ``sqrt(exploration log(round) / times)``, plus the virtual queue of its client, and pairs are
    matched so that the least worth is the largest there can be. A pair never tried is worth one
    more than any other could be. The queue of a client grows by ``min_share`` in each round and
    falls by one in those it takes part in.

    Who takes part is sent its subchannel ahead of the round, ``ceil(log2 subchannels)`` bits over the
    federated downlink, and reports when it has trained. Other links are shared round robin.

    Attributes
    ----------
    num_clients
        How many take part in a round, where there are so many.
    choice
        ``ucb`` as above. The baselines: ``oracle`` knows the mean reward of each pair, over the fading of
        the first 200 blocks; ``delay_greedy`` takes the best mean so far once each pair was tried,
        without bounds or queues; ``round_robin`` takes clients and channels in turn; ``random`` draws them.
    matching
        ``exact``, or the cheaper ``greedy``.
    exploration, delay_weight, min_share
        Of the worth, as above. ``min_share`` of rounds is met in the long run, by the queue.
    max_delay_s
        Delay with no reward, and longer ones have none either.

    Source
    ------
    K. Wei et al., "Low-latency federated learning over wireless channels with differential
    privacy", IEEE JSAC 2022, arXiv 2106.13039 (method card 9: the system is the abstract's, its
    equations are re-derived). Its limit on uploads by privacy is ``scheme.privacy``: a client
    whose budget is spent is not there to be chosen.
    """

    kind: Literal["matched"] = "matched"
    sets_knobs: ClassVar[frozenset[str]] = frozenset({PARTICIPATION.name, ASSIGNMENT_BITS.name})
    reallocate: Literal["every_round"] = "every_round"
    num_clients: int = Field(default=2, ge=1)
    choice: Literal["ucb", "oracle", "delay_greedy", "round_robin", "random"] = "ucb"
    matching: Literal["exact", "greedy"] = "exact"
    exploration: float = Field(default=2.0, ge=0.0, le=1e6)
    delay_weight: float = Field(default=10.0, gt=0.0, le=1e6)
    min_share: float = Field(default=0.0, ge=0.0, le=1.0)
    max_delay_s: float = Field(default=10.0, gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"min_share": 0.2, "matching": "greedy"},
        *({"choice": choice} for choice in ("oracle", "delay_greedy", "round_robin", "random")),
    )

    @property
    def reports(self) -> tuple[Report, ...]:
        """How long each took to train."""
        return (Report("delay"),)

    def allocate(self, state: CellState) -> Allocation:
        """Return who takes part in this round, on which subchannel.

        Raises
        ------
        AllocationError
            If the scheme sends no adapters, or more channels are asked for than there are.
        """
        link, present = state.links.get(_LINK), np.flatnonzero(state.weights > 0.0)
        count = min(self.num_clients, len(present))
        self._refuse(link, count, state.num_clients)
        assert link is not None
        known = self._known(state, link)
        channel_of = self._match(state, link, known, present, count)
        chosen = channel_of >= 0
        longer = np.maximum(known.queue + self.min_share - chosen, 0.0)
        queue = np.where(state.weights > 0.0, longer, known.queue)
        bits = ceil(log2(link.num_subchannels))
        knobs = {
            PARTICIPATION.name: tuple(chosen.astype(float).tolist()),
            ASSIGNMENT_BITS.name: tuple((bits * chosen.astype(float)).tolist()),
        }
        cut = state.client_cut_layers or state.cut_layer
        own = {client: channel_of[[client]] for client in np.flatnonzero(chosen).tolist()}
        grants = {_LINK: full_power(link, own)}
        others = [one for name, one in state.links.items() if name != _LINK]
        round_ = state.phases(Setting(cut, state.lora_rank, knobs)) if others else ()
        grants |= {one.name: shares_among(one, served(round_, one.name)) for one in others}
        arrays = {
            "counts": known.counts,
            "rewards": known.rewards,
            "queue": queue,
            "channel_of": channel_of.astype(float),
        }
        bare = Allocation(grants, 1, state.lora_rank, knobs=knobs, arrays=arrays)
        return bare.cut_at(cut)

    def _refuse(self, link: LinkState | None, count: int, num_clients: int) -> None:
        if link is None:
            raise AllocationError(
                "allocator.kind: 'matched' gives channels to clients that upload adapters; take the scheme "
                "'federated'."
            )
        if count > link.num_subchannels:
            raise AllocationError(
                f"allocator.num_clients: {count} clients ask for a channel each, and radio.{_LINK} has "
                f"{link.num_subchannels}; choose fewer clients, or set its num_subchannels higher."
            )
        if self.min_share * num_clients > self.num_clients:
            raise AllocationError(
                f"allocator.min_share: {self.min_share:g} of the rounds for each of {num_clients} clients is "
                f"{self.min_share * num_clients:g} clients a round, and {self.num_clients} take part; lower "
                "it, or choose more clients."
            )

    def _match(self, state: CellState, link: LinkState, known: "_Known", present: Ints, count: int) -> Ints:
        """Return the channel of each client, -1 for none."""
        num_channels, turn = link.num_subchannels, state.round - 1
        channel_of = np.full(state.num_clients, -1)
        if self.choice == "random":
            rng = state.stream.generator()
            channel_of[rng.permutation(present)[:count]] = rng.permutation(num_channels)[:count]
        elif self.choice == "round_robin":
            places = (turn * count + np.arange(count)) % len(present)
            channel_of[present[places]] = (turn + np.arange(count)) % num_channels
        else:
            match = exact_matching if self.matching == "exact" else greedy_matching
            channel_of[present] = match(self._worth(state, known)[present], count)
        return channel_of

    def _known(self, state: CellState, link: LinkState) -> "_Known":
        """Return what is known of each pair; the oracle works it out once, the others learn it."""
        if self.choice != "oracle":
            return _Known.of(state, link.num_subchannels, self.max_delay_s)
        rewards = state.arrays.get("rewards")
        if rewards is None or rewards.shape != link.gains.shape:
            rewards = _mean_rewards(state, link, self.num_clients, self.max_delay_s)
        queue = state.arrays.get("queue", np.zeros(state.num_clients))
        return _Known(np.ones_like(rewards), rewards, queue)

    def _worth(self, state: CellState, known: "_Known") -> Floats:
        """Return what each pair is worth, shape (num_clients, num_channels)."""
        queue = known.queue[:, np.newaxis]
        if self.choice == "oracle":
            return self.delay_weight * known.rewards + queue
        log_round = log(state.round) if self.choice == "ucb" else 0.0
        doubt = np.sqrt(self.exploration * log_round / np.maximum(known.counts, 1.0))
        untried = 2.0 + sqrt(self.exploration * log_round)
        bound = np.where(known.counts > 0.0, known.rewards + doubt, untried)
        return bound if self.choice == "delay_greedy" else self.delay_weight * bound + queue


@dataclass(eq=False)
class _Known:
    """What is known of each pair, shape (num_clients, num_channels), and each client's virtual queue.

    Attributes
    ----------
    counts, rewards
        How often a pair was tried, and its mean reward so far.
    """

    counts: Floats
    rewards: Floats
    queue: Floats

    @classmethod
    def of(cls, state: CellState, num_channels: int, max_delay_s: float) -> Self:
        """Return what is remembered, with what came of the last decision taken in."""
        shape, kept = (state.num_clients, num_channels), state.arrays
        if "counts" not in kept or kept["counts"].shape != shape:
            return cls(np.zeros(shape), np.zeros(shape), np.zeros(state.num_clients))
        known = cls(kept["counts"].copy(), kept["rewards"].copy(), kept["queue"])
        delays = state.reported.get("delay", (None,) * state.num_clients)
        for client, channel in enumerate(kept["channel_of"].astype(int).tolist()):
            delay_s, outcome = delays[client], state.outcomes[client]
            if channel >= 0 and delay_s is not None:
                reward = max(1.0 - (delay_s + outcome.airtime_s) / max_delay_s, 0.0)
                known._take_in(client, channel, reward if outcome.delivered else 0.0)
        return known

    def _take_in(self, client: int, channel: int, reward: float) -> None:
        self.counts[client, channel] += 1.0
        mean, count = self.rewards[client, channel], self.counts[client, channel]
        self.rewards[client, channel] += (reward - mean) / count


def _mean_rewards(state: CellState, link: LinkState, count: int, max_delay_s: float) -> Floats:
    """Return the mean reward of each pair over the fading, where ``count`` clients share the power."""
    every = {PARTICIPATION.name: (1.0,) * state.num_clients}
    round_ = state.phases(Setting(state.client_cut_layers or state.cut_layer, state.lora_rank, every))
    trained_s, bits = np.zeros(state.num_clients), np.zeros(state.num_clients)
    for barrier, times, _ in barriers_of(round_):
        for client, chain in enumerate(barrier.chains):
            for stage in chain:
                if isinstance(stage, Compute):
                    measured_s = state.measured(stage.name, client)
                    if measured_s is None:
                        trained_s[client] += (
                            times * stage.count * stage.flop / state.client_flop_per_s[client]
                        )
                    else:
                        trained_s[client] += times * stage.count * measured_s
                elif stage.link == link.name:
                    bits[client] += times * stage.bits
    limits = link.max_tx_power_w[:, np.newaxis]
    powers = limits * min(1.0, link.max_total_tx_power_w / (count * float(limits.mean())))
    rewards = np.zeros((state.num_clients, link.num_subchannels))
    seen = [link.gains]
    if state.gains_at is not None and state.block_ns is not None:
        seen = [state.gains_at(link.name, block * state.block_ns) for block in range(_ORACLE_BLOCKS)]
    for gains in seen:
        snr = powers * gains / (link.noise_psd_w_per_hz * link.bandwidths_hz)
        rates = np.maximum(link.data_share * link.rate.per_subchannel(snr, link.bandwidths_hz), 1e-200)
        delays_s = trained_s[:, np.newaxis] + bits[:, np.newaxis] / rates
        rewards += np.maximum(1.0 - delays_s / max_delay_s, 0.0) / len(seen)
    return rewards
