"""The planes of times at the same energy and to the target, and what is left unsent on each place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.drawing import save
from analysis.tsfa_region.cells import Cell
from analysis.tsfa_region.energy import Saving
from cosim.statistics.interval import student_t
from cosim.units import Floats

_LEFT = (
    ("fixed", "s", "one ratio"),
    ("tsfa", "o", "TSFA"),
    ("even", "_", "any policy with even rounds, at least"),
    ("bound", "v", "any policy, at least"),
)


def draw(
    savings: Mapping[Cell, Sequence[Saving]],
    advantages: Mapping[Cell, Floats],
    target: float,
    word: str,
    path: Path,
) -> None:
    """Draw the plane of savings, that of times to the target where there is one, and the distances."""
    logs = {cell: np.log1p([one.time for one in each]) for cell, each in savings.items()}
    planes = [(logs, "TSFA's time for the energy that one ratio sends")]
    if advantages:
        planes.append((dict(advantages), f"TSFA's time to loss {target:g} against the best ratio"))
    figure, axes = plt.subplots(
        1, len(planes) + 1, figsize=(4.6 * (len(planes) + 1), 3.8), layout="constrained"
    )
    for axis, (values, title) in zip(axes, planes, strict=False):
        _plane(figure, axis, values, f"{title}\n(bold: interval without 0)")
    unsent = axes[-1]
    for name, mark, label in _LEFT:
        known = [[getattr(one, name) for one in each if np.isfinite(one.bound)] for each in savings.values()]
        unsent.plot(range(len(known)), [np.mean(one) for one in known], mark, ms=6, label=label)
    unsent.set_xticks(
        range(len(savings)), [f"{cell.std_db:g} dB\n{cell.coherence:g}" for cell in savings], fontsize=7
    )
    unsent.set_ylim(bottom=0.0)
    unsent.set_xlabel("shadowing; block of fading (rounds)")
    unsent.set_ylabel("energy left unsent, share")
    unsent.set_title("in TSFA's time", fontsize=9)
    unsent.legend(fontsize=7)
    figure.suptitle(word, fontsize=9)
    save(figure, path)


def _plane(figure: Any, axis: Any, logs: Mapping[Cell, Floats], title: str) -> None:
    """Draw relative times over shadowing and coherence, from their logarithms by seed."""
    spreads = sorted({cell.std_db for cell in logs})
    coherences = sorted({cell.coherence for cell in logs})
    found = np.array([[student_t(logs[Cell(one, other)]) for other in coherences] for one in spreads])
    means, lows, highs = (np.expm1(found[..., part]) * 100.0 for part in range(3))
    limit = max(float(np.abs(means).max()), 10.0)
    image = axis.imshow(means, cmap="PuOr_r", vmin=-limit, vmax=limit, origin="lower", aspect="auto")
    for (row, column), mean in np.ndenumerate(means):
        low, high = lows[row, column], highs[row, column]
        axis.text(
            column,
            row,
            f"{mean:+.0f} %\n({low:+.0f} to {high:+.0f})",
            ha="center",
            va="center",
            fontsize=8,
            weight="bold" if low > 0.0 or high < 0.0 else "normal",
            color="white" if abs(mean) > 0.6 * limit else "black",
        )
    axis.set_xticks(range(len(coherences)), [f"{one:g}" for one in coherences])
    axis.set_yticks(range(len(spreads)), [f"{one:g}" for one in spreads])
    axis.set_xlabel("block of fading (rounds)")
    axis.set_ylabel("shadowing, standard deviation (dB)")
    axis.set_title(title, fontsize=9)
    figure.colorbar(image, ax=axis, label="%")
