"""Keep ratios in a training: what is decided is sent, the queue follows the clock, the record explains it."""

import re
from collections import defaultdict

import numpy as np
import pytest

from cosim.cli.overview import overview
from cosim.errors import CosimError
from cosim.explain import explain
from cosim.record.folder import Record
from cosim.report.summary import summarise
from cosim.runs import run
from cosim.scenario.build import prepare

LIMIT_S = 3e-4
KINDS = {
    "tsfa": {"kind": "tsfa"},
    "whole subchannels": {"kind": "tsfa", "bandwidth": "subchannels", "curve": "exponential"},
    "by turns": {"kind": "tsfa", "solver": "alternating"},
    "round deadline": {"kind": "round_deadline"},
    "equal bandwidth": {"kind": "equal_bandwidth"},
    "fixed ratio": {"kind": "fixed_ratio"},
}


@pytest.fixture(scope="module")
def scenario(tiny_scenario):
    def make(allocator, changes=None):
        return tiny_scenario(
            {
                "scheme": {
                    "kind": "federated",
                    "num_rounds": 3,
                    "local_steps": 2,
                    "adapter_codec": {"kind": "soft"},
                },
                "lora.rank": 4,
                "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.01},
                "allocator": {"latency_limit_s": LIMIT_S, **allocator},
                **(changes or {}),
            }
        )

    return make


@pytest.fixture(scope="module")
def records(scenario, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: Record.open(run(scenario(allocator), folder / name.replace(" ", "-")))
        for name, allocator in KINDS.items()
    }


def values(record, name):
    return [row["value"] for row in record.metrics.to_pylist() if row["name"] == name]


def latencies(record):
    """Return how long each round lasted, s."""
    ends = {}
    for row in record.spans.to_pylist():
        ends[row["round"]] = max(ends.get(row["round"], 0), row["end_ns"])
    return np.diff([0, *(ends[round_] for round_ in sorted(ends))]) / 1e9


@pytest.mark.parametrize("name", KINDS)
def test_less_than_everything_is_sent_and_no_more_than_was_decided(records, name):
    record = records[name]
    uploads = [row for row in record.spans.to_pylist() if row["name"] == "adapter_upload"]
    dense = max(row["bits"] for row in record.spans.to_pylist() if row["name"] == "adapter_download")
    assert 0 < np.mean([row["bits"] for row in uploads]) < dense
    told = defaultdict(list)
    for one in record.metrics.to_pylist():
        if one["name"] == "sparsification_ratio":
            told[one["round"], one["actor"]].append(one["value"])
    for row in uploads:
        (ratio,) = told[row["round"], row["actor"]]
        assert row["bits"] <= ratio * dense + 200


@pytest.mark.parametrize("name", ["round deadline", "equal bandwidth"])
def test_a_limit_for_every_round_is_kept_by_every_round(records, name):
    assert (latencies(records[name]) <= LIMIT_S + 1e-8).all()


@pytest.mark.parametrize("name", ["tsfa", "by turns", "whole subchannels"])
def test_the_queue_takes_in_the_latency_of_each_round(records, name):
    record = records[name]
    queue = values(record, "queue_s")
    assert len(queue) == 3
    for now, after, latency in zip(queue, queue[1:], latencies(record), strict=False):
        assert after == pytest.approx(max(now + latency - LIMIT_S, 0.0), abs=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_every_upload_is_explained_to_the_nanosecond(records, name):
    record = records[name]
    for number, kind in enumerate(record.spans["kind"].to_pylist()):
        if kind == "transfer":
            found = explain(record, number)
            assert found.expected_end_ns == found.span.end_ns


def test_widths_of_a_split_band_are_recorded_and_fill_the_band(records):
    rows = [row for row in records["tsfa"].grants.to_pylist() if row["link"] == "federated_uplink"]
    last = {row["subchannel"]: row for row in rows}
    parts = [row["bandwidth_hz"] for row in last.values() if row["client"]]
    assert len(parts) == len({row["client"] for row in rows if row["client"]})
    assert sum(parts) == pytest.approx(10e6, rel=1e-9)
    dealt = [row for row in records["whole subchannels"].grants.to_pylist()]
    assert all(row["bandwidth_hz"] is None for row in dealt)


def test_the_same_scenario_makes_the_same_record_again(records, scenario, tmp_path):
    again = Record.open(run(scenario(KINDS["tsfa"]), tmp_path / "again"))
    assert again.manifest["fingerprints"] == records["tsfa"].manifest["fingerprints"]


def test_a_band_that_is_split_cannot_be_reused(scenario):
    with pytest.raises(CosimError, match=r"radio\.access: 'reassign' lends subchannels"):
        prepare(scenario(KINDS["tsfa"], {"radio.access": {"kind": "reassign"}}))
    prepare(scenario(KINDS["whole subchannels"], {"radio.access": {"kind": "reassign"}}))


def test_a_limit_below_the_computing_is_refused_before_anything_is_played(scenario):
    with pytest.raises(
        CosimError, match="cannot be kept: nothing is left for the upload; what is not the upload takes"
    ):
        prepare(scenario({"kind": "tsfa", "latency_limit_s": 1e-5}))


def test_a_codec_that_sends_everything_leaves_nothing_to_decide(scenario):
    with pytest.raises(CosimError, match="leaves nothing out"):
        prepare(scenario(KINDS["tsfa"], {"scheme.adapter_codec": {"kind": "none"}}))


def test_single_numbers_can_be_left_out_too(scenario, tmp_path):
    codec = {"kind": "top_k", "ratio_of": "bits", "scope": "global"}
    record = Record.open(
        run(scenario(KINDS["round deadline"], {"scheme.adapter_codec": codec}), tmp_path / "r")
    )
    assert (latencies(record) <= LIMIT_S + 1e-8).all()
    assert 0.0 < np.mean(values(record, "sparsification_ratio")) < 1.0


@pytest.mark.parametrize("kind", ["ffa", "rolora", "hetlora"])
def test_a_limit_is_kept_whatever_travels_of_a_pair(kind, scenario, tmp_path):
    """What may be left out is that of the round: B alone, A and B by turns, fewer ranks than the model's."""
    codec = {"kind": "top_k", "ratio_of": "bits", "scope": "global", "error_feedback": kind != "rolora"}
    aggregator = {"kind": kind, **({"client_ranks": [2]} if kind == "hetlora" else {})}
    changes = {"scheme.adapter_codec": codec, "scheme.aggregator": aggregator}
    record = Record.open(run(scenario(KINDS["round deadline"], changes), tmp_path / "r"))
    assert (latencies(record) <= LIMIT_S + 1e-8).all()
    ratios = np.array(values(record, "sparsification_ratio")).reshape(3, 3)
    assert ((latencies(record) >= 0.97 * LIMIT_S) | (ratios == 1.0).all(axis=1)).all()
    assert 0.0 < ratios[0].mean() < 1.0


def test_the_codecs_own_ratio_has_no_say(records, scenario, tmp_path):
    changes = {"scheme.adapter_codec": {"kind": "soft", "sparsification_ratio": 1e-6}}
    record = Record.open(run(scenario(KINDS["tsfa"], changes), tmp_path / "r"))
    for name in ("start_ns", "end_ns", "bits"):
        assert record.spans[name].to_pylist() == records["tsfa"].spans[name].to_pylist()


def test_air_that_changes_on_the_way_changes_when_but_not_what_is_sent(records, scenario, tmp_path):
    """The allocator splits the band again at once; payloads that were encoded stay as they are."""

    def uploads(record):
        rows = [one for one in record.spans.to_pylist() if one["name"] == "adapter_upload"]
        return {(one["round"], one["actor"]): one for one in rows}

    before = uploads(records["tsfa"])
    second = [one for (round_, _), one in before.items() if round_ == 2]
    at_s = (max(one["start_ns"] for one in second) + min(one["end_ns"] for one in second)) / 2e9
    event = {"at_s": at_s, "set": {"radio.noise_figure_db": 15.0}}
    after = uploads(Record.open(run(scenario(KINDS["tsfa"], {"events": [event]}), tmp_path / "r")))
    for (round_, actor), one in before.items():
        other = after[round_, actor]
        if round_ <= 2:
            assert (one["bits"], one["node"]) == (other["bits"], other["node"])
        assert (one["end_ns"] == other["end_ns"]) == (round_ == 1)


def test_another_allocator_may_take_over_during_a_run(scenario, tmp_path):
    event = {"at_s": 1.5 * LIMIT_S, "set": {"allocator": {"kind": "equal"}}}
    record = Record.open(run(scenario(KINDS["tsfa"], {"events": [event]}), tmp_path / "r"))
    assert (
        max(row["round"] for row in record.metrics.to_pylist() if row["name"] == "sparsification_ratio") == 2
    )
    tiny = {"kind": "soft", "sparsification_ratio": 1e-6}
    with pytest.raises(CosimError, match="'soft' sends nothing"):
        prepare(scenario(KINDS["tsfa"], {"events": [event], "scheme.adapter_codec": tiny}))


@pytest.mark.parametrize("name", KINDS)
def test_the_summary_knows_limit_latencies_and_ratios(records, name):
    found = summarise(records[name]).latency_limit
    assert found.latency_s == pytest.approx(latencies(records[name]))
    assert (found.limit_s == LIMIT_S).all()
    assert found.sparsification_ratios.ravel() == pytest.approx(values(records[name], "sparsification_ratio"))
    assert (found.queue_s is None) == ("queue_s" not in records[name].metrics["name"].to_pylist())


def test_check_tells_the_limit_and_what_rounds_take_without_it(scenario):
    lines = list(overview(scenario(KINDS["tsfa"])))
    (limit,) = (line for line in lines if line.startswith("  limit"))
    assert re.fullmatch(
        r"  limit +300 us a round; before fading, one takes .* if all is sent and .* us if .*", limit
    )
    assert any(line.endswith("as much of 24.6 kbit as the allocator says, round by round") for line in lines)
    assert any("not cut, LoRA rank 4" in line for line in lines)


def test_a_run_without_values_says_that_it_does_not_know_what_is_worth_sending(scenario, tmp_path, caplog):
    run(scenario(KINDS["equal bandwidth"]), tmp_path / "equal", timing_only=True)
    assert "worth sending" not in caplog.text
    run(scenario(KINDS["tsfa"]), tmp_path / "tsfa", timing_only=True)
    assert "straight line" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("timing_only", [True, False])
def test_over_300_rounds_of_a_run_the_mean_latency_is_the_limit(timing_only, scenario, tmp_path):
    """On the event clock, with energies that shrink as the training goes on, or with none known."""
    long = scenario(KINDS["tsfa"], {"scheme.num_rounds": 300, "scheme.evaluate_every": 300})
    found = summarise(Record.open(run(long, tmp_path / "run", timing_only=timing_only))).latency_limit
    mean_s, first_s, last_s = float(found.latency_s.mean()), found.queue_s[0], found.queue_s[-1]
    assert len(found.rounds) == 300
    assert first_s == pytest.approx(LIMIT_S)  # the warm start
    assert mean_s == pytest.approx(LIMIT_S, rel=0.01)
    assert mean_s <= LIMIT_S + (last_s - first_s) / 300 + 1e-9
    assert mean_s <= LIMIT_S + last_s / 300
