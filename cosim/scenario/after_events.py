"""What a scenario becomes at the instants of its events."""

from cosim.errors import ScenarioError
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario


def becomes(scenario: Scenario) -> list[tuple[float, Scenario]]:
    """Return what the scenario is from each event on, in the order of time, s.

    Raises
    ------
    ScenarioError
        If an event changes what cannot change during a run, or makes a fault.
    """
    stages: list[tuple[float, Scenario]] = []
    now = scenario
    for number, event in sorted(enumerate(scenario.events), key=lambda pair: pair[1].at_s):
        for path in event.set:
            if not _may_change(path):
                raise ScenarioError(
                    f"events.{number}.set: {path} cannot change during a run; settings of radio "
                    "(but its medium) and allocator can, and clients.max_tx_power_dbm."
                )
        now = change(now, event.set, source=f"events.{number}.set")
        stages.append((event.at_s, now))
    return stages


def _may_change(path: str) -> bool:
    room, _, setting = path.partition(".")
    if room == "radio" and setting.partition(".")[0] == "medium":
        return False
    return room in ("radio", "allocator") or (room == "clients" and setting.endswith("max_tx_power_dbm"))
