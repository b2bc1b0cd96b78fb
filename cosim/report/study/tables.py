"""The numbers of a study as LaTeX tables."""

from typing import Any

from cosim.report.latex import Table, measured
from cosim.report.study.labels import axis_label


def study_tables(content: dict[str, Any]) -> dict[str, Table]:
    """Return the tables of a study by name: ``means``, and ``differences`` where cases are compared.

    ``content`` is as :func:`cosim.report.study.content.study_content` gives it.
    """
    level = f"{100 * content['confidence']:g} %"
    measures = content["measures"]
    heads = ["case", *(axis_label(one["label"], one["shownUnit"]) for one in measures)]
    cases = list(enumerate(content["cases"]))
    numbers = sorted({row["n"] for one in measures for row in one["cases"]})
    over = " to ".join(str(one) for one in dict.fromkeys((numbers[0], numbers[-1]))) if numbers else "0"
    tables = {
        "means": Table(
            heads,
            [
                [case["label"], *(_cell(one, at, "mean", "low", "high") for one in measures)]
                for at, case in cases
            ],
            f"Means over {over} replications, with {level} intervals.",
        )
    }
    compared = [(at, case) for at, case in cases if case["baseline"] is not None]
    if compared:
        ends = ("difference", "difference_low", "difference_high")
        tables["differences"] = Table(
            heads,
            [[case["label"], *(_cell(one, at, *ends) for one in measures)] for at, case in compared],
            f"Paired differences to {content['against']}, with {level} intervals.",
        )
    return tables


def _cell(measure: dict[str, Any], case: int, *ends: str) -> str:
    values = [measure["cases"][case][one] for one in ends]
    return measured(*(None if one is None else one / measure["scale"] for one in values))
