"""What clients report to a controller, what it sends them, and what came of its decisions."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

REPORT = "report"
"""Name of the spans that carry reports."""

ASSIGNMENT = "assignment"
"""Name of the spans that tell clients what was decided for them."""

REPORT_BITS = 64
"""What a report of one scalar, or of the two numbers of a fitted curve, is charged."""


LOSS_REPORT_BITS = 32
"""What the loss is charged that a server weighs a client by."""


class Report(NamedTuple):
    """A scalar each client that takes part sends once it has trained.

    Attributes
    ----------
    name
        What it is, of what the scheme can report: ``loss`` (mean of its local steps), ``delay``
        (seconds from the beginning of the round to the end of its training), or ``energies`` (what
        it would lose without each rank pair, which travel as a fitted curve).
    bits
        What it is charged.
    is_awaited
        Whether the controller is asked as soon as it has arrived from all, before anything else
        is sent; else it goes ahead of the upload, and is known at the next decision.
    """

    name: str
    bits: int = REPORT_BITS
    is_awaited: bool = False


Reported: TypeAlias = Mapping[str, tuple[Any, ...]]
"""What has arrived, by the name of the report, client by client; None of a client that sent nothing."""


class Outcome(NamedTuple):
    """What came of the last decision for one client, of what it sent itself.

    Attributes
    ----------
    airtime_s, bits, energy_j
        Time on the air and energy since then, and the bits that have arrived.
    delivered
        Whether nothing of it was lost, or is still on its way.
    """

    airtime_s: float = 0.0
    bits: int = 0
    delivered: bool = True
    energy_j: float = 0.0
