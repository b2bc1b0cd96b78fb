"""The report of a study: a page and a figure of one folder, and the figures and tables of a paper."""

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


def write_paper(study: Path, folder: Path, *, force: bool = False) -> list[Path]:
    """Write each panel of a study as PDF and SVG, and its numbers as LaTeX tables; return the files.

    ``means.tex`` has each case's mean with its interval, ``differences.tex`` the paired differences
    to the baselines, where cases are compared.

    Parameters
    ----------
    study
        The study's folder.
    folder
        Where the files go.
    force
        Replace files that are there.

    Raises
    ------
    RecordError
        As :func:`write_report`, or if a file is there and ``force`` is not set.
    """
    from cosim.report.figures import write_panels
    from cosim.report.latex import write_tables
    from cosim.report.study.content import study_content
    from cosim.report.study.figure import panels_of
    from cosim.report.study.record import StudyRecord
    from cosim.report.study.tables import study_tables

    content = study_content(StudyRecord.open(study))
    figures = write_panels(panels_of(content), folder, force=force)
    return [*figures, *write_tables(study_tables(content), folder, force=force)]
