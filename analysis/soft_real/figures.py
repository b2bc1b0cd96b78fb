"""What the grid shows: losses over ratios, energy against chance, and what predicts which is ahead."""

from collections.abc import Mapping, Sequence

from analysis.curves import Asked
from analysis.soft_real.methods import Cell
from analysis.soft_tsfa.trainings import Training


def draw(found: Mapping[Cell, Sequence[Training]], what: Asked) -> None:
    """Write every table and figure."""
