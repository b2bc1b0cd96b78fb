"""Studies: one scenario under many conditions, with replications, and what can be concluded from them."""

from collections.abc import Mapping
from typing import Any


def is_study(given: Mapping[str, Any]) -> bool:
    """Return whether what a TOML file has is a study rather than a scenario.

    Examples
    --------
    >>> is_study({"base": "quickstart.toml"}), is_study({"radio": {}})
    (True, False)
    """
    return "base" in given or "vary" in given
