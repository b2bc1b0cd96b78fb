"""What tables with another kind kept and lost, for the command line."""

from collections.abc import Mapping
from typing import Any

from cosim.leaves import named
from cosim.scenario.differences import event_switches, switches
from cosim.scenario.settings import Scenario


def switched(
    scenario: Scenario, before: Scenario | None = None, changes: Mapping[str, Any] | None = None
) -> list[str]:
    """Return a line for each table that was given, or got another kind, by changes or during a run."""
    told, given = [], changes or {}
    if before is not None:
        tables = [path for path, value in given.items() if isinstance(value, Mapping) and "kind" in value]
        told = [str(one) for one in switches(before, scenario, named(given), tables)]
    return [*told, *(f"at {at_s:g} s, {one}" for at_s, one in event_switches(scenario))]
