"""The report of an audit: tables, a figure and a page, all from its findings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_report(found: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """Write ``audit.html``, ``audit.png``, ``audit.pdf`` and two tables; what is there is replaced.

    Parameters
    ----------
    found
        As ``audit.json`` has it.
    folder
        Where they go.

    Raises
    ------
    RecordError
        If a file cannot be written.
    """
    from cosim.report.audit.figure import audit_figure
    from cosim.report.audit.page import write_audit_page
    from cosim.report.audit.tables import write_tables
    from cosim.report.publication import save

    figure = audit_figure(found)
    page, png, pdf = (folder / f"audit.{kind}" for kind in ("html", "png", "pdf"))
    save(figure, png, "png", force=True)
    save(figure, pdf, "pdf", force=True)
    write_audit_page(found, png, page)
    return page, png, pdf, *write_tables(found, folder)
