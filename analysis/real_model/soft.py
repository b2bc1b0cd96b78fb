"""SOFT on SmolLM2: what the grid on stories260k left open, ratios 0.1 and 0.5 with domain clients."""

from analysis.curves import Asked as Curves
from analysis.curves import trainings, what_it_rests_on
from analysis.real_model.jobs import SCENARIOS, Asked, Job
from analysis.soft_real.figures import draw_ratios, tell_cells
from analysis.soft_real.methods import COMMON, SELECTIONS, Cell
from cosim.scenario.load import change, load

RATIOS = (0.1, 0.5)
_CHANGES = {
    **COMMON,
    "training.optimizer.learning_rate": 5e-4,  # as for SmolLM2 elsewhere
    "data.sequence_length": 72,  # holds every text whole
    "scheme.num_rounds": 6,
    "scheme.local_steps": 1,
    "scheme.evaluate_every": 6,
    "model.cut_layer": 1,  # nothing is cut
}
_LEFT_OUT = ("literal", "SVD", "top_k, no feedback")
_REGULARISED = (("energy, no feedback", "regularised"), ("SOFT", "a tenth of the weight"))
"""What the regulariser does alone, and what less of it does."""
_RUN_S = 45.0


def cells(is_quick: bool) -> list[Cell]:
    """Return what is trained: every selection but those that the grid has settled."""
    chosen = ("energy, no feedback", "random, no feedback", "dense") if is_quick else SELECTIONS
    found = [
        Cell(name, ratio)
        for name in chosen
        if name not in _LEFT_OUT
        for ratio in ((1.0,) if name == "dense" else RATIOS[: 1 if is_quick else None])
    ]
    turned = () if is_quick else _REGULARISED
    return found + [Cell(name, ratio, variant=variant) for name, variant in turned for ratio in RATIOS]


def soft(asked: Asked) -> None:
    """Train every selection, whole seeds one after the other, and draw losses over ratios."""
    quick = {"scheme.num_rounds": 3, "scheme.evaluate_every": 3} if asked.is_quick else {}
    base = load(SCENARIOS / "soft_tsfa_e2e.toml")
    models = {path: value for path, value in asked.changes.items() if path.split(".")[0] == "model"}
    default = {"model.base.path": str(SCENARIOS.parent / "models" / "smollm2-135m")}
    scenario = change(change(base, {**_CHANGES, **default, **quick}), models)
    seeds = range(scenario.seed, scenario.seed + (2 if asked.is_quick else 3))
    rounds = scenario.scheme.num_rounds
    word = f"SmolLM2-135M, domains; {what_it_rests_on(scenario, seeds)}"
    what = Curves(scenario, seeds, asked.is_quick, asked.out, asked.store, word, asked.store_bytes)
    chosen = cells(asked.is_quick)
    found = trainings(what, [cell.method for cell in chosen], _RUN_S / rounds)
    by_cell = {cell: found[cell.method.name] for cell in chosen}
    draw_ratios(by_cell, what, "soft")
    tell_cells(by_cell, what, "soft.csv")


JOBS = (Job("soft", 51 * _RUN_S, 6 * 0.6 * _RUN_S, soft),)
"""Times measured on one core."""
