"""Runs whose allocator knows the channel imperfectly: decisions, pilots on the timeline, outages."""

import numpy as np
import pytest

from cosim.cli.overview import overview
from cosim.errors import ScenarioError
from cosim.explain import explain
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare
from cosim.units import NS_PER_S

AIR = {
    "scheme": {"kind": "federated", "num_rounds": 3, "local_steps": 1},
    "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.01},
    "allocator": {"kind": "equal", "reallocate": "every_round"},
    "radio.federated_downlink.modelled": True,
}
CHARGED = {
    "kind": "chain",
    "steps": [{"kind": "delayed"}, {"kind": "estimated", "num_pilots": 8}, {"kind": "quantised"}],
}
ALMOST_PERFECT = {
    "kind": "chain",
    "steps": [
        {"kind": "delayed", "delay_s": 0.0},
        {"kind": "estimated", "num_pilots": 10**9, "pilot_s": 0.0},
        {"kind": "quantised", "bits": 32, "lowest_snr_db": -100.0, "highest_snr_db": 150.0},
    ],
}


def spans(world):
    """Return the spans of a run as rows."""
    log = world.log.spans
    log.settle()
    columns = ("name", "actor", "peer", "round", "start_ns", "end_ns", "bits", "energy_j", "kind")
    return [
        {column: getattr(log, column)[row] for column in columns}
        | {"resent_bits": log.extras[row].resent_bits if row in log.extras else 0}
        | {"delivered": row not in log.extras or log.extras[row].delivered}
        for row in range(len(log))
    ]


@pytest.mark.parametrize("kind", ["equal", "random", "fedsllm", "fedsllm_2024"])
def test_knowing_almost_everything_leads_to_the_same_decisions(kind, tiny_scenario):
    shared = {"allocator.kind": kind, "radio.fading": AIR["radio.fading"]}
    perfect, almost = (
        prepare(tiny_scenario({**shared, "radio.csi": csi})).allocation
        for csi in ({"kind": "perfect"}, ALMOST_PERFECT)
    )
    assert (perfect.cut, perfect.lora_rank) == (almost.cut, almost.lora_rank)
    for link, grants in perfect.grants.items():
        for one, other in zip(grants, almost.grants[link], strict=True):
            np.testing.assert_array_equal(one.subchannels, other.subchannels)
            np.testing.assert_allclose(one.tx_power_w, other.tx_power_w, rtol=1e-3)


def test_a_decision_by_wrong_knowledge_is_carried_at_the_rate_of_the_true_channel(tiny_scenario, play):
    timelines = [
        [(one["start_ns"], one["end_ns"]) for one in spans(play(tiny_scenario({**AIR, "radio.csi": csi})))]
        for csi in ({"kind": "perfect"}, {"kind": "delayed"})
    ]
    assert timelines[0] == timelines[1]  # equal shares do not look at gains, and delays cost nothing


@pytest.mark.parametrize("scheme", ["federated", "asynchronous", "split_federated", "sequential_split"])
def test_pilots_and_reports_take_the_air_and_energy_ahead_of_every_decision(scheme, tiny_scenario, play):
    air = {**AIR, "radio.csi": CHARGED, "scheme": {"kind": scheme, "num_rounds": 3, "local_steps": 1}}
    scenario = tiny_scenario(air)
    found = spans(play(scenario))
    for server in {one["peer"] for one in found if one["name"] == "pilots" and one["peer"]}:
        pilots = [one for one in found if one["name"] == "pilots" and one["peer"] == server]
        reports = [one for one in found if one["name"] == "csi_report" and one["peer"] == server]
        assert len(pilots) % 3 == 0
        assert len(pilots) >= 3 * (3 if scheme != "asynchronous" else 1)
        power_w = pilots[0]["energy_j"] / (pilots[0]["end_ns"] - pilots[0]["start_ns"])
        for one in (*pilots, *reports):
            lasts_ns = one["end_ns"] - one["start_ns"]
            assert one["energy_j"] == pytest.approx(power_w * lasts_ns)
            assert lasts_ns == (8 * 71_350 if one["name"] == "pilots" else one["bits"] * 1000)
    soundings = [one for one in found if one["name"] in ("pilots", "csi_report")]
    others = [one for one in found if one["kind"] == "transfer" and one not in soundings]
    paused = 0
    for one in others:
        inside = [
            sounding
            for sounding in soundings
            if one["start_ns"] < sounding["end_ns"] and sounding["start_ns"] < one["end_ns"]
        ]
        paused += bool(inside)
        # what is in flight does not end, nor begin, within one
        for sounding in inside:
            assert one["start_ns"] <= sounding["start_ns"]
            assert sounding["end_ns"] <= one["end_ns"]
    assert not paused or scheme == "asynchronous"


@pytest.mark.parametrize("attempts", [1, 4])
def test_rates_by_what_is_known_fail_when_the_channel_carries_less(attempts, tiny_scenario, play):
    csi = {"kind": "estimated", "num_pilots": 1, "pilot_s": 0.0}
    medium = {"kind": "fluid", "rate": "known", "attempts": attempts}
    scheme = {"kind": "federated", "num_rounds": 12, "local_steps": 1}
    uploads = [
        one
        for one in spans(
            play(tiny_scenario({**AIR, "scheme": scheme, "radio.csi": csi, "radio.medium": medium}))
        )
        if one["name"] == "adapter_upload"
    ]
    lost = sum(not one["delivered"] for one in uploads)
    assert 0 < lost < len(uploads) or attempts > 1
    assert any(one["resent_bits"] for one in uploads) == (attempts > 1)
    for one in uploads:
        num_sent = 1 + one["resent_bits"] // one["bits"]
        assert one["resent_bits"] % one["bits"] == 0
        assert num_sent == attempts or one["delivered"]


def test_what_is_known_perfectly_and_does_not_change_is_never_lost(tiny_scenario, play):
    still = {"radio.fading": {"kind": "none"}, "radio.medium": {"kind": "fluid", "rate": "known"}}
    fixed = spans(play(tiny_scenario({**AIR, **still})))
    adapted = spans(play(tiny_scenario({**AIR, "radio.fading": {"kind": "none"}})))
    assert any(
        "rate: what is known of the channel" in line for line in overview(tiny_scenario({**AIR, **still}))
    )
    assert all(one["delivered"] for one in fixed)
    for one, other in zip(fixed, adapted, strict=True):
        assert abs(one["end_ns"] - other["end_ns"]) <= 1e-9 * NS_PER_S


def test_a_change_of_the_air_is_sounded_before_it_is_decided_on(tiny_scenario, play):
    event = {"at_s": 0.0005, "set": {"radio.noise_figure_db": 12.0}}
    once = {"radio.csi": CHARGED, "allocator.reallocate": "once", "events": [event]}
    found = spans(play(tiny_scenario({**AIR, **once})))
    assert sum(one["name"] == "pilots" and one["actor"].startswith("client") for one in found) in (3, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"radio.surface": {"kind": "reflecting", "num_elements": 2}, "radio.csi.kind": "delayed"},
            r"radio\.csi: gains are known through the surface",
        ),
        (
            {"radio.csi": {"kind": "estimated", "pilot_s": 0.01}, "allocator.reallocate": "every_block"},
            r"radio\.csi: pilots and reports of federated_uplink take 0\.12 s ahead of each decision",
        ),
        (
            {"radio.medium": {"kind": "slotted"}, "radio.csi": CHARGED},
            "radio.csi: the medium 'slotted' has slots of its own and knows of no pilots",
        ),
        (
            {"radio.medium": {"kind": "slotted"}, "radio.duplex.kind": "tdd"},
            "radio.duplex: the medium 'slotted' has slots of its own",
        ),
        (
            {"radio.medium": {"kind": "fluid", "rate": "known"}, "scheme.kind": "split_federated"},
            "may lose what is sent over main_uplink",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message, tiny_scenario):
    with pytest.raises(ScenarioError, match=message):
        prepare(tiny_scenario({**AIR, **changes}))


def test_a_check_says_how_the_channel_is_known(tiny_scenario):
    notes = prepare(tiny_scenario({**AIR, "radio.csi": CHARGED})).notes
    assert any("gains are known 0.01 s late, estimated from 8 pilot(s)" in one for one in notes)


def test_senders_of_a_sum_know_what_their_pilots_say_and_are_charged_for_them(tiny_scenario, tmp_path):
    summed = {**AIR, "radio.medium": {"kind": "over_the_air"}, "radio.federated_downlink.modelled": False}
    free, told = (
        Record.open(
            run(tiny_scenario({**summed, "radio.csi": csi}), tmp_path / csi["kind"], timing_only=True)
        )
        for csi in ({"kind": "perfect"}, CHARGED)
    )
    for one in told.spans.to_pylist():
        assert one["name"] not in ("pilots", "csi_report")
        assert explain(told, one["id"]).expected_end_ns == one["end_ns"]
    lasts_ns = [
        [
            one["end_ns"] - one["start_ns"]
            for one in record.spans.to_pylist()
            if one["name"] == "adapter_upload"
        ]
        for record in (free, told)
    ]
    assert all(after > before for before, after in zip(*lasts_ns, strict=True))
    weights = [
        [row["value"] for row in record.metrics.to_pylist() if row["name"] == "air_weight"]
        for record in (free, told)
    ]
    assert len(weights[0]) == len(weights[1]) > 0
    assert weights[0] != weights[1]


def test_decisions_by_an_assumed_rate_are_shannons_and_transfers_last_as_the_air_has_it(tiny_scenario, play):
    still = {"allocator.kind": "fedsllm", "scheme.num_rounds": 1, "scheme.local_steps": 1}
    constant = {"kind": "constant_bandwidth", "spectral_efficiency_bit_per_s_per_hz": 6.0}
    assumed = {**still, "radio.rate": constant, "radio.assumed_rate": {"kind": "shannon"}}
    ideal, world = (play(tiny_scenario(one)) for one in (still, assumed))
    for link, grants in world.decisions.current.grants.items():
        for one, other in zip(grants, ideal.decisions.current.grants[link], strict=True):
            np.testing.assert_array_equal(one.tx_power_w, other.tx_power_w)
    grants, radio = world.decisions.current.grants["main_uplink"], tiny_scenario(assumed).radio
    sent = [one for one in spans(world) if one["name"] == "activation_upload"]
    assert sent
    for one in sent:
        width_hz = np.array(radio.main_uplink.widths_hz)[grants[int(one["actor"][-1])].subchannels].sum()
        lasts_s = (one["end_ns"] - one["start_ns"]) / NS_PER_S
        assert lasts_s == pytest.approx(one["bits"] / (6.0 * width_hz), abs=2e-9)
    assert any(note.endswith("nothing is predicted.") for note in radio.notes)


def test_powers_are_those_of_the_cap_where_the_allocator_knows_of_it(tiny_scenario, play):
    cap = 2.0
    capped = {"kind": "truncated_shannon", "max_bit_per_s_per_hz": cap}
    scenario = tiny_scenario({"allocator.kind": "fedsllm", "scheme.num_rounds": 1, "radio.rate": capped})
    world = play(scenario)
    free = play(tiny_scenario({"allocator.kind": "fedsllm", "scheme.num_rounds": 1}))
    watts = [
        sum(grant.tx_power_w.sum() for grant in one.decisions.current.grants["main_uplink"])
        for one in (world, free)
    ]
    assert watts[0] < watts[1]
    channel = world.decisions.channel
    for client, grant in enumerate(world.decisions.current.grants["main_uplink"]):
        snr = channel.gain_at("main_uplink", 0)[client, grant.subchannels] * grant.tx_power_w
        snr /= channel.noise_psd_w_per_hz * np.array(scenario.radio.main_uplink.widths_hz)[grant.subchannels]
        assert (np.log2(1.0 + snr) <= cap * (1.0 + 1e-9)).all()
