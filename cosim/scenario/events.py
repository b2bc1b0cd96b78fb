"""Timed changes: what a scenario becomes at given instants of its run."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from cosim.errors import ScenarioError
from cosim.parts import LONGEST_S, Table

if TYPE_CHECKING:
    from cosim.scenario.settings import Scenario


def _by_path(given: Any) -> Any:
    """Spell nested tables out: TOML reads a path without quotes as tables within tables."""
    if not isinstance(given, dict):
        return given
    spelt: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, dict) and value and "kind" not in value:
            spelt |= {f"{name}.{path}": inner for path, inner in _by_path(value).items()}
        else:
            spelt[name] = value
    return spelt


def _of_values(given: dict[str, Any]) -> dict[str, Any]:
    """Refuse settings without a value: the file of the run could not say so, and would mean another run."""
    for path, value in given.items():
        if _has_none(value):
            raise ValueError(f"{path} is left out, which an event cannot do; give it a value")
    return given


def _has_none(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return value is None or any(map(_has_none, inner))


class TimedChange(Table):
    """Settings that change at an instant; who gets what is decided anew then.

    Attributes
    ----------
    at_s
        Simulated time, s. An event after the end of the run never happens.
    set
        New values by path: settings of ``radio`` but for its medium, of ``allocator``, and the
        clients' ``max_tx_power_dbm``. Cut layer and rank stay as they are. A table
        without a ``kind`` stands for the paths in it, and changes nothing else.
    """

    at_s: float = Field(gt=0.0, le=LONGEST_S)
    set: Annotated[dict[str, Any], BeforeValidator(_by_path), AfterValidator(_of_values)] = Field(
        min_length=1
    )


def becomes(scenario: "Scenario") -> list[tuple[float, "Scenario"]]:
    """Return what the scenario is from each event on, in the order of time, s.

    Raises
    ------
    ScenarioError
        If an event changes what cannot change during a run, or makes a fault.
    """
    from cosim.scenario.load import change

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
