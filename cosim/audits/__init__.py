"""Audits: a comparison played with its assumptions turned one by one, and what is left of its conclusions."""

from collections.abc import Mapping
from typing import Any

PUBLISHED = "as published"
"""The case of each alternative in which no assumption is turned."""

TOGETHER = "all together"
"""The case in which all assumptions are turned that go together."""


def is_audit(given: Mapping[str, Any]) -> bool:
    """Return whether what a TOML file has is an audit rather than a study or a scenario.

    Examples
    --------
    >>> is_audit({"base": "x.toml", "alternatives": []}), is_audit({"base": "x.toml"})
    (True, False)
    """
    return "alternatives" in given
