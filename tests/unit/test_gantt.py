"""The timeline as a picture: what it shows, and that it can be drawn."""

import numpy as np
import pytest

from cosim.errors import RecordError
from cosim.record.folder import Record
from cosim.report.gantt import chart, draw
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


@pytest.mark.parametrize("rounds", [(None, None), (1, 2)])
def test_a_chart_is_drawn_as_a_png(record, rounds, tmp_path):
    draw(chart(record, *rounds), tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_fifty_clients_fit_in_a_picture(tiny_scenario, tmp_path):
    many = tiny_scenario(
        {
            "clients.count": 50,
            "data.source.num_train": 60,
            "allocator.kind": "time_shared",
            "scheme.num_rounds": 1,
        }
    )
    shown = chart(Record.open(run(many, tmp_path / "run", timing_only=True)))
    draw(shown, tmp_path / "timeline.png")
    assert len(shown.lanes) == 52
    assert (tmp_path / "timeline.png").stat().st_size > 10_000
