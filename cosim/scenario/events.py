"""Timed changes of a scenario during its run."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from cosim.parts import LONGEST_S, Table


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
    """Settings that change at an instant; who gets what is decided again then.

    Attributes
    ----------
    at_s
        Simulated time, s. An event after the end of the run never happens.
    set
        New values by path: settings of ``radio`` but for its medium, of ``allocator``, and the
        clients' ``max_tx_power_dbm``. Cut layer and rank stay as they are. A table
        without a ``kind`` means the paths in it, and changes nothing else.
    """

    at_s: float = Field(gt=0.0, le=LONGEST_S)
    set: Annotated[dict[str, Any], BeforeValidator(_by_path), AfterValidator(_of_values)] = Field(
        min_length=1
    )
