"""The report of a study: a page and a figure of one folder."""

from pathlib import Path


def write_report(folder: Path) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.png`` into a study folder; what is there is replaced.

    Parameters
    ----------
    folder
        Of a study that has results, complete or not.

    Returns
    -------
    tuple
        The page, which needs no network, and the figure for print.

    Raises
    ------
    RecordError
        If the folder is no study, has no results yet, or cannot be read or written.
    """
    from cosim.report.study.content import study_content
    from cosim.report.study.figure import write_study_figure
    from cosim.report.study.page import write_study_page
    from cosim.report.study.record import StudyRecord

    content = study_content(StudyRecord.open(folder))
    page, figure = folder / "report.html", folder / "report.png"
    write_study_page(content, page)
    write_study_figure(content, figure)
    return page, figure
