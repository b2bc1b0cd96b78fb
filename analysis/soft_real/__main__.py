"""Play the grid of SOFT on stories260k: tables and figures, PNG, PDF and CSV, into one folder."""

from pathlib import Path

import matplotlib

matplotlib.use("agg")

from analysis.curves import asked, trainings, what_it_rests_on
from analysis.drawing import as_command
from analysis.soft_real.figures import draw
from analysis.soft_real.methods import COMMON, grid, turned
from cosim.scenario.load import change

SCENARIO = Path(__file__).parents[2] / "scenarios" / "soft_tsfa_e2e.toml"
_ROUND_S = 0.5
"""A round of training, measured on one core, s."""


def main() -> None:
    """Play what is missing, and draw."""
    what = asked("soft_real", __doc__, SCENARIO, quick_rounds=2, seeds=3)
    rounds = {} if not what.is_quick else {"scheme.num_rounds": 2, "scheme.evaluate_every": 1}
    scenario = change(what.scenario, {**COMMON, **rounds})
    what = what._replace(scenario=scenario, word=what_it_rests_on(scenario, what.seeds, what.is_quick))
    cells = [*grid((0.1, 0.5), ("domains",)), *turned()] if what.is_quick else [*grid(), *turned()]
    found = trainings(what, [cell.method for cell in cells], _ROUND_S)
    draw({cell: found[cell.method.name] for cell in cells}, what)


if __name__ == "__main__":
    as_command(main)
