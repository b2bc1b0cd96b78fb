"""Draw where TSFA is earlier than the best fixed ratio: at the same energy sent, and at a target loss.

The plane is the spread of the channel (shadowing beside distance) times its coherence (how many rounds a
block of fading holds). First, without training, the time TSFA takes for the energy that a fixed ratio sends,
by limit and weight, with a bound on any policy (``--energy`` stops there). Then fixed ratios, and TSFA under
two limits, are trained to one loss; the arm of either side is chosen by the other seeds, so none by what it
is tested on. Fixed ratios learn the same on every channel: they are trained on one, and timed on the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from math import log
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

import numpy as np

from analysis.drawing import Progress, as_command, parsed, parser, write
from analysis.soft_tsfa.gap import long_run
from analysis.soft_tsfa.trainings import Method, Training, recorded, train
from analysis.tsfa_region.cells import LIMITS, RATIOS, Cell, Place, cells, chosen_on_others
from analysis.tsfa_region.energy import Air, Saving
from analysis.tsfa_region.figure import draw
from cosim.control.solvers.sparsity.curves import Stepped
from cosim.graph.store import Store, default_store
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change, load, run_hash
from cosim.scenario.settings import Scenario
from cosim.statistics.interval import student_t
from cosim.units import NS_PER_S, Floats

SCENARIO = Path(__file__).parents[2] / "scenarios" / "soft_tsfa.toml"
TRAINING = {
    "scheme.local_steps": 2,
    "scheme.evaluate_every": 2,
    "data.source": {"kind": "embedded", "num_train": 600, "num_test": 40},
    "training.optimizer": {"kind": "adamw", "learning_rate": 3e-3},
}
"""Half the local steps of the scenario and fewer held-out texts, so that the plane takes minutes."""
TARGET = 2.2
"""Held-out loss to come to; fixed on a seed that is not among the compared ones."""
HEAVIER = 4.0
FACTORS = (1.0, HEAVIER)
"""Weights of the unsent energy, in TSFA's own."""
_HEAVIER_AT = (Cell(0.0, 1.0), Cell(12.0, 4.0))
_LIMIT = 0.5  # at which bounds are worked out
_ROUND_S, _TIMED_S, _SAVING_S, _BOUND_S = 0.6, 0.3, 0.2, 3.0  # measured on a busy core

Savings = dict[tuple[Cell, float, float], list[Saving]]
"""Of each place, limit and weight: one for each seed."""


class Times(NamedTuple):
    """When the target is reached, s: of each seed, by every fixed ratio and by every arm of TSFA."""

    fixed: list[list[float]]
    tsfa: list[list[float]]


class Study:
    """Everything that is trained, with what is read off it."""

    def __init__(self, scenario: Scenario, out: Path, store: Store, progress: Progress) -> None:
        self._scenario, self._runs, self._store, self._progress = scenario, out / "runs", store, progress
        self.rows: list[tuple[object, ...]] = []
        self._learned: dict[tuple[int, float], Training] = {}

    def fixed(self, place: Place, ratio: float) -> float:
        """Return when one ratio comes to the target, s; trained on the first channel, timed on others.

        What a ratio learns depends on no channel.
        """
        method, seed = place.fixed(ratio), place.seed
        if (known := self._learned.get((seed, ratio))) is None:
            found = self._learned[seed, ratio] = self._trained(place, method)
        else:
            ends_s = np.concatenate([[0.0], np.cumsum(self._timed(place, method))])
            found = replace(known, seconds=ends_s[known.rounds.astype(int)], round_s=np.diff(ends_s))
        return self._told(place, f"fixed {ratio:g}", found, "timed" if known else "fixed_ratios")

    def tsfa(self, place: Place, limit: float, factor: float = 1.0) -> float:
        """Return when TSFA comes to the target, s, with so many times its weight; infinite if it does not."""
        method, name = place.tsfa(limit), f"tsfa {limit:g}"
        if factor != 1.0:
            weight = self._trained(place, method).metrics["penalty_weight"][0][-1]
            name += f" weight x {factor:g}"
            method = place.tsfa(limit, factor * weight, f" weight x {factor:g}")
        return self._told(place, name, self._trained(place, method), "trainings")

    def pilot(self, place: Place) -> Sequence[Stepped]:
        """Train TSFA once, and return what its rounds had to send."""
        method = place.tsfa(_LIMIT)
        found = long_run(recorded(self._scenario, method, place.seed, self._runs, self._store), self._store)
        self._progress.done("pilots", f"{method.name}: {found.unsent:.3f} of the energy left unsent")
        return found.curves

    def _trained(self, place: Place, method: Method) -> Training:
        return train(self._scenario, method, place.seed, self._runs, self._store)

    def _timed(self, place: Place, method: Method) -> Floats:
        """Return how long each round of a method lasts, s, without training it."""
        changed = change(self._scenario, method.changes, place.seed)
        folder = self._runs / f"timed-{run_hash(changed)[:12]}"
        if not (folder / "manifest.json").is_file() or Record.open(folder).status != "complete":
            rmtree(folder, ignore_errors=True)
            run(changed, folder, timing_only=True)
        played = Record.open(folder).rounds.to_pydict()
        ends = {round_: end for round_, end in zip(played["round"], played["end_ns"], strict=True) if round_}
        return np.diff([0, *(ends[one] for one in sorted(ends))]) / NS_PER_S

    def _told(self, place: Place, arm: str, found: Training, part: str) -> float:
        seconds, cell = found.first_reached(TARGET, found.seconds), place.cell
        mean_s = float(found.seconds[-1] / found.rounds[-1])
        self.rows.append((*astuple(cell), place.seed, arm, seconds, mean_s, float(found.losses[-1])))
        self._progress.done(part, f"{arm}, {cell}, seed {place.seed}: {seconds:.3g} s to {TARGET:g}")
        return seconds


def main() -> None:
    """Train the plane, and make figure and tables."""
    options = parser("tsfa_region", __doc__, SCENARIO, "two seeds and the corners of the plane, to try it")
    options.add_argument("--energy", action="store_true", help="without training to a loss: minutes")
    told = parsed(options)
    scenario = change(load(told.scenario), TRAINING)
    plane, seeds = cells(told.quick), range(scenario.seed, scenario.seed + told.seeds)
    heavier = () if told.quick else _HEAVIER_AT
    cases = [(limit, factor) for limit in LIMITS for factor in FACTORS]
    in_bounds = seeds[:3]
    costs: dict[str, tuple[int, float]] = {
        "pilots": (1, _ROUND_S * LIMITS[_LIMIT]),
        "savings": (len(plane) * told.seeds, _SAVING_S * len(cases)),
        "bounds": (len(plane) * len(in_bounds), _BOUND_S),
    }
    if not told.energy:
        rounds = [float(np.mean(list(each.values()))) for each in (LIMITS, RATIOS)]
        costs["trainings"] = (told.seeds * (len(plane) * len(LIMITS) + len(heavier)), _ROUND_S * rounds[0])
        costs["fixed_ratios"] = (told.seeds * len(RATIOS), _ROUND_S * rounds[1])
        costs["timed"] = (told.seeds * len(RATIOS) * (len(plane) - 1), _TIMED_S)
    progress = Progress(**costs)
    study = Study(scenario, told.out, Store(told.store or default_store()), progress)
    curves = study.pilot(Place.of(scenario, plane[0], seeds[0]))
    savings: Savings = {}
    for seed in seeds:
        for cell in plane:
            place = Place.of(scenario, cell, seed)
            air = Air.of(scenario, place, curves)
            for limit, factor in cases:
                is_bounded = seed in in_bounds and (limit, factor) == (_LIMIT, 1.0)
                found = air.saving(place, limit, factor, bounds=is_bounded)
                savings.setdefault((cell, limit, factor), []).append(found)
                if is_bounded:
                    progress.done(
                        "bounds", f"{cell}, seed {seed}: any policy leaves {found.bound:.3f} at least"
                    )
            progress.done("savings", f"{cell}, seed {seed}: {savings[cell, _LIMIT, 1.0][-1].time:+.1%}")
    _report_savings(savings, seeds, told.out)
    word = f"{'quick: ' if told.quick else ''}{told.seeds} seeds; mean and 95 % interval"
    times: dict[Cell, Times] = {cell: Times([], []) for cell in plane}
    for seed in () if told.energy else seeds:
        for cell in plane:
            place = Place.of(scenario, cell, seed)
            times[cell].fixed.append([study.fixed(place, ratio) for ratio in RATIOS])
            arms = [study.tsfa(place, limit) for limit in LIMITS]
            if cell in heavier:
                arms.append(study.tsfa(place, _LIMIT, HEAVIER))
            times[cell].tsfa.append(arms)
        _write_runs(study, told.out)
    advantages = {} if told.energy else {cell: _advantage(cell, one) for cell, one in times.items()}
    _report(advantages, told.out)
    of_limit = {
        cell: each for (cell, limit, factor), each in savings.items() if (limit, factor) == (_LIMIT, 1.0)
    }
    draw(of_limit, advantages, TARGET, word, told.out / "region")


def _report_savings(savings: Savings, seeds: Sequence[int], out: Path) -> None:
    """Print and write what TSFA saves at the same energy."""
    rows = []
    for (cell, limit, factor), each in savings.items():
        time = np.expm1(student_t(np.log1p([one.time for one in each])))
        left = [float(np.nanmean([one[at] for one in each])) for at in range(1, 4)]
        print(
            f"{cell}, limit {limit:g}, weight x {factor:g}: time for the same energy {time[0]:+.1%} "
            f"({time[1]:+.1%} to {time[2]:+.1%}); over the limit {left[0]:+.1%}; in that "
            f"time one ratio leaves {left[1]:.3f}, TSFA {left[2]:.3f}"
        )
        bounded = [one for one in each if np.isfinite(one.bound)]
        if bounded:
            even, bound = (
                float(np.mean([getattr(one, name) for one in bounded])) for name in ("even", "bound")
            )
            print(f"    any policy with even rounds {even:.3f} at least, any policy {bound:.3f}")
        rows += [(*astuple(cell), limit, factor, seed, *one) for seed, one in zip(seeds, each, strict=True)]
    heading = ("shadowing_db", "coherence_rounds", "limit", "weight", "seed", *Saving._fields)
    write(out / "energy.csv", heading, rows)


def _write_runs(study: Study, out: Path) -> None:
    heading = (
        "shadowing_db",
        "coherence_rounds",
        "seed",
        "arm",
        "seconds_to_target",
        "mean_round_s",
        "last_loss",
    )
    write(out / "runs.csv", heading, study.rows)


def _advantage(cell: Cell, times: Times) -> Floats:
    """Return by seed the logarithm of TSFA's time over that of the fixed ratio, each chosen by the others."""
    fixed, tsfa = chosen_on_others(times.fixed), chosen_on_others(times.tsfa)
    ratios, limits = list(RATIOS), [*(f"{one:g}" for one in LIMITS), f"{_LIMIT:g} weight x {HEAVIER:g}"]
    print(
        f"{cell}: ratios chosen {', '.join(f'{ratios[one]:g}' for one in fixed)}; "
        f"limits of TSFA {', '.join(limits[one] for one in tsfa)}"
    )
    pairs = zip(times.tsfa, tsfa, times.fixed, fixed, strict=True)
    return np.array([log(ours[mine] / theirs[other]) for ours, mine, theirs, other in pairs])


def _report(advantages: Mapping[Cell, Floats], out: Path) -> None:
    """Print and write the plane of times to the target."""
    rows = []
    for cell, logs in advantages.items():
        found = student_t(logs)
        mean, low, high = (float(np.expm1(one)) for one in found)
        rows.append((*astuple(cell), mean, low, high))
        print(f"{cell}: TSFA's time to loss {TARGET:g} against the best fixed ratio {mean:+.1%} ", end="")
        print(f"({low:+.1%} to {high:+.1%})")
    if rows:
        heading = ("shadowing_db", "coherence_rounds", "time_against_fixed", "low", "high")
        write(out / "region.csv", heading, rows)


if __name__ == "__main__":
    as_command(main)
