"""TSFA, first stage: which LoRA rank a cell and a limit on latency call for.

A pilot trains with the largest rank, sends everything, and measures by how much
each direction of the model would change in a round; further ones with small ranks
measure what averaging the factors by themselves adds. With what a rank's pairs
weigh, and how many of them get through by the limit, each rank then has a price.

Source
------
arXiv 2505.00333, first stage of TSFA; as in method card 2 (soft_tsfa), section 8.2,
whose derivation the formulas are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cosim.control.allocators.sparsifying import LINK, KeepRatios, Upload
from cosim.control.solvers.sparsity.curves import Stepped
from cosim.control.solvers.sparsity.sharing import share_band
from cosim.control.state import CellState
from cosim.errors import DivergedError, ScenarioError
from cosim.graph.executor import Executor
from cosim.graph.finite import NotFiniteError
from cosim.graph.store import LostValueError, Store
from cosim.learning.execution import make_executor
from cosim.learning.federated_state import FederatedState
from cosim.learning.operations import rank_pairs
from cosim.learning.training import Training
from cosim.learning.whole_nodes import local_round
from cosim.scenario.build import prepare, refuse_tasks
from cosim.scenario.load import change
from cosim.scenario.prepared import Prepared
from cosim.scenario.settings import Scenario
from cosim.schemes.federated import Federated
from cosim.units import Floats

_NUM_SMALL = 3  # ranks the covariance is measured at


@dataclass(frozen=True, eq=False)
class Pilot:
    """What was measured at one rank, as means over rounds and seeds.

    Attributes
    ----------
    energies
        Squares of the singular values of a round's ideal update, the j-th of all
        adapted matrices added up, shape (rank,).
    beyond
        Energy beyond them.
    covariance
        Squared norm of the covariance of the factors.
    """

    energies: Floats
    beyond: float
    covariance: float


@dataclass(frozen=True)
class RankPrice:
    """What a rank costs, energy per round.

    Attributes
    ----------
    rank_error
        Of the ideal update, what lies outside the rank.
    covariance
        What averaging the factors by themselves adds.
    unsent
        What does not get through by the limit, weighted over the clients.
    sparsification_ratio
        Mean sparsification ratio of the clients.
    """

    rank_error: float
    covariance: float
    unsent: float
    sparsification_ratio: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.rank_error + self.covariance + self.unsent


@dataclass(frozen=True, eq=False)
class RankChoice:
    """Which rank, and why.

    Attributes
    ----------
    best
        The rank of least price.
    prices
        Of each candidate.
    num_affordable
        How many pairs of each matrix a client gets through by the limit on average.
    energies
        Spectrum of the ideal update, shape (largest rank,).
    beyond
        Energy beyond the largest rank, which no candidate reaches.
    covariance_per_rank
        Slope of the covariance energy in the rank, through zero.
    covariances
        Covariance energy at each rank it was measured at.
    """

    best: int
    prices: Mapping[int, RankPrice]
    num_affordable: float
    energies: Floats
    beyond: float
    covariance_per_rank: float
    covariances: Mapping[int, float]


def choose_rank(
    scenario: Scenario,
    ranks: Sequence[int],
    *,
    num_seeds: int = 1,
    num_rounds: int | None = None,
    num_draws: int = 0,
    store: Store | None = None,
    watch: Callable[[int, int], None] = lambda rank, seed: None,
) -> RankChoice:
    """Measure with pilots, and return the rank of least price.

    Parameters
    ----------
    scenario
        A federated training under an allocator with a limit on latency.
    ranks
        Candidates.
    num_seeds
        Seeds of each pilot, from the scenario's on.
    num_rounds
        Rounds of a pilot; without it the scenario's.
    num_draws
        Channels drawn, over which the unsent energy is averaged; 0 for the channel before fading.
    store
        Where learned values are kept.
    watch
        Called after each pilot with rank and seed.

    Raises
    ------
    CosimError
        If the scenario has no such limit, a rank cannot keep it, or a pilot diverges.
    """
    ranks = sorted(set(ranks))
    _refuse(scenario, ranks)
    seeds = range(scenario.seed, scenario.seed + num_seeds)
    small = ranks[:_NUM_SMALL]
    pilots = {}
    for rank in sorted({*small, ranks[-1]}):
        found = []
        for seed in seeds:
            found.append(run_pilot(scenario, rank, seed, num_rounds, store))
            watch(rank, seed)
        pilots[rank] = _mean(found)
    covariances = {rank: pilots[rank].covariance for rank in small}
    slope = slope_through_zero(covariances)
    largest = pilots[ranks[-1]]
    prices = {}
    affordable = 0.0
    for rank in ranks:
        unsent, ratio = unsent_energy(scenario, rank, largest.energies[:rank], num_draws)
        prices[rank] = RankPrice(float(largest.energies[rank:].sum()), slope * rank, unsent, ratio)
        affordable = ratio * rank
    best = min(prices, key=lambda rank: prices[rank].total)
    return RankChoice(best, prices, affordable, largest.energies, largest.beyond, slope, covariances)


def slope_through_zero(energies: Mapping[int, float]) -> float:
    """Return the slope of the least-squares line through zero.

    Examples
    --------
    >>> slope_through_zero({1: 2.0, 2: 4.0})
    2.0
    """
    return sum(rank * energy for rank, energy in energies.items()) / sum(rank**2 for rank in energies)


def run_pilot(
    scenario: Scenario, rank: int, seed: int, num_rounds: int | None = None, store: Store | None = None
) -> Pilot:
    """Train with every client and everything sent, and return what its rounds would change."""
    changes = {
        "lora.rank": rank,
        "scheme.num_rounds": scenario.scheme.num_rounds if num_rounds is None else num_rounds,
        "scheme.participation": 1.0,
        "scheme.adapter_codec": {"kind": "none"},
        "scheme.aggregator": {"kind": "fedavg"},
        "training.on_divergence": "stop",
        "allocator": {"kind": "time_shared"},
        "events": [],
    }
    prepared = prepare(change(scenario, changes, seed, source="calibrate"))
    while True:
        try:
            return _play(prepared, make_executor(prepared.task, rank, store), rank)
        except NotFiniteError as found:
            place = f"rank {rank}, seed {seed}"
            raise DivergedError(f"{place}: {_told(found, scenario.scheme.local_steps)}") from None
        except LostValueError:
            continue  # a value went while it was in use; what is left is found again, the rest computed


def _told(found: NotFiniteError, local_steps: int) -> str:
    """Return where a pilot diverged, by its first step that is known."""
    steps = [one.node.params["step"] for one in found.refs if "step" in one.node.params]
    round_, local_step = divmod(steps[0], local_steps) if steps else (-1, -1)
    place = f"in round {round_ + 1}, local step {local_step + 1}, " if steps else ""
    return (
        f"{place}the training diverged: values are not finite any more; lower "
        "training.optimizer.learning_rate, or give the optimizer a max_grad_norm."
    )


def _play(prepared: Prepared, executor: Executor, rank: int) -> Pilot:
    scheme, task = prepared.scenario.scheme, prepared.task
    assert isinstance(scheme, Federated)
    training = Training(task, task.shape.num_layers, rank)
    federation = FederatedState(training, "whole")
    found: list[Pilot] = []
    for round_ in range(1, scheme.num_rounds + 1):
        steps = range((round_ - 1) * scheme.local_steps, round_ * scheme.local_steps)
        for client, begin in enumerate(federation.states):
            after = local_round(training, client, begin, steps, scheme.regularizer).after
            federation.states[client] = after
        before = federation.adapter
        uploads = {client: federation.upload(client, round_) for client in range(task.num_clients)}
        federation.average(uploads, round_)
        weights = training.weights(uploads)
        update = rank_pairs.ideal_update(training.graph, before, [*uploads.values()], weights)
        federation.distribute_to_all(round_ + 1)
        (value,) = executor.materialise(list(federation.refs()), [update])
        beyond, covariance = value["rest"].tolist()
        found.append(Pilot(value["energies"].cpu().numpy(), beyond, covariance))
    return _mean(found)


def _mean(pilots: Sequence[Pilot]) -> Pilot:
    return Pilot(
        energies=np.mean([one.energies for one in pilots], axis=0),
        beyond=float(np.mean([one.beyond for one in pilots])),
        covariance=float(np.mean([one.covariance for one in pilots])),
    )


def unsent_energy(scenario: Scenario, rank: int, energies: Floats, num_draws: int) -> tuple[float, float]:
    """Return what does not get through by the limit at a rank, weighted, and the mean sparsification ratio.

    Parameters
    ----------
    energies
        Of the pairs of each number, those of all matrices together, shape (rank,).
    num_draws
        Channels drawn, one a coherence block from time 0 on; 0 for the channel before fading.
    """
    allocator = scenario.allocator
    assert isinstance(allocator, KeepRatios)
    changes: dict[str, Any] = {"lora.rank": rank, "allocator": {"kind": "time_shared"}, "events": []}
    if scenario.scheme.codecs.adapter.obeys_ratio:
        changes["scheme.adapter_codec.sparsification_ratio"] = 1.0  # its own has no say under an allocator's
    prepared = prepare(change(scenario, changes, source="calibrate"))
    state = _state(prepared, rank)
    first = Upload.of(state)
    allocator.check_limit(first)
    limit_s = allocator.latency_limit_s - first.beside_s
    links = [first.average]
    if num_draws > 0 and prepared.channel.block_ns is not None:
        links = [
            Upload.of(
                _at(
                    state, prepared.channel.gain_over_noise_alone_at(LINK, number * prepared.channel.block_ns)
                )
            ).now
            for number in range(num_draws)
        ]
    sizes = [np.full(rank, dense / rank) for dense in first.now.dense_bits]
    curves = Stepped(sizes, [np.asarray(energies)] * len(sizes), first.weights)
    unsent, ratios = [], []
    for uplink in links:
        empty_s = float(uplink.earliest_s(uplink.overhead_bits))
        shares = share_band(uplink, curves, np.array([max(limit_s, empty_s)]))
        unsent.append(float(shares.unsent[0]))
        ratios.append(float((shares.bits[0] / uplink.dense_bits).mean()))
    return float(np.mean(unsent)), float(np.mean(ratios))


def _state(prepared: Prepared, rank: int) -> CellState:
    """Return the snapshot an allocator would see at a rank."""
    state = prepared.decisions().state(0, round_=1)
    return replace(state, sparsity=prepared.scenario.scheme.sparsity(prepared.task, rank))


def _at(state: CellState, gains: Floats) -> CellState:
    return replace(state, links={**state.links, LINK: replace(state.links[LINK], gains=gains)})


def _refuse(scenario: Scenario, ranks: Sequence[int]) -> None:
    refuse_tasks(scenario)
    if not ranks or ranks[0] < 1:
        raise ScenarioError(f"--ranks: must be positive numbers, such as 2,4,8, not {list(ranks)}.")
    if len(ranks) < 2:
        raise ScenarioError(f"--ranks: {ranks[0]} alone leaves nothing to choose; name two or more.")
    if not isinstance(scenario.scheme, Federated) or not isinstance(scenario.allocator, KeepRatios):
        raise ScenarioError(
            "calibrate: a rank is chosen for the scheme 'federated' under an allocator with "
            f"latency_limit_s, such as 'tsfa', not for {scenario.scheme.kind!r} under "
            f"{scenario.allocator.kind!r}."
        )
    if not scenario.trained.has_factors:
        raise ScenarioError(f"trainable.kind: {scenario.trained.kind!r} has no rank to choose; train [lora].")
    if scenario.lora.alpha is not None:
        raise ScenarioError(
            f"lora.alpha: is fixed at {scenario.lora.alpha:g}, so the updates of each rank would be scaled "
            "differently and could not be compared; leave it out, then alpha is 8 times the rank."
        )
