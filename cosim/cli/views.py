"""The views of runs: files they are written to, and tables on the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosim.errors import RecordError
from cosim.files import check_outputs, output_faults
from cosim.record.folder import Record


def write_views(
    record: Record,
    png: Path | None,
    pdf: Path | None,
    html: Path | None,
    perfetto: Path | None,
    first_round: int | None,
    last_round: int | None,
    *,
    force: bool,
) -> None:
    """Write the views that were asked for; nothing is written if one of them would replace a file."""
    from cosim.channel_replay import replay_channel
    from cosim.report.short import is_shown_short

    check_outputs((png, pdf, html, perfetto), force=force)
    if record.is_short and png is not None:
        from cosim.report.short_views import write_short_picture

        write_short_picture(record, png, first_round, last_round, force=force)
        png = None
    if html is not None and is_shown_short(record):
        from cosim.report.short_views import write_short_page

        write_short_page(record, html, first_round, last_round, force=force)
        html = None
    if png is not None:
        from cosim.report.chart import chart
        from cosim.report.gantt import draw

        draw(chart(record, first_round, last_round), png, force=force)
    if pdf is not None:
        from cosim.report.publication import write_figure

        write_figure(record, pdf, first_round=first_round, last_round=last_round, force=force)
    if html is None and perfetto is None:
        return
    air = replay_channel(record)
    if html is not None:
        from cosim.report.page.run_page import write_page

        write_page(record, html, air=air, force=force)
    if perfetto is not None:
        from cosim.report.perfetto import write_trace

        write_trace(record, perfetto, air=air, force=force)


def show_time(record: Record, first_round: int | None, last_round: int | None) -> None:
    """Print a small lane chart, what the critical path went into, and what would shorten it."""
    from cosim.report import lanes, time_spent
    from cosim.report.attribution import attribute
    from cosim.report.chart import chart
    from cosim.report.forecast import savings
    from cosim.report.spans import Spans
    from cosim.report.terminal import on_stdout

    if record.is_short:
        from cosim.report.short_rounds import show_rounds

        show_rounds(record, first_round, last_round, on_stdout())
        return
    spans, console = Spans.of(record), on_stdout()
    if not len(spans):
        return
    time_spent.show(attribute(record, spans), savings(spans), console)
    lanes.show(chart(record, first_round, last_round), console)


def write_comparison(records: Sequence[Record], png: Path | None, html: Path | None, *, force: bool) -> None:
    """Write the views of several runs that were asked for; none if one could not be written."""
    if len(records) < 2:
        raise RecordError("compare: takes two runs or more; name another one.")
    check_outputs((png, html), force=force)
    if png is not None:
        from cosim.report.comparison_figure import write_comparison_figure

        write_comparison_figure(records, png, force=force)
    if html is not None:
        from cosim.report.page.comparison_page import write_comparison_page

        write_comparison_page(records, html, force=force)


def write_figures(records: Sequence[Record], folder: Path, *, force: bool) -> list[Path]:
    """Write several runs as figures and a table for a paper, into a folder; return the files."""
    from cosim.report.comparison_figure import write_comparison_figures
    from cosim.report.comparison_table import comparison_table
    from cosim.report.latex import write_tables

    make_folder(folder)
    tables = write_tables({"runs": comparison_table(records)}, folder, force=force)
    return [*write_comparison_figures(records, folder, force=force), *tables]


def make_folder(folder: Path) -> None:
    """Make a folder that was asked for, if it is not there.

    Raises
    ------
    RecordError
        If it cannot be made.
    """
    with output_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)


def summary_told(folder: Path) -> dict[str, Any]:
    """Return what a run came to, for JSON."""
    from cosim.report.summary import summarise

    return {"summary": summarise(Record.open(folder))}


def time_told(record: Record) -> dict[str, Any]:
    """Return what a run came to and where its time went, for JSON; rounds in short where it has no spans."""
    from cosim.report.attribution import attribute
    from cosim.report.summary import summarise

    if record.is_short:
        tables = {name: record.columns(name).to_pylist() for name in ("phases", "outliers")}
        return {"summary": summarise(record), **tables}
    found = attribute(record)
    went = {"length_ns": found.length_ns, "by_phase": found.by_phase(), "by_actor": found.by_actor()}
    return {"summary": summarise(record), "critical_path_ns": went}


def comparison_told(records: Sequence[Record]) -> dict[str, Any]:
    """Return what changed from the first run to each of the others, for JSON."""
    from cosim.report.comparison import compare_all

    compared = compare_all(records)
    others = [
        {
            "folder": str(record.path),
            "summary": one.after,
            "settings": {path: list(both) for path, both in one.settings.items()},
            "parts_at_ns": one.divergence.time_ns if one.divergence is not None else None,
            "rounds_learned_differently": one.other_rounds,
            "computed": one.computed,
            "recalled": one.recalled,
        }
        for record, one in zip(records[1:], compared, strict=True)
    ]
    return {"first": compared[0].before, "others": others}


def show_comparison(records: Sequence[Record], labels: Sequence[str]) -> None:
    """Print several runs side by side."""
    from cosim.report.comparison import compare_all
    from cosim.report.side_by_side import show_all
    from cosim.report.terminal import on_stdout

    show_all(compare_all(records), labels, on_stdout())
