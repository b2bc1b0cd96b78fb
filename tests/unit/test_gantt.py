"""The timeline as a picture: what it shows, and that it can be drawn."""

from itertools import combinations

import numpy as np
import pytest

from cosim.errors import RecordError
from cosim.record.folder import Record
from cosim.report.chart import chart
from cosim.report.gantt import crowded_rows, draw, legend_handles
from cosim.report.publication import write_figure
from cosim.report.span_style import _LOOKS, OWNER_COLOURS, grey_of, span_style
from cosim.runs import run


@pytest.fixture(scope="module")
def record(tiny_scenario, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return Record.open(run(tiny_scenario({"radio.main_downlink.modelled": True}), folder, timing_only=True))


def test_the_first_round_is_shown_if_none_is_named(record):
    shown = chart(record)
    assert [label for label, _ in shown.rounds] == ["round 1"]
    assert shown.from_ns == 0
    assert shown.title == "tiny, round 1 of 2"


def test_there_is_a_lane_for_each_client_and_server(record):
    lanes = [lane.actor for lane in chart(record).lanes]
    assert lanes == ["client-0", "client-1", "client-2", "federated-server", "main-server"]


def test_every_span_of_the_rounds_is_in_exactly_one_lane(record):
    shown = chart(record, 1, 2)
    drawn = sum(len(bars.start_ns) for lane in shown.lanes for bars in lane.bars)
    assert drawn == record.spans.num_rows
    assert {bars.name for lane in shown.lanes for bars in lane.bars} == set(shown.names)


def test_a_client_lane_holds_what_it_computes_sends_and_receives(record):
    lane = chart(record).lanes[0]
    kinds = {bars.name: bars.is_transfer for bars in lane.bars}
    assert kinds == {
        "client_forward": False,
        "activation_upload": True,
        "gradient_download": True,
        "client_backward": False,
        "adapter_upload": True,
        "adapter_download": True,
    }


def test_bars_lie_within_the_time_shown_and_have_no_negative_length(record):
    shown = chart(record, 2, 2)
    for lane in shown.lanes:
        for bars in lane.bars:
            assert (bars.asked_ns >= shown.from_ns).all()
            assert (bars.asked_ns <= bars.start_ns).all()
            assert (bars.start_ns <= bars.end_ns).all()
            assert (bars.end_ns <= shown.to_ns).all()


def test_rounds_that_are_not_there_are_told_with_those_that_are(record):
    with pytest.raises(RecordError, match="has no rounds 7 to 9; it has rounds 1 to 2"):
        chart(record, 7, 9)


def test_losses_of_clients_at_one_instant_are_averaged(tiny_scenario, tmp_path):
    real = Record.open(run(tiny_scenario(), tmp_path / "run"))
    times, values = chart(real).losses["train_loss", ""]
    metrics = real.metrics.to_pandas()
    losses = metrics[metrics.name == "train_loss"].groupby("time_ns").value.mean()
    assert times.tolist() == losses.index.tolist()
    assert np.allclose(values, losses.to_numpy())
    assert len(chart(real).losses["eval_loss", ""][0]) == 3


def test_lanes_with_more_spans_than_can_be_told_apart_are_shares(record):
    shown = chart(record, 1, 2)
    assert not crowded_rows(shown, 11.0)
    assert crowded_rows(shown, 0.1)
    assert [one.get_label() for one in legend_handles(shown, 0.1)][-2:] == [
        "waiting",
        "stacked: shares of time",
    ]


def test_phases_differ_without_colour_and_no_client_looks_like_a_phase():
    names = [*_LOOKS, "sensing", "probing"]
    styles = {span_style(name, name in ("sensing", "probing"), names) for name in names}
    for one, other in combinations(styles, 2):
        assert one.hatch != other.hatch or abs(grey_of(one.colour) - grey_of(other.colour)) >= 35.0
    assert not {style.colour for style in styles} & set(OWNER_COLOURS)


@pytest.mark.parametrize("rounds", [(None, None), (1, 2)])
def test_a_chart_is_drawn_as_a_png(record, rounds, tmp_path):
    draw(chart(record, *rounds), tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_fifty_clients_fit_in_a_picture_and_of_more_some_are_shown(tiny_scenario, tmp_path, monkeypatch):
    many = tiny_scenario(
        {
            "clients.count": 50,
            "data.source.num_train": 60,
            "allocator.kind": "time_shared",
            "scheme.num_rounds": 1,
        }
    )
    record = Record.open(run(many, tmp_path / "run", timing_only=True))
    shown = chart(record)
    draw(shown, tmp_path / "timeline.png")
    assert len(shown.lanes) == 52
    assert (tmp_path / "timeline.png").stat().st_size > 10_000
    monkeypatch.setattr("cosim.report.chart.MOST_CLIENTS", 20)
    some = chart(record)
    notes = [lane.note for lane in some.lanes]
    assert notes == [*["busiest"] * 5, "90 %", "75 %", "median", "25 %", "least busy", "", ""]
    busy = [sum((bars.end_ns - bars.start_ns).sum() for bars in lane.bars) for lane in some.lanes[:-2]]
    assert busy == sorted(busy, reverse=True)
    assert some.num_clients == 50
    assert sum(len(part.start_ns) for part in some.crowd) == sum(
        len(bars.start_ns) for lane in shown.lanes[:50] for bars in lane.bars
    )
    write_figure(record, tmp_path / "timeline.pdf")
    assert (tmp_path / "timeline.pdf").read_bytes().startswith(b"%PDF")
