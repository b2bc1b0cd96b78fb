"""What a run takes for granted of its air, as its scenario has it."""

import tomllib
from collections.abc import Sequence
from typing import Any

from cosim.record.folder import Record

_PARTS = ("path_loss", "shadowing", "fading", "rate", "medium")


def air_of(record: Record, links: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the kinds of a run's channel, and which of the links it used are free.

    A link that is free takes no time and no energy; ``links`` are those used. Nothing is known where
    the scenario cannot be read.
    """
    try:
        radio: dict[str, Any] = tomllib.loads(record.scenario_path.read_text(encoding="utf-8"))["radio"]
    except (OSError, ValueError, KeyError):
        return (), ()
    kinds = [(name.replace("_", " "), radio.get(name, {}).get("kind", "")) for name in _PARTS]
    free = tuple(one for one in links if not radio.get(one, {}).get("modelled", True))
    return tuple(f"{name} {kind}" for name, kind in kinds if kind), free
