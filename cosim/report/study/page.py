"""A study as one HTML file."""

from pathlib import Path
from typing import Any

from cosim.files import write_output
from cosim.report.page.document import document

_SCRIPTS = [
    "shared/data.js",
    "shared/theme.js",
    "study/plot.js",
    "study/panels.js",
    "study/main.js",
]


def write_study_page(content: dict[str, Any], path: Path) -> None:
    """Write the page; one that is there is replaced.

    Parameters
    ----------
    content
        As :func:`cosim.report.study.content.study_content` gives it.
    path
        The file.

    Raises
    ------
    RecordError
        If it cannot be written.
    """
    text = document(
        "study/page.html", f"{content['name']}, cosim study", _SCRIPTS, content, ["study/page.css"]
    )
    write_output(path, text.encode(), force=True)
