"""E(r), how many rounds training needs at each LoRA rank, measured by training.

Source
------
FedsLLM, arXiv 2504.14667, finds E(r) offline and says no more; smoothing,
target and fit are method card 1, section 7.4.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cosim.control.solvers.rounds import MeasuredRounds, RoundsFit, RoundsTable
from cosim.errors import CosimError, DivergedError, ScenarioError
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare, refuse_tasks
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario
from cosim.schemes.split_federated import SplitFederated
from cosim.units import Floats

_KEPT = 0.6  # of the smoothed loss, at each evaluation
_BUDGET = 0.9  # of the rounds, at which the smallest rank sets the target
_FEWER = 0.75  # of the rounds of the rank below, with which an early stop begins
_CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was measured.

    Attributes
    ----------
    table
        Rounds to target, as an allocator reads them.
    seeds
        Seeds trained with, the same for every rank.
    loss_target
        Smoothed held-out loss to be reached.
    losses
        For each rank, the held-out loss before training and after each round,
        shape (num_seeds, num_rounds + 1); not a number after a training that was stopped early.
    rounds
        For each rank, rounds to target, shape (num_seeds,).
    round_s
        For each rank, the least delay of a round on this scenario's cell, s; empty
        where the cell cannot be searched.
    best_ranks
        The ranks the noise does not separate from the one of least total delay, or
        of fewest rounds where ``round_s`` is empty.
    """

    table: RoundsTable
    seeds: tuple[int, ...]
    loss_target: float
    losses: Mapping[int, Floats]
    rounds: Mapping[int, Floats]
    round_s: Mapping[int, float]
    best_ranks: tuple[int, ...]


def calibrate(
    scenario: Scenario,
    ranks: Sequence[int],
    *,
    num_seeds: int = 3,
    num_rounds: int | None = None,
    stop_early: bool = False,
    store: Store | None = None,
    watch: Callable[[int, int, Floats], None] = lambda rank, seed, losses: None,
) -> Calibration:
    """Train at every rank with several seeds, and read off when each reaches one target.

    The held-out loss is smoothed; the target is what the smallest rank has
    reached at nine tenths of the rounds, in its worst seed, so that every seed
    of it gets there. Model, data, cut layer and schedule are the scenario's; who
    gets which part of the air is not, for it changes nothing of what is learned.

    Parameters
    ----------
    scenario
        What is trained.
    ranks
        LoRA ranks to measure.
    num_seeds
        How many seeds, from the scenario's on.
    num_rounds
        Rounds of each training; without it the scenario's.
    stop_early
        Train ranks above the smallest only until they are at the target, to the same rounds.
        Each begins with three quarters of the rounds that the rank below it needed and goes on from
        there, which computes nothing twice with a store.
    store
        Where learned values are kept; with it a second call computes nothing.
    watch
        Called after each training with rank, seed and held-out losses.

    Raises
    ------
    ScenarioError
        If ranks cannot be compared in this scenario, or a rank misses the target.
    DivergedError
        If a training diverges, with rank and seed.
    """
    ranks = sorted(set(ranks))
    _refuse(scenario, ranks, num_seeds)
    seeds = tuple(range(scenario.seed, scenario.seed + num_seeds))
    last = scenario.scheme.num_rounds if num_rounds is None else num_rounds
    together = {rank: np.full((num_seeds, last + 1), np.nan) for rank in ranks}
    target, begin_with = float("inf"), [last] * num_seeds
    for rank in ranks:
        for at, seed in enumerate(seeds):
            losses = _train_to(target, scenario, rank, seed, begin_with[at], last, store)
            together[rank][at, : len(losses)] = losses
            watch(rank, seed, losses)
        if rank == ranks[0]:
            target = loss_target(together[rank])
        if stop_early:
            needed = (first_crossing(smoothed(one), target) for one in together[rank])
            begin_with = [max(1, ceil(_FEWER * min(one, last))) for one in needed]
    rounds = {rank: _rounds_to(target, rank, seeds, together[rank]) for rank in ranks}
    round_s = _round_s(scenario, ranks)
    task = prepare(change(scenario, {"allocator": {"kind": "time_shared"}})).task
    table = RoundsTable(
        model=task.model_hash,
        data=task.tokens.content_key,
        ranks={
            rank: MeasuredRounds(
                rounds=float(found.mean()), std=float(found.std(ddof=1)) if num_seeds > 1 else 0.0
            )
            for rank, found in rounds.items()
        },
        fit=fit({rank: float(found.mean()) for rank, found in rounds.items()}),
    )
    totals = {rank: found * round_s.get(rank, 1.0) for rank, found in rounds.items()}
    return Calibration(table, seeds, target, together, rounds, round_s, not_worse(totals))


def smoothed(losses: Floats) -> Floats:
    """Return losses with what came before weighing in, along the last axis.

    Examples
    --------
    >>> smoothed(np.array([1.0, 0.0, 0.0])).round(2)
    array([1.  , 0.6 , 0.36])
    """
    found = np.array(losses, dtype=float)
    for at in range(1, found.shape[-1]):
        found[..., at] = _KEPT * found[..., at - 1] + (1.0 - _KEPT) * found[..., at]
    return found


def loss_target(losses: Floats) -> float:
    """Return what the smallest rank has reached at nine tenths of its rounds, in the worst seed."""
    num_rounds = losses.shape[-1] - 1
    at = _BUDGET * num_rounds
    return float(max(np.interp(at, np.arange(num_rounds + 1), one) for one in smoothed(losses)))


def first_crossing(losses: Floats, target: float) -> float:
    """Return the round at which losses, one a round from round 0 on, first come down to the target.

    Between two evaluations the loss is taken to fall straight; infinite if it
    never gets there.

    Examples
    --------
    >>> first_crossing(np.array([4.0, 3.0, 1.0]), 2.0)
    1.5
    """
    reached = np.flatnonzero(losses <= target)
    if not len(reached):
        return float("inf")
    at = int(reached[0])
    if at == 0:
        return 0.0
    before, after = float(losses[at - 1]), float(losses[at])
    return at - 1 + (before - target) / (before - after)


def fit(rounds: Mapping[int, float]) -> RoundsFit | None:
    """Return ``e0 + e1 * rank ** -beta`` through measured rounds; None with fewer than three ranks.

    Residuals count relative to the rounds. ``beta`` is held between 0.1 and 3.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    if len(rounds) < 3:
        return None
    ranks, found = np.array(list(rounds), dtype=float), np.array(list(rounds.values()))
    start = (0.5 * found.min(), max(float(found[0] - found.min()), 1e-3), 0.7)
    limits = ([0.0, 0.0, 0.1], [np.inf, np.inf, 3.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)  # a flat curve leaves beta open
        try:
            (e0, e1, beta), _ = curve_fit(
                lambda rank, e0, e1, beta: e0 + e1 * rank**-beta, ranks, found, start, found, bounds=limits
            )
        except RuntimeError:
            return None
    return RoundsFit(e0=float(e0), e1=float(e1), beta=float(beta))


def not_worse(totals: Mapping[int, Floats]) -> tuple[int, ...]:
    """Return the ranks whose total the paired seeds do not show to lie above the least one.

    A rank is left out if the confidence interval of its mean excess over the
    best excludes zero; with one seed the noise is not known and none is.

    Examples
    --------
    >>> not_worse({1: np.array([9.0, 9.1]), 2: np.array([5.0, 5.2]), 4: np.array([5.3, 5.0])})
    (2, 4)
    """
    best = min(totals, key=lambda rank: float(totals[rank].mean()))
    return tuple(rank for rank, found in totals.items() if not _is_above(found - totals[best]))


def _is_above(excess: Floats) -> bool:
    from scipy.special import stdtrit

    if len(excess) < 2:
        return False
    margin = stdtrit(len(excess) - 1, 0.5 * (1.0 + _CONFIDENCE)) * excess.std(ddof=1) / np.sqrt(len(excess))
    return bool(excess.mean() > margin)


def _refuse(scenario: Scenario, ranks: Sequence[int], num_seeds: int) -> None:
    refuse_tasks(scenario)
    if not ranks or ranks[0] < 1:
        raise ScenarioError(f"--ranks: must be positive numbers, such as 1,2,4, not {list(ranks)}.")
    if num_seeds < 1:
        raise ScenarioError(f"--seeds: must be at least 1, got {num_seeds}.")
    if not scenario.trained.has_factors:
        raise ScenarioError(f"trainable.kind: {scenario.trained.kind!r} has no rank to choose; train [lora].")
    if scenario.lora.alpha is not None:
        raise ScenarioError(
            f"lora.alpha: is fixed at {scenario.lora.alpha:g}, so the learning rate would change with the "
            "rank and the ranks could not be compared; leave it out, then alpha is 8 times the rank."
        )
    if isinstance(scenario.scheme, SplitFederated) and scenario.scheme.deadline_s is not None:
        raise ScenarioError(
            f"scheme.deadline_s: at {scenario.scheme.deadline_s:g} s the channel decides who is heard, so "
            "the rounds to target depend on it; calibrate without a deadline."
        )


def _train_to(
    target: float, scenario: Scenario, rank: int, seed: int, begin_with: int, last: int, store: Store | None
) -> Floats:
    """Return the losses of as many rounds, up to the last, as bring the smoothed loss to a target."""
    for num_rounds in range(begin_with, last + 1):
        losses = _train(scenario, rank, seed, num_rounds, store)
        if np.isfinite(first_crossing(smoothed(losses), target)):
            break
    return losses


def _train(scenario: Scenario, rank: int, seed: int, num_rounds: int, store: Store | None) -> Floats:
    """Return the held-out loss before training and after each round."""
    changes = {
        "lora.rank": rank,
        "scheme.num_rounds": num_rounds,
        "scheme.evaluate_every": 1,
        "training.on_divergence": "stop",
        "allocator": {"kind": "time_shared"},
        "events": [],
    }
    changed = change(scenario, changes, seed, source="calibrate")
    with TemporaryDirectory(prefix="cosim-calibrate-") as folder:
        try:
            metrics = Record.open(run(changed, Path(folder) / "run", store=store)).metrics.to_pydict()
        except DivergedError as fault:
            raise DivergedError(f"rank {rank}, seed {seed}: {fault}") from None
    rows = zip(metrics["round"], metrics["name"], metrics["value"], strict=True)
    found = dict(sorted((round_, value) for round_, name, value in rows if name == "eval_loss"))
    return np.array(list(found.values()))


def _rounds_to(target: float, rank: int, seeds: Sequence[int], losses: Floats) -> Floats:
    """Return the rounds to target of each seed."""
    rounds = np.array([first_crossing(one, target) for one in smoothed(losses)])
    if not np.isfinite(rounds).all():
        seed, after = seeds[int(rounds.argmax())], losses.shape[-1] - 1
        raise ScenarioError(
            f"rank {rank}, seed {seed}: does not come down to the held-out loss {target:.4g} of the "
            f"smallest rank in {after} rounds; train for longer with --rounds, or leave the rank out."
        )
    if not (rounds > 0.0).all():
        raise ScenarioError(
            f"rank {rank}: is at the held-out loss {target:.4g} before it is trained; nothing is learned "
            "in these rounds, so train for longer, or with a larger training.optimizer.learning_rate."
        )
    return rounds


def _round_s(scenario: Scenario, ranks: Sequence[int]) -> dict[int, float]:
    """Return the least delay of a round at each rank, s; nothing where the cell cannot be searched."""
    found = {}
    for rank in ranks:
        changes = {"lora.rank": rank, "allocator": {"kind": "nested"}, "events": []}
        try:
            allocation = prepare(change(scenario, changes)).allocation
        except CosimError:
            return {}
        if allocation is None or allocation.plan is None:
            return {}
        found[rank] = allocation.plan.round_s
    return found
