"""What a round is worth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from cosim.control.learned import Form
from cosim.envs.cells import Outcome
from cosim.errors import ScenarioError
from cosim.leaves import leaves
from cosim.record.folder import Record
from cosim.scenario.load import to_dict
from cosim.scenario.settings import Scenario
from cosim.units import Floats

Name: TypeAlias = Literal["round_time", "energy", "time_to_loss"]

REWARDS: dict[str, Callable[[Outcome], Floats]] = {
    "round_time": lambda outcome: -outcome.round_s,
    "energy": lambda outcome: -outcome.energy_j,
    "time_to_loss": lambda outcome: -outcome.round_s,
}
"""By name, the reward of a round: minus its length, s, or its energy, J."""

_FREE = ("radio.", "allocator.", "name", "description")


def last_round(
    scenario: Scenario, form: Form, reward: str, record: Path | str | None, level: float | None
) -> int:
    """Return the round in which an episode ends: the scenario's last, or that which reaches a loss.

    Raises
    ------
    ScenarioError
        If there is no such reward, or a loss is asked for without a recorded training, of another one, or
        with actions on which the training depends.
    """
    if reward not in REWARDS:
        raise ScenarioError(f"reward: {reward!r} is none; take {', '.join(map(repr, REWARDS))}.")
    if reward != "time_to_loss":
        return scenario.scheme.num_rounds
    if record is None or level is None:
        raise ScenarioError(
            "reward: 'time_to_loss' needs learned values; give record, the folder of a run of this scenario "
            "with its training, and level, the held-out loss to reach."
        )
    if form.sets:
        raise ScenarioError(
            f"sets: {form.sets[0]!r} changes what is learned, and the record knows one training; leave sets "
            "empty for the reward 'time_to_loss'."
        )
    found = Record.open(Path(record))
    _refuse_other(scenario, found)
    metrics = found.metrics.to_pylist()
    values = [(one["round"], one["value"]) for one in metrics if one["name"] == "eval_loss"]
    if not values:
        raise ScenarioError(
            f"record: {record} was only timed and has no losses; run the scenario with training."
        )
    reached = [round_ for round_, value in values if value <= level and round_ > 0]
    if not reached:
        least = min(value for _, value in values)
        raise ScenarioError(
            f"level: the loss {level:g} is never reached in {record}; its least is {least:.4g}."
        )
    return int(np.min(reached))


def _refuse_other(scenario: Scenario, record: Record) -> None:
    """Refuse the record of a run that learned something else."""
    from cosim.runs import scenario_of

    own, its = _values(scenario), _values(scenario_of(record))
    for name in sorted(own.keys() | its.keys()):
        if own.get(name) != its.get(name):
            raise ScenarioError(
                f"record: {record.path} has another {name} than the scenario; give a run that differs in "
                "radio and allocator alone."
            )


def _values(scenario: Scenario) -> dict[str, Any]:
    return {name: one for name, one in leaves(to_dict(scenario)) if not name.startswith(_FREE)}
