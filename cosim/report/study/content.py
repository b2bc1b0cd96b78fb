"""All that a report of a study shows, as plain values: what the page and the figure both draw."""

import math
from typing import Any

from cosim.report.study.convergence import convergence
from cosim.report.study.credibility import credibility
from cosim.report.study.factors import cells_of, level_told
from cosim.report.study.findings import findings
from cosim.report.study.front import fronts
from cosim.report.study.record import StudyRecord
from cosim.report.study.unlike import unvaried_lines


def study_content(record: StudyRecord) -> dict[str, Any]:
    """Return what the report shows, ready for JSON: what is not finite is None.

    Raises
    ------
    RecordError
        If a table of the study cannot be read.
    """
    measures = [findings(record, measure) for measure in record.measures]
    design = "grid" if cells_of(record.factors) is not None else "list"
    content: dict[str, Any] = finite(
        {
            "name": str(record.manifest.get("name", record.path.resolve().name)),
            "description": " ".join(str(record.settings.get("description", "")).split()),
            "unvaried": unvaried_lines(record.manifest),
            "design": "ranges" if record.is_sampled else design,
            "confidence": record.confidence,
            "cases": [
                {
                    "name": name,
                    "label": label,
                    "baseline": record.baselines[row],
                    "levels": [int(one.level[row]) for one in record.factors],
                }
                for row, (name, label) in enumerate(zip(record.cases, record.labels, strict=True))
            ],
            "factors": [
                {
                    "paths": list(one.paths),
                    "label": one.label,
                    "unit": one.unit,
                    "numeric": one.numeric,
                    "log": one.log,
                    "values": list(one.values) if one.numeric else [],
                    "levels": list(one.level_labels),
                }
                for one in record.factors
            ],
            "measures": measures,
            "against": _against(record),
            "fronts": fronts(record, measures),
            "convergence": convergence(record),
            **credibility(record, measures),
        }
    )
    return content


def _against(record: StudyRecord) -> str:
    """Return what cases are compared with, in a word or two; empty where no case is compared."""
    pairs = [(case, base) for case, base in enumerate(record.baselines) if base is not None]
    if not pairs:
        return ""
    if len({base for _, base in pairs}) == 1:
        return record.labels[pairs[0][1]]
    moved = [one for one in record.factors if any(one.level[case] != one.level[base] for case, base in pairs)]
    levels = [{int(one.level[base]) for _, base in pairs} for one in moved]
    if all(len(one) == 1 for one in levels):
        return ", ".join(level_told(factor, one.pop()) for factor, one in zip(moved, levels, strict=True))
    return "its baseline"


def finite(value: Any) -> Any:
    """Return plain values with None in the place of every number that is not finite.

    Examples
    --------
    >>> finite({"a": [1.0, float("nan")], "b": "x"})
    {'a': [1.0, None], 'b': 'x'}
    """
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
