"""What is read off the grid of SOFT: cells that differ in one thing, and how far chance is behind energy."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest

from analysis.curves import Asked
from analysis.soft_real.figures import contests, draw
from analysis.soft_real.methods import PAIRED, SELECTIONS, Cell, grid, turned
from analysis.soft_tsfa.trainings import Training
from cosim.graph.store import Store

SEEDS = range(1, 4)
LOSSES = {"energy, no feedback": 1.0, "random, no feedback": 1.25, "no regulariser": 2.0, "random pairs": 1.5}


def made(cell: Cell, seed: int) -> Training:
    """Return a training of two rounds whose seed shifts every method alike."""
    rounds = np.array([0.0, 2.0])
    dropped = 0.5 - 0.3 * cell.ratio if "random" in cell.selection else 0.1
    spread = len(cell.variant) / 20 + (cell.clients == "IID") / 50
    figures = {"dropped_energy": dropped, "pair_energy": 0.6, "effective_pairs": spread, "coherence": 0.1}
    return Training(
        seed=seed,
        rounds=rounds,
        seconds=rounds,
        uplink_mbit=10.0 * rounds * cell.ratio,
        downlink_mbit=rounds,
        losses=np.array([3.0, LOSSES.get(cell.selection, 1.0) + 0.125 * seed]),
        round_s=np.ones(2),
        metrics={name: [(1, "federated-server", value)] for name, value in figures.items()},
    )


def test_choices_by_energy_and_by_chance_differ_in_nothing_else():
    for energy, chance in PAIRED:
        one, two = SELECTIONS[energy], SELECTIONS[chance]
        assert {**one.codec, "kind": ""} == {**two.codec, "kind": ""}
        assert one[1:] == two[1:]
    cells = [*grid(), *turned()]
    assert len({cell.method.name for cell in cells}) == len(cells)


def test_differences_are_of_the_same_seed_and_condition():
    found = {cell: [made(cell, seed) for seed in SEEDS] for cell in (*grid(), *turned())}
    behind = {(one.cell, one.has_feedback): one.behind for one in contests(found)}
    assert behind[Cell("energy, no feedback", 0.1, "domains", "SGD"), False] == pytest.approx([0.25] * 3)
    assert behind[Cell("no regulariser", 0.5, "IID"), True] == pytest.approx([-0.5] * 3)
    assert behind[Cell("SOFT", 0.1, "domains", "regularised"), True] == pytest.approx([0.5] * 3)
    by_energy = sum(cell.selection in dict(PAIRED) for cell in found)
    assert len(behind) == by_energy - 1 + 1  # the gains of products have no counterpart, and SOFT has one


@pytest.mark.slow
def test_every_table_and_figure_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    matplotlib.use("agg")
    found = {cell: [made(cell, seed) for seed in SEEDS] for cell in (*grid(), *turned())}
    draw(found, Asked(None, SEEDS, False, tmp_path, Store(tmp_path / "store"), "made"))
    names = ("ratios.png", "energy_or_chance.pdf", "grid.csv", "options.csv", "energy_or_chance.csv")
    assert all((tmp_path / name).stat().st_size for name in names)
    assert "energy ahead" in capsys.readouterr().out
