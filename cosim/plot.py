"""Runs and studies as matplotlib axes, to be put beside your own: ``cosim.plot.timeline(run)``.

Each function draws on the axes it is given, or on new ones, and returns them.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from cosim.errors import RecordError
from cosim.record.folder import Record
from cosim.report import gantt
from cosim.report.attribution import attribute
from cosim.report.chart import chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cosim.studies.results import Results


def timeline(
    run: Record | str | Path,
    *,
    rounds: int | tuple[int, int] | None = None,
    legend: bool = True,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw who did what when: a lane for each client and server.

    Parameters
    ----------
    run
        A run, or its folder.
    rounds
        One round, or the first and the last; the first round without it.
    legend
        Whether to name the colours, above the axes.

    Raises
    ------
    RecordError
        If the run cannot be read, or has no such round.
    """
    first, last = (rounds, rounds) if rounds is None or isinstance(rounds, int) else rounds
    record = _record(run)
    shown = chart(record, first, last)
    axes = ax or _axes(9.0, 0.9 + 0.34 * min(len(shown.lanes), 20))
    gantt.draw_lanes(axes, shown)
    if legend:
        axes.legend(
            handles=gantt.legend_handles(shown, gantt.width_in_of(axes)),
            loc="lower left",
            bbox_to_anchor=(0.0, 1.02),
            ncols=3,
            frameon=False,
            fontsize=8,
        )
    return axes


def loss(run: Record | str | Path, *, ax: "Axes | None" = None) -> "Axes":
    """Draw training and held-out loss, nats, over simulated time.

    Raises
    ------
    RecordError
        If the run cannot be read, or nothing was learned in it.
    """
    record = _record(run)
    shown = chart(record)
    if not shown.losses:
        raise RecordError(f"{record.path}: has no losses to draw; it was run for its timing only.")
    axes = ax or _axes(6.0, 3.2)
    gantt.draw_losses(axes, shown, marks_window=False)
    return axes


def attribution(run: Record | str | Path, *, by: str = "phase", ax: "Axes | None" = None) -> "Axes":
    """Draw where the time of the critical path went, as bars in percent of the run.

    Parameters
    ----------
    by
        ``phase``, with queueing and waiting, or ``actor``.

    Raises
    ------
    ValueError
        If ``by`` is something else.
    RecordError
        If the run cannot be read.
    """
    found = attribute(_record(run))
    if by not in ("phase", "actor"):
        raise ValueError(f"by: must be 'phase' or 'actor', got {by!r}")
    times = found.by_phase() if by == "phase" else found.by_actor()
    axes = ax or _axes(6.0, 0.8 + 0.28 * len(times))
    names = [name.replace("_", " ") or "nobody" for name in times]
    axes.barh(
        names, [100.0 * time_ns / max(found.length_ns, 1) for time_ns in times.values()], color="#0072B2"
    )
    axes.invert_yaxis()
    axes.set_xlabel("critical path, % of the run")
    return axes


def study(results: "Results | str | Path", panel: str | None = None, *, ax: "Axes | None" = None) -> "Axes":
    """Draw one panel of a study's report.

    Parameters
    ----------
    results
        A study, or its folder.
    panel
        Its title, such as ``total delay`` or ``convergence``; the first without it.

    Raises
    ------
    RecordError
        If the study cannot be read, or has no such panel; the panels it has are named.
    """
    from cosim.report.study.content import study_content
    from cosim.report.study.figure import panels_of
    from cosim.report.study.record import StudyRecord

    path = Path(results) if isinstance(results, str | Path) else results.path
    panels = {
        title: (height, draw) for height, title, draw in panels_of(study_content(StudyRecord.open(path)))
    }
    if not panels:
        raise RecordError(f"{path}: there is nothing to draw; every measure is the same in all cases.")
    title = next(iter(panels)) if panel is None else panel
    if title not in panels:
        raise RecordError(f"{path}: has no panel {title!r}; it has {', '.join(map(repr, panels))}.")
    height_in, draw = panels[title]
    axes = ax or _axes(5.0, 1.4 * height_in)
    axes.set_title(title, loc="left")
    draw(axes)
    return axes


def _record(run: Record | str | Path) -> Record:
    from cosim.interface import record_of

    return record_of(run)


def _axes(width_in: float, height_in: float) -> "Axes":
    from matplotlib import pyplot

    axes: Axes = pyplot.subplots(figsize=(width_in, height_in), layout="constrained")[1]
    return axes
