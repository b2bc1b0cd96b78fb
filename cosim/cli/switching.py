"""What tables with another kind kept and lost, for the command line."""

from collections.abc import Mapping
from typing import Any

from cosim.leaves import named
from cosim.scenario.differences import event_switches, switches
from cosim.scenario.settings import Scenario


def switched(
    scenario: Scenario, before: Scenario | None = None, changes: Mapping[str, Any] | None = None
) -> list[str]:
    """Return a line for each table that got another kind, by changes of a scenario or during its run."""
    told = [] if before is None else [str(one) for one in switches(before, scenario, named(changes or {}))]
    return [*told, *(f"at {at_s:g} s, {one}" for at_s, one in event_switches(scenario))]
