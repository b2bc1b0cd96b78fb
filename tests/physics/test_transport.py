"""Transport: its means are closed forms, it is on record, and without it nothing is other than before."""

from statistics import fmean

import numpy as np
import pytest

from cosim.explain import explain
from cosim.radio.transport import Transport
from cosim.record.folder import Record
from cosim.rng import stream
from cosim.runs import run
from cosim.scenario.build import check, prepare
from cosim.units import NS_PER_S

FEDERATED = {"scheme": {"kind": "federated", "num_rounds": 1, "local_steps": 1}}
BITS, PACKET = 1_000_000, 12_000


@pytest.mark.parametrize("num_receivers", [1, 4])
def test_as_much_is_sent_again_as_is_lost_on_average(num_receivers):
    lossy = Transport(loss=0.3, latency_s=0.02, overhead_bits=560, packet_bits=PACKET)
    journeys = [lossy.journey(BITS, stream(5, number), num_receivers) for number in range(1000)]
    expected = lossy.model_copy(update={"retransmissions": "expected"})
    mean = expected.journey(BITS, stream(0), num_receivers)
    for which in ("resent_bits", "delay_ns"):
        drawn = np.array([getattr(one, which) for one in journeys], dtype=float)
        assert abs(drawn.mean() - getattr(mean, which)) < 5.0 * drawn.std() / np.sqrt(len(drawn))
    if num_receivers == 1:
        assert BITS + 560 + mean.resent_bits == round((BITS + 560) / (1.0 - 0.3))


def test_a_transfer_takes_its_bits_over_what_arrives_of_them_and_the_latency(tiny_scenario, play):
    given = {"loss": 0.2, "latency_s": 0.03, "retransmissions": "expected", "retransmission_timeout_s": 0.0}
    (plain, slow) = (
        play(tiny_scenario({**FEDERATED, **more}))
        for more in ({}, {"radio.federated_uplink.transport": given})
    )
    (before, after) = (uploads(world) for world in (plain, slow))
    assert len(before) == len(after) == 3
    latencies = [at for at, name in enumerate(slow.log.spans.name) if name == "latency"]
    assert len(latencies) == 3
    for (bits, first_ns, _), (again, then_ns, resent) in zip(before, after, strict=True):
        assert bits == again
        assert bits + resent == round(bits / 0.8)
        assert then_ns == pytest.approx(
            first_ns / 0.8, abs=2.0 + first_ns / bits
        )  # whole bits and nanoseconds
    ends = {slow.log.spans.end_ns[at] - slow.log.spans.start_ns[at] for at in latencies}
    assert ends == {round(0.03 * NS_PER_S)}


def uploads(world):
    """Return payload, airtime and what was sent again of each upload, in the order of the clients."""
    spans = world.log.spans
    spans.settle()
    rows = sorted((spans.actor[at], at) for at, name in enumerate(spans.name) if name == "adapter_upload")
    resent = {at: extra.resent_bits for at, extra in spans.extras.items()}
    return [
        (int(spans.bits[at]), spans.end_ns[at] - spans.start_ns[at], int(resent.get(at, 0))) for _, at in rows
    ]


def test_drawn_retransmissions_are_the_same_in_every_run_and_others_under_another_seed(tiny_scenario, play):
    given = {"radio.transport": {"loss": 0.2, "packet_bits": 500}, "radio.fading": {"kind": "none"}}
    runs = [uploads(play(tiny_scenario({**FEDERATED, **given, "seed": seed}))) for seed in (3, 3, 4)]
    resent = [[one[2] for one in each] for each in runs]
    assert resent[0] == resent[1] != resent[2]
    assert len(set(resent[0])) == 3


def test_no_transport_is_what_a_transport_without_costs_is(tiny_scenario, play):
    worlds = [play(tiny_scenario({**FEDERATED, **more})) for more in ({}, {"radio.transport": {}})]
    for world in worlds:
        world.log.spans.settle()
    first, other = (world.log.spans for world in worlds)
    for name in ("name", "asked_ns", "start_ns", "end_ns", "bits", "energy_j"):
        assert getattr(first, name) == getattr(other, name)
    assert first.extras == other.extras == {}


def test_every_span_explains_itself_and_a_user_is_told(tiny_scenario, tmp_path):
    given = {
        "radio.transport": {"loss": 0.1, "latency_s": 0.005, "overhead_bits": 320, "packet_bits": 1000},
        "radio.federated_downlink.modelled": True,
    }
    scenario = tiny_scenario({"scheme.num_rounds": 1, "scheme.local_steps": 1, **given})
    notes = " ".join(prepare(scenario).notes)
    assert "radio.transport: 0.005 s of latency, 320 bit more a message, 10 % of packets of 1000" in notes
    assert "what free links carry is there at once" in notes
    record = Record.open(run(scenario, tmp_path / "run", timing_only=True))
    spans = record.spans.to_pylist()
    told = [explain(record, one["id"]) for one in spans]
    assert all(one.expected_end_ns == span["end_ns"] for one, span in zip(told, spans, strict=True))
    late = [span for span in spans if span["name"] == "latency"]
    assert len(late) == 9
    assert all(spans[parent]["kind"] == "transfer" for span in late for parent in span["parents"])
    metrics = record.metrics.to_pylist()
    assert fmean(one["value"] for one in metrics if one["name"] == "overhead_bits") == 320


def test_a_sum_in_the_air_has_no_packets(tiny_scenario):
    given = {**FEDERATED, "radio.medium": {"kind": "over_the_air"}, "radio.transport": {"loss": 0.1}}
    (line,) = check(tiny_scenario(given))
    assert "radio.transport: packets carry bits, and the medium 'over_the_air' sums what clients send" in line
