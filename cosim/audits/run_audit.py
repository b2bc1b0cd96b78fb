"""An audit in, its findings out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cosim.audits.plan import AuditPlan
from cosim.audits.verdict import findings
from cosim.files import write_output
from cosim.studies.run_study import Tally, run_study

SUMMARY = "audit.json"


def run_audit(
    planned: AuditPlan,
    folder: Path,
    *,
    workers: int | None = None,
    store: Path | None = None,
    keep_values: bool = True,
    watch: Callable[[Tally], None] = lambda tally: None,
) -> dict[str, Any]:
    """Make every run that is not there yet as a study does, and return what they say.

    The folder is a study's, with :data:`SUMMARY` in it. Parameters and errors as for
    :func:`cosim.studies.run_study.run_study`.
    """
    results = run_study(
        planned.plan, folder, workers=workers, store=store, keep_values=keep_values, watch=watch
    )
    found = findings(planned, results)
    write_output(folder / SUMMARY, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode(), force=True)
    return found


def default_folder(planned: AuditPlan) -> Path:
    """Return the folder an audit has if none is named."""
    return Path("audits") / planned.audit.name
