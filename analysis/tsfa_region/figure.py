"""The plane of times to the target, and what is left unsent on each of its places."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

from analysis.drawing import save
from analysis.tsfa_region.cells import Cell
from cosim.statistics.interval import student_t
from cosim.units import Floats


class Distance(NamedTuple):
    """Share of the energy left unsent in the same time.

    By one ratio for all; by TSFA; by any policy with rounds of one length, and by any policy, at least.
    """

    fixed: float
    tsfa: float
    even: float
    bound: float


def draw(
    advantages: Mapping[Cell, Floats],
    distances: Mapping[Cell, Sequence[Distance]],
    target: float,
    word: str,
    path: Path,
) -> None:
    """Draw the plane of times, and what is left unsent on each of its places."""
    spreads = sorted({cell.std_db for cell in advantages})
    coherences = sorted({cell.coherence for cell in advantages})
    found = np.array([[student_t(advantages[Cell(one, other)]) for other in coherences] for one in spreads])
    means, lows, highs = (np.expm1(found[..., part]) * 100.0 for part in range(3))
    figure, (plane, unsent) = plt.subplots(1, 2, figsize=(10.5, 3.8), layout="constrained")
    limit = max(float(np.abs(means).max()), 10.0)
    image = plane.imshow(means, cmap="PuOr_r", vmin=-limit, vmax=limit, origin="lower", aspect="auto")
    for row, column in np.ndindex(*means.shape):
        is_known = lows[row, column] > 0.0 or highs[row, column] < 0.0
        told = f"{means[row, column]:+.0f} %\n({lows[row, column]:+.0f} to {highs[row, column]:+.0f})"
        dark = abs(means[row, column]) > 0.6 * limit
        plane.text(
            column,
            row,
            told,
            ha="center",
            va="center",
            fontsize=8,
            weight="bold" if is_known else "normal",
            color="white" if dark else "black",
        )
    plane.set_xticks(range(len(coherences)), [f"{one:g}" for one in coherences])
    plane.set_yticks(range(len(spreads)), [f"{one:g}" for one in spreads])
    plane.set_xlabel("block of fading (rounds)")
    plane.set_ylabel("shadowing, standard deviation (dB)")
    plane.set_title(
        f"TSFA's time to loss {target:g} against the best fixed ratio\n(bold: interval without 0)", fontsize=9
    )
    figure.colorbar(image, ax=plane, label="%")
    labels = [f"{cell.std_db:g} dB\n{cell.coherence:g}" for cell in distances]
    for name, mark, label in (
        ("fixed", "s", "one ratio"),
        ("tsfa", "o", "TSFA"),
        ("even", "_", "any policy with even rounds at least"),
        ("bound", "v", "any policy at least"),
    ):
        values = [np.mean([getattr(one, name) for one in each]) for each in distances.values()]
        unsent.plot(range(len(values)), values, mark, ms=5, label=label)
    unsent.set_xticks(range(len(labels)), labels, fontsize=7)
    unsent.set_ylim(bottom=0.0)
    unsent.set_xlabel("shadowing; block of fading (rounds)")
    unsent.set_ylabel("energy left unsent, share")
    unsent.set_title("in the same time, of what TSFA had to send", fontsize=9)
    unsent.legend(fontsize=7)
    figure.suptitle(word, fontsize=9)
    save(figure, path)
