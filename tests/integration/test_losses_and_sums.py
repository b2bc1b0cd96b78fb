"""Federated training over media that lose or add: what arrives decides what is learned, and is in keys."""

from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
import pytest

from cosim.errors import ScenarioError
from cosim.explain import explain
from cosim.learning.operations.superpose import superpose
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import check, prepare
from cosim.scenario.load import change, load

FEDERATED = {"kind": "federated", "num_rounds": 3, "local_steps": 1}
AIR = {"kind": "over_the_air", "max_rms": 1.0, "truncation_db": -400.0}
FIXED = {"kind": "fluid", "rate": "fixed", "fixed_spectral_efficiency_bit_per_s_per_hz": 3.0}
FADING = {"kind": "rayleigh_block", "coherence_time_s": 0.004, "selectivity": "flat"}
NEAR = {"kind": "given", "positions_m": [[60.0, 0.0], [0.0, 60.0], [-60.0, 0.0]]}
FAR = {"kind": "given", "positions_m": [[60.0, 0.0], [0.0, 9e3], [-60.0, 0.0]]}
STILL = {"radio.shadowing": {"kind": "none"}, "radio.fading": {"kind": "none"}}


@pytest.fixture(scope="module")
def played(tiny_scenario, tmp_path_factory):
    def record(changes, timing_only=False):
        scenario = tiny_scenario({"scheme": FEDERATED, **changes})
        folder = tmp_path_factory.mktemp("runs") / "run"
        return Record.open(run(scenario, folder, timing_only=timing_only))

    return record


def metric(record, name):
    table = record.metrics.to_pylist()
    return [row["value"] for row in table if row["name"] == name]


def spans(record, name):
    return [row for row in record.spans.to_pylist() if row["name"] == name]


@pytest.fixture(scope="module")
def digital(played):
    return played(STILL)


def test_with_infinite_snr_and_equal_weights_the_air_is_the_digital_average(played, digital):
    quiet = {**STILL, "radio.noise_psd_dbm_per_hz": -400.0, "radio.placement": NEAR, "radio.medium": AIR}
    summed = played(quiet)
    assert max(metric(summed, "air_noise_std")) < 1e-12
    assert metric(summed, "num_delivered") == [3.0] * 3
    assert metric(summed, "eval_loss") == pytest.approx(metric(digital, "eval_loss"), rel=2e-6)
    assert [one["round"] for one in spans(summed, "adapter_upload")] == [1, 2, 3]


def test_noise_and_weights_are_in_the_keys_of_what_is_computed(played):
    loud = {**STILL, "radio.placement": NEAR, "radio.medium": AIR, "scheme.num_rounds": 1}
    records = [played({**loud, "radio.noise_figure_db": db}) for db in (9.0, 9.0, 30.0)]
    first, again, louder = ([one["work"] for one in spans(each, "aggregate")] for each in records)
    assert first == again
    assert first != louder
    assert metric(records[2], "air_noise_std")[0] > metric(records[0], "air_noise_std")[0]


def radiated_j(record):
    (upload,) = spans(record, "adapter_upload")
    assert upload["energy_j"] == pytest.approx(sum(metric(record, "tx_energy_j")))
    return np.array(metric(record, "tx_energy_j"))


def test_energy_is_what_values_radiate_and_without_values_the_most_there_can_be(played):
    air = {**STILL, "radio.placement": NEAR, "scheme.num_rounds": 1}

    def radiated(max_rms, **options):
        return radiated_j(played({**air, "radio.medium": {**AIR, "max_rms": max_rms}}, **options))

    most = radiated(1.0, timing_only=True)
    np.testing.assert_array_equal(most, radiated(1e-9, timing_only=True))
    clipped, small, smaller = radiated(1e-9), radiated(1.0), radiated(2.0)
    filled = clipped / most
    assert (filled > 0.5).all()
    assert (filled <= 1.0).all()
    np.testing.assert_allclose(filled, filled[0])
    assert (small < 1e-2 * clipped).all()
    np.testing.assert_allclose(smaller, small / 4.0, rtol=1e-9)


@pytest.mark.parametrize(("unit", "selectivity"), [("symbol", "flat"), ("subchannel", "subchannel")])
def test_who_is_silent_in_parts_of_a_sum_is_heard_in_the_others(unit, selectivity, played):
    medium = {**AIR, "truncation": unit, "truncation_db": -2.0, "max_rms": 1e-3}
    fading = {"kind": "rayleigh_block", "coherence_time_s": 1e-4, "selectivity": selectivity}
    record = played({**STILL, "radio.placement": NEAR, "radio.medium": medium, "radio.fading": fading})
    weights = np.array(metric(record, "air_weight"))
    assert len(weights) == sum(metric(record, "num_delivered")) > 3.0
    assert ((weights > 0.0) & (weights < 1.0)).all()
    assert np.isfinite(metric(record, "eval_loss")).all()


def test_an_upload_that_is_lost_is_as_if_its_sender_had_not_taken_part(played):
    lost = played({**STILL, "radio.placement": FAR, "radio.medium": FIXED})
    assert metric(lost, "num_delivered") == [2.0] * 3
    near = played({**STILL, "radio.placement": NEAR, "radio.medium": FIXED})
    assert metric(near, "num_delivered") == [3.0] * 3
    aggregates = [[one["work"] for one in spans(each, "aggregate")] for each in (lost, near)]
    assert not set(aggregates[0]) & set(aggregates[1])
    # with a fixed rate the channel decides what arrives, not when
    times = [
        [(one["start_ns"], one["end_ns"]) for one in spans(each, "adapter_upload")] for each in (lost, near)
    ]
    assert times[0] == times[1]


def test_if_all_uploads_are_lost_the_global_adapter_stays(played):
    lost = played({**STILL, "radio.medium": {**FIXED, "fixed_spectral_efficiency_bit_per_s_per_hz": 99.0}})
    assert metric(lost, "num_delivered") == [0.0] * 3
    assert len(set(metric(lost, "eval_loss"))) == 1


def test_a_fixed_rate_takes_bits_over_width_times_efficiency(played):
    record = played({"radio.medium": FIXED, "radio.fading": FADING}, timing_only=True)
    grants = [one for one in record.grants.to_pylist() if one["link"] == "federated_uplink"]
    for one in spans(record, "adapter_upload"):
        width_hz = 5e5 * sum(grant["client"] == one["actor"] for grant in grants)
        assert one["end_ns"] - one["start_ns"] == ceil(
            Fraction(one["bits"]) / Fraction(3.0 * width_hz) * 10**9
        )
        assert explain(record, one["id"]).expected_end_ns == one["end_ns"]


def test_a_sum_is_scaled_down_noisy_and_reproducible():
    import torch

    begin = {"a": torch.ones(40, 50), "b": torch.zeros(3)}
    sender = {"a": begin["a"] + 0.1, "b": begin["b"] + 0.1}
    told = {"weights": [0.25, 0.75], "noise_std": 0.02, "max_rms": 0.05, "seed": 7}
    one, other = (superpose.body(None, told, begin, sender, sender)["adapter"] for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in begin)
    change = (one["a"] - begin["a"]).numpy()
    assert change.mean() == pytest.approx(0.05, abs=3e-3)
    assert change.std() == pytest.approx(0.02, rel=0.1)
    quiet = superpose.body(None, {**told, "seed": None, "max_rms": 1.0}, begin, sender, sender)["adapter"]
    np.testing.assert_allclose(quiet["a"].numpy(), sender["a"].numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"scheme.aggregator": {"kind": "flora"}},
            "scheme.aggregator: 'flora' needs the update of each client",
        ),
        (
            {"allocator.kind": "time_shared"},
            "allocator.kind: 'time_shared' lets clients send in turn, each with all the power",
        ),
        (
            {"scheme.adapter_codec": {"kind": "top_k"}},
            "scheme.adapter_codec: 'top_k' encodes the update of each",
        ),
        (
            {"scheme.aggregator": {"kind": "hetlora", "weighting": "data", "client_ranks": [2, 4]}},
            "scheme.aggregator.client_ranks: ranks differ, and the medium 'over_the_air' sums",
        ),
        (
            {"scheme": {"kind": "split_federated"}},
            "the scheme 'split_federated' needs what each of them sends",
        ),
        (
            {"scheme": {"kind": "split_federated"}, "radio.medium": FIXED},
            "'fluid' as it is set may lose what is sent over main_uplink",
        ),
        ({"radio.medium": {**AIR, "subcarrier_spacing_hz": 1e7}}, "no subcarrier of 1e\\+07 Hz fits"),
        (
            {"radio.medium": {**AIR, "truncation_db": 0.0}, "radio.fading": {"kind": "nakagami", "m": 0.5}},
            "truncation_db 0 silences everybody: under the fading 'nakagami' the gains of a client on feder",
        ),
        (
            {"radio.surface": {"kind": "reflecting", "num_elements": 4}},
            "radio.surface: the estimation of 'reflecting' takes a share of all rates, and a sum over",
        ),
    ],
    ids=["aggregator", "allocator", "codec", "ranks", "scheme", "losses", "numerology", "silence", "surface"],
)
def test_what_a_medium_cannot_carry_is_one_clear_line(changes, message, tiny_scenario):
    scenario = tiny_scenario({"scheme": FEDERATED, "radio.medium": AIR, **changes})
    (line,) = check(scenario)
    assert line.startswith(("scheme.", "radio.", "allocator."))
    assert "\n" not in line
    with pytest.raises(ScenarioError, match=message):
        prepare(scenario)


@pytest.mark.parametrize(
    "medium",
    [
        {"kind": "fluid", "rate": "fixed"},
        {"kind": "fluid", "fixed_spectral_efficiency_bit_per_s_per_hz": 2.0},
    ],
)
def test_a_fixed_rate_and_its_efficiency_go_together(medium, tiny_scenario):
    with pytest.raises(ScenarioError, match="give both rate = 'fixed' and the efficiency, or neither"):
        tiny_scenario({"scheme": FEDERATED, "radio.medium": medium})


@pytest.mark.parametrize(
    ("medium", "message"),
    [
        ({"timing_error_s": 2e-6}, "timing_error_s 2e-06 does not fit into cyclic_prefix_s 4.6875e-06 three"),
        ({"frequency_error_hz": 400.0}, "frequency_error_hz 400 is more than 2 % of subcarrier_spacing_hz"),
    ],
)
def test_what_is_off_by_more_than_a_phase_is_refused(medium, message, tiny_scenario):
    with pytest.raises(ScenarioError, match=message):
        tiny_scenario({"scheme": FEDERATED, "radio.medium": {**AIR, **medium}})


def test_what_is_off_is_told(tiny_scenario):
    def notes(**medium):
        scenario = tiny_scenario({"scheme": FEDERATED, "radio.medium": {**AIR, **medium}})
        return "".join(prepare(scenario).notes)

    assert "senders over the air are perfectly synchronised" in notes()
    assert "off by 1e-06 s and 50 Hz" in notes(timing_error_s=1e-6, frequency_error_hz=50.0)


def test_a_medium_cannot_change_during_a_run(tiny_scenario):
    event = {"at_s": 0.01, "set": {"radio.medium.max_rms": 0.5}}
    scenario = tiny_scenario({"scheme": FEDERATED, "radio.medium": AIR, "events": [event]})
    (line,) = check(scenario)
    assert "radio.medium.max_rms cannot change during a run" in line


def test_a_link_that_the_radio_does_not_describe_is_one_clear_line(tiny_scenario, monkeypatch):
    from cosim.radio.link import Link
    from cosim.schemes.federated import Federated

    monkeypatch.setattr(Federated, "links", (*Federated.links, Link("sidelink", "up", "client-0")))
    (line,) = check(tiny_scenario({"scheme": FEDERATED}))
    assert line.startswith(
        "scheme.kind: 'federated' sends over the link 'sidelink', and [radio] describes main_up"
    )


def test_the_scenario_that_comes_along_loads_and_plays_briefly(tmp_path):
    scenario = load(Path(__file__).parents[2] / "scenarios" / "over_the_air.toml")
    record = Record.open(run(change(scenario, {"scheme.num_rounds": 1}), tmp_path / "run", timing_only=True))
    (upload,) = spans(record, "adapter_upload")
    assert len(upload["participants"]) == 6
    explained = explain(record, upload["id"])
    assert explained.is_summed
    assert explained.expected_end_ns == upload["end_ns"]
    assert "max_rms" in "".join(prepare(scenario).notes)
