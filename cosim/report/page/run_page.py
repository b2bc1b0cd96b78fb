"""The page of one run."""

from pathlib import Path

from cosim.files import check_output, write_output
from cosim.record.folder import Record
from cosim.report.air import Air
from cosim.report.page.content import run_content
from cosim.report.page.document import document

_SCRIPTS = [
    "shared/data.js",
    "shared/theme.js",
    *(
        f"run/{name}.js"
        for name in (
            "model",
            "layout",
            "paint",
            "marks",
            "timeline",
            "overview",
            "charts",
            "detail",
            "tables",
            "search",
            "input",
            "main",
        )
    ),
]


def write_page(record: Record, path: Path, *, air: Air | None = None, force: bool = False) -> None:
    """Write the timeline of a run as one HTML file that needs no network.

    Parameters
    ----------
    record
        The run; one that failed is shown as far as it came, and marked.
    path
        The file.
    air
        The air it met, for SNR and link budgets; see :func:`cosim.channel_replay.sound`.
    force
        Replace a file that is there.

    Raises
    ------
    RecordError
        If the run cannot be read, or the file cannot be written or is there already.
    """
    check_output(path, force=force)
    content = run_content(record, air)
    title = f"{content['run']['name']}, cosim timeline"
    write_output(path, document("run/page.html", title, _SCRIPTS, content).encode(), force=force)
