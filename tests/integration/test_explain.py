"""The explanation of a span agrees with the record, to the nanosecond."""

from fractions import Fraction

import numpy as np
import pytest

from cosim.errors import RecordError
from cosim.explain import explain
from cosim.explain.explanations import ComputeExplanation, TransferExplanation
from cosim.record.folder import Record
from cosim.runs import run
from cosim.units import NS_PER_S

COUNTED = {"radio.main_downlink.modelled": True, "radio.federated_downlink.modelled": True}
AIRS = {
    "static": {},
    "block fading": {"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 1e-4}},
    "in turn": {"allocator.kind": "time_shared"},
    "reassigned in flight": {"radio.access": {"kind": "reassign"}, "scheme.server_batch": "per_client"},
    "reassigned and fading": {
        "radio.access": {"kind": "reassign"},
        "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 1e-4},
    },
    "constant bandwidth": {"radio.rate": {"kind": "constant_bandwidth", "rate_bit_per_s": 3e6}},
    "random shares": {"allocator.kind": "random"},
    "another noise from an instant on": {
        "events": [{"at_s": 0.004, "set": {"radio.noise_figure_db": 25.0}}],
    },
    "another allocator and fading from an instant on": {
        "events": [
            {"at_s": 0.003, "set": {"allocator": {"kind": "random"}}},
            {
                "at_s": 0.006,
                "set": {"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 1e-4}},
            },
        ],
    },
}


@pytest.fixture(scope="module")
def records(tiny_scenario, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    found = {}

    def record(air):
        if air not in found:
            scenario = tiny_scenario({**COUNTED, **AIRS[air]})
            found[air] = Record.open(run(scenario, folder / air.replace(" ", "-"), timing_only=True))
        return found[air]

    return record


def transfers(record):
    kinds = record.spans["kind"].to_pylist()
    found = [explain(record, number) for number, kind in enumerate(kinds) if kind == "transfer"]
    assert all(isinstance(one, TransferExplanation) for one in found)
    return found


@pytest.mark.parametrize("air", AIRS)
def test_what_is_expected_is_what_was_measured(air, records):
    record = records(air)
    for number in range(record.spans.num_rows):
        one = explain(record, number)
        assert one.expected_end_ns == one.span.end_ns


def test_rate_times_airtime_is_the_payload_on_a_static_channel(records):
    for one in transfers(records("static")):
        (stretch,) = one.stretches
        rate = Fraction(float(stretch.rates_bit_per_s[0]))
        drained = rate * one.span.duration_ns / NS_PER_S
        assert drained - rate / NS_PER_S < int(one.span.bits) <= drained


@pytest.mark.parametrize("air", ["block fading", "constant bandwidth", "random shares", "in turn"])
def test_the_terms_of_a_budget_lead_from_distance_to_rate(air, records):
    for one in transfers(records(air)):
        for stretch in one.stretches:
            for budget in stretch.budgets:
                gain_db = (
                    budget.antenna_gain_db - budget.path_loss_db - budget.shadowing_db + budget.fading_db
                )
                assert budget.gain_db == pytest.approx(gain_db)
                assert budget.received_power_dbm == pytest.approx(budget.tx_power_dbm + gain_db)
                assert budget.snr_db == pytest.approx(budget.received_power_dbm - budget.noise_power_dbm)
            rates = [budget.rate_bit_per_s for budget in stretch.budgets]
            assert sum(rates) == pytest.approx(float(stretch.rates_bit_per_s[0]))


def test_a_transfer_over_block_fading_tells_every_block_it_crossed(records):
    crossed = []
    for one in transfers(records("block fading")):
        (stretch,) = one.stretches
        first, last = one.span.start_ns // stretch.block_ns, (one.span.end_ns - 1) // stretch.block_ns
        assert len(stretch.rates_bit_per_s) == last - first + 1
        crossed.append(len(stretch.rates_bit_per_s))
    assert max(crossed) > 1


def test_subchannels_reassigned_in_flight_are_stretches_that_follow_each_other(records):
    found = [one for one in transfers(records("reassigned in flight")) if len(one.stretches) > 1]
    assert found
    for one in found:
        edges = [one.span.start_ns, *(stretch.end_ns for stretch in one.stretches)]
        assert edges[-1] == one.span.end_ns
        assert [stretch.start_ns for stretch in one.stretches] == edges[:-1]


def test_a_change_of_the_air_in_flight_begins_a_new_part(records):
    found = [one for one in transfers(records("another noise from an instant on")) if len(one.stretches) > 1]
    assert found
    for one in found:
        before, after = one.stretches
        assert after.start_ns == 4_000_000
        assert after.rates_bit_per_s[0] < before.rates_bit_per_s[0]


@pytest.mark.parametrize("air", ["static", "in turn", "reassigned in flight"])
def test_power_times_airtime_is_the_energy_of_a_transfer(air, records):
    for one in transfers(records(air)):
        spent = sum(
            stretch.grant.total_tx_power_w * (stretch.end_ns - stretch.start_ns) / NS_PER_S
            for stretch in one.stretches
        )
        assert one.span.energy_j == pytest.approx(spent)


def test_a_free_link_takes_no_time_and_needs_no_grant(tiny_scenario, tmp_path):
    record = Record.open(run(tiny_scenario(), tmp_path / "run", timing_only=True))
    names = record.spans["name"].to_pylist()
    one = explain(record, names.index("gradient_download"))
    assert (one.is_modelled, one.stretches) == (False, ())
    assert one.expected_end_ns == one.span.start_ns == one.span.end_ns


def test_a_computation_is_explained_by_its_device_and_its_parents(records):
    record = records("static")
    names = record.spans["name"].to_pylist()
    one = explain(record, names.index("server_forward_backward"))
    assert isinstance(one, ComputeExplanation)
    assert one.device.name == "main-server"
    assert {parent.name for parent in one.parents} == {"activation_upload"}
    assert max(parent.end_ns for parent in one.parents) == one.span.asked_ns
    cycles = one.span.flop / one.device.flop_per_cycle
    assert one.span.energy_j == pytest.approx(one.device.energy_coefficient * one.device.clock_hz**2 * cycles)


@pytest.mark.parametrize("number", [-1, 10**6])
def test_a_span_that_is_not_there_is_refused(number, records):
    record = records("static")
    with pytest.raises(RecordError, match=f"has no span {number}; it has spans 0 to"):
        explain(record, number)


def test_the_grants_of_a_span_are_those_on_record(records):
    record = records("static")
    grants = record.grants.to_pandas()
    for one in transfers(record):
        (stretch,) = one.stretches
        client = one.span.actor if one.link.endswith("uplink") else one.span.peer
        mine = grants[(grants.link == one.link) & (grants.client == client)].sort_values("subchannel")
        assert np.array_equal(stretch.grant.subchannels, mine.subchannel)
        assert np.array_equal(stretch.grant.tx_power_w, mine.tx_power_w)
        gains_db = [budget.gain_db for budget in stretch.budgets]
        assert np.allclose(gains_db, 10.0 * np.log10(mine.gain))
