"""What a page or a figure shows, before any browser: rows, grants, columns, and what is refused."""

import base64
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.channel_replay import replay_channel
from cosim.errors import RecordError
from cosim.record.folder import Record
from cosim.report import publication
from cosim.report.chart import chart
from cosim.report.comparison_figure import write_comparison_figure, write_comparison_figures
from cosim.report.comparison_table import comparison_table
from cosim.report.latex import latex
from cosim.report.page import write_comparison_page, write_page
from cosim.report.page.columns import Columns
from cosim.report.page.content import run_content
from cosim.report.page.document import script_json
from cosim.report.page.rows import Rows
from cosim.report.publication import DOTS_PER_INCH, bands, shares, write_figure
from cosim.report.spans import Spans, length_ns
from cosim.report.stacks import occupancy
from cosim.report.subchannel_grants import SubchannelGrants
from cosim.runs import run

intervals = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    min_size=1,
    max_size=40,
)


@pytest.fixture(scope="module")
def record(tiny_scenario, tmp_path_factory) -> Record:
    scenario = tiny_scenario(
        {
            "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 1e-3},
            "radio.access": {"kind": "reassign"},
            "radio.main_downlink.modelled": True,
        }
    )
    return Record.open(run(scenario, tmp_path_factory.mktemp("content") / "run", timing_only=True))


@given(st.text())
def test_no_text_can_end_a_script_and_all_text_survives(text):
    packed = script_json({"name": text})
    assert "<" not in packed
    assert ">" not in packed
    assert json.loads(packed) == {"name": text}


@given(
    st.lists(st.integers(0, 255)), st.lists(st.floats(allow_nan=False)), st.lists(st.integers(0, 2**32 - 1))
)
def test_columns_come_back_as_they_went_in(small, real, whole):
    columns = Columns()
    columns.add("small", small, "u1")
    columns.add("real", real, "f8")
    columns.add("whole", whole, "u4")
    packed = columns.packed()
    block = gzip.decompress(base64.b64decode(packed["block"]))
    dtypes = {"Uint8Array": "<u1", "Float64Array": "<f8", "Uint32Array": "<u4"}
    for name, values in (("small", small), ("real", real), ("whole", whole)):
        kind, offset, length = packed["places"][name]
        assert offset % 8 == 0
        assert np.frombuffer(block, dtypes[kind], length, offset).tolist() == values


def test_a_column_refuses_what_does_not_fit_into_it():
    columns = Columns()
    with pytest.raises(ValueError, match="does not fit into u1"):
        columns.add("small", [256], "u1")
    columns.add("small", [255], "u1")
    with pytest.raises(ValueError, match="already"):
        columns.add("small", [1], "u1")


def spans_of(pairs: list[tuple[int, int]]) -> Spans:
    """Return spans of one client at these times."""
    count = len(pairs)
    start, end = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    zeros, amounts = np.zeros(count, dtype=np.int64), np.zeros(count)
    return Spans(
        names=("work",),
        actors=("client-0",),
        name=zeros,
        actor=zeros,
        peer=np.full(count, -1),
        is_transfer=np.zeros(count, dtype=np.bool_),
        round=zeros + 1,
        local_step=zeros,
        asked_ns=start,
        start_ns=start,
        end_ns=end,
        bits=amounts,
        flop=amounts,
        energy_j=amounts,
        cause=zeros,
        causes=np.empty(0, dtype=np.int64),
        causes_end=np.zeros(1, dtype=np.int64),
        task=zeros,
        tasks=("",),
        delivered=np.ones(count, dtype=np.bool_),
        resent_bits=np.zeros(count),
        is_superposed=np.zeros(count, dtype=np.bool_),
        participants=np.empty(0, dtype=np.int64),
        participants_end=zeros,
    )


@settings(deadline=None)
@given(intervals)
def test_no_two_spans_of_a_row_overlap_and_every_span_has_one_row(pairs):
    spans = spans_of(pairs)
    rows = Rows.of(spans)
    assert sorted(rows.spans.tolist()) == list(range(len(spans)))
    for first, last in zip(rows.begins[:-1], rows.begins[1:], strict=True):
        mine = rows.spans[first:last]
        assert (spans.start_ns[mine][1:] >= spans.end_ns[mine][:-1]).all()
    at_once = max(sum(start <= time < end for start, end in pairs) for time, _ in pairs)
    assert len(rows.whose) <= max(at_once + sum(start == end for start, end in pairs), 1)


@settings(deadline=None)
@given(intervals)
def test_occupancy_adds_up_to_the_time_of_all_intervals(pairs):
    start, end = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    edges = np.linspace(0.0, 100.0, 12)
    total = (occupancy(start, end, edges) * np.diff(edges)).sum()
    assert total == pytest.approx(float((end - start).sum()))


def test_one_subchannel_is_held_by_one_client_at_a_time(record):
    held = SubchannelGrants.of(record, length_ns(record, Spans.of(record)))
    assert len(held)
    order = np.lexsort((held.start_ns, held.subchannel, held.link))
    same = (np.diff(held.link[order]) == 0) & (np.diff(held.subchannel[order]) == 0)
    assert (held.start_ns[order][1:][same] >= held.end_ns[order][:-1][same]).all()
    assert (held.end_ns > held.start_ns).all()


def test_budgets_of_a_channel_replay_are_those_of_the_explanation(record):
    from cosim.explain import explain
    from cosim.explain.explanations import TransferExplanation

    air = replay_channel(record)
    for index in range(0, len(air.budgets.spans), max(len(air.budgets.spans) // 5, 1)):
        explanation = explain(record, int(air.budgets.spans[index]))
        assert isinstance(explanation, TransferExplanation)
        entries = slice(air.budgets.offsets[index], air.budgets.offsets[index + 1])
        first = explanation.stretches[0]
        assert air.budgets.subchannel[entries].tolist() == first.grant.subchannels.tolist()
        assert air.budgets.rate_bit_per_s[entries].tolist() == pytest.approx(
            [budget.rate_bit_per_s for budget in first.budgets]
        )


def test_snr_is_seen_where_a_subchannel_is_held_and_nowhere_else(record):
    air = replay_channel(record)
    held = SubchannelGrants.of(record, length_ns(record, Spans.of(record)))
    link = air.links[0]
    step = int(link.times_ns[1] - link.times_ns[0])
    mine = held.link == held.links.index(link.name)
    for column in range(0, len(link.times_ns), 7):
        middle = link.times_ns[column] + step // 2
        owned = held.subchannel[mine & (held.start_ns <= middle) & (held.end_ns > middle)]
        assert np.flatnonzero(np.isfinite(link.snr_db[:, column])).tolist() == sorted(set(owned.tolist()))


def test_a_run_is_shown_without_its_air(record):
    content = run_content(record)
    assert content["air"] is None
    assert content["run"]["numSpans"] == record.spans.num_rows


def test_a_file_that_is_there_is_replaced_only_when_told_to(record, tmp_path):
    path = tmp_path / "page.html"
    write_page(record, path)
    first = path.read_bytes()
    for write in (
        lambda: write_page(record, path),
        lambda: write_comparison_page([record, record], path),
    ):
        with pytest.raises(
            RecordError, match="exists already; name another file, or replace it with --force"
        ):
            write()
    write_page(record, path, force=True)
    assert path.read_bytes() == first


def test_a_page_in_no_folder_or_on_a_folder_is_told(record, tmp_path):
    with pytest.raises(RecordError, match="cannot be written"):
        write_page(record, tmp_path / "nowhere" / "page.html")
    with pytest.raises(RecordError, match="is a folder"):
        write_page(record, tmp_path, force=True)


def test_a_page_names_nothing_to_fetch(record, tmp_path):
    path = tmp_path / "page.html"
    write_page(record, path)
    text = path.read_text()
    assert "default-src 'none'" in text
    for outside in ('src="http', 'href="http', "@import", "url(http"):
        assert outside not in text


@pytest.mark.parametrize(("name", "begin"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")])
def test_a_figure_is_of_the_kind_its_name_says_and_the_same_each_time(record, tmp_path, name, begin):
    path = tmp_path / name
    write_figure(record, path, first_round=1, last_round=1)
    first = path.read_bytes()
    assert first.startswith(begin)
    assert b"/Type3" not in first  # publishers refuse such fonts
    write_figure(record, path, first_round=1, last_round=1, force=True)
    assert path.read_bytes() == first


def test_a_png_has_the_dots_of_print(record, tmp_path, monkeypatch):
    monkeypatch.setattr(publication, "DOTS_PER_INCH", DOTS_PER_INCH)  # conftest has fewer
    write_figure(record, tmp_path / "a.png", first_round=1, last_round=1)
    width = int.from_bytes((tmp_path / "a.png").read_bytes()[16:20], "big")  # first in a PNG's header
    assert width == pytest.approx(600 * publication.WIDTHS_IN["column"], abs=1)


def test_a_figure_of_another_kind_or_of_other_rounds_is_refused(record, tmp_path):
    with pytest.raises(RecordError, match=r"a figure is a \.png, a \.pdf or a \.svg"):
        write_figure(record, tmp_path / "a.jpg")
    with pytest.raises(RecordError, match="has no rounds 9 to 9"):
        write_figure(record, tmp_path / "a.png", first_round=9)
    with pytest.raises(RecordError, match="has no rounds 9 to 9"):
        write_comparison_figure([record, record], tmp_path / "a.png", first_round=9)
    with pytest.raises(RecordError, match="at least two runs, got 1"):
        write_comparison_figure([record], tmp_path / "a.png")


def test_shares_of_a_band_add_up_to_what_was_held_while_the_lanes_go_on(record):
    shown = chart(record, 1, 1)
    held = SubchannelGrants.of(record, shown.length_ns)
    edges = np.linspace(shown.from_ns, shown.to_ns, 7)
    for band in bands(record, shown):
        mine = held.link == held.links.index(band.link)
        end = np.minimum(held.end_ns[mine], shown.to_ns)
        start = np.maximum(held.start_ns[mine], shown.from_ns)
        area = int(np.maximum(end - start, 0).sum())
        for owners in ((0, 1, 2), (1, -1)):
            assert (shares(band, owners, edges) * np.diff(edges)).sum() == pytest.approx(area)


def test_a_comparison_is_drawn_for_print(record, tmp_path):
    figures = write_comparison_figures([record, record], tmp_path)
    assert [one.name for one in figures] == ["activity.pdf", "activity.svg", "delay.pdf", "delay.svg"]
    first = [one.read_bytes() for one in figures]
    assert first[1].startswith(b"<?xml")
    assert b"/Type3" not in first[0]
    table = latex(comparison_table([record, record]))
    assert "simulated time, s & $" in table
    assert table.count("$ $[") == 2  # a round has an interval in each run


def test_all_scripts_of_the_pages_are_in_the_package():
    from importlib.resources import files

    from cosim.report.page import comparison_page, run_page

    assets = files("cosim.report.page") / "assets"
    for script in (*run_page._SCRIPTS, *comparison_page._SCRIPTS):
        lines = (assets / script).read_text().splitlines()
        assert len(lines) < 400, f"{script} has {len(lines)} lines"
    assert "MIT" in (Path(str(assets)) / "vendor" / "uPlot-LICENSE").read_text()
