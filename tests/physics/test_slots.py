"""Transfers in slots, against what theory says of blocks: sizes, error rates, combining, energy."""

from itertools import accumulate, repeat
from math import log10, prod, sqrt

import numpy as np
import pytest

from cosim.errors import CosimError
from cosim.kernel.clock import Clock, StalledError
from cosim.parts import family
from cosim.radio.access.orthogonal import Orthogonal
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium.delivery import Payload
from cosim.radio.medium.slotted import Slotted
from cosim.radio.scheduler import Scheduler
from cosim.radio.settings import Radio
from cosim.radio.slots import error_rates
from cosim.radio.slots.ahead import Cells
from cosim.radio.slots.constellation import SNR_DB, betas, information
from cosim.radio.slots.error_rates import GRID_DB
from cosim.radio.slots.modulation_and_coding import block_bits, code_blocks, lower_rates, schemes
from cosim.radio.slots.sending import Air, Sender
from cosim.radio.slots.spent import Spent
from cosim.record.log import Log
from cosim.rng import stream

UPLINK, NAME, NUM = Link("main_uplink", "up", "main-server"), "main_uplink", 6
PLAIN = {"outer_loop_step_db": 0.0, "protocol_overhead": 0.0}
RAYLEIGH = {"kind": "rayleigh_block", "coherence_time_s": 0.004}


class Cell:
    """Clients on one uplink of six subchannels of one megahertz."""

    def __init__(self, medium, num_clients, fading=None, power_w=0.1, grants=None, **radio):
        settings = {"fading": fading or {"kind": "none"}, "medium": {"kind": "slotted", **medium}, **radio}
        settings["main_uplink"] = {"num_subchannels": NUM, "bandwidth_hz": NUM * 1e6}
        self.radio = Radio.model_validate(settings)
        self.channel = Channel.build(self.radio, num_clients, 3)
        self.clock, self.log, self.deliveries = Clock(), Log(), {}
        self.network = self.radio.medium.open(
            self.clock, self.channel, Orthogonal(), self.log.grants, [UPLINK]
        )
        own = (np.arange(client, NUM, num_clients) for client in range(num_clients))
        self.grants = grants or [Grant.spread(one, power_w) for one in own]
        self.decide(self.grants)

    def decide(self, grants):
        self.network.grant(NAME, dict(enumerate(grants)), 1)

    def play(self, arrivals, also=()):
        """Let clients send; ``arrivals`` are (client, at in ns, bits), ``also`` (at in ns, what happens)."""

        def one(client, at_ns, bits):
            yield self.clock.timeout(at_ns)
            self.deliveries[client] = yield from self.network.send(NAME, {client: Payload(bits)})
            self.network.leave(NAME, [client], client)

        for at_ns, happens in also:
            self.clock.after(at_ns, happens)
        started = [self.clock.process(one(*arrival), f"client-{arrival[0]}") for arrival in arrivals]

        def every():
            yield self.clock.all_of(started)

        self.clock.run(self.clock.process(every(), "all"))
        return self.deliveries


def in_interval(successes, trials, probability, sigmas=4.0):
    spread = sqrt(probability * (1.0 - probability) / trials)
    return abs(successes / trials - probability) <= sigmas * spread


def test_a_block_is_as_large_as_its_elements_carry_and_is_cut_evenly():
    for scheme in (*schemes("qam64"), *schemes("qam256"), *lower_rates("qam64")):
        for num_elements in (156, 700, 5_000, 40_000):
            carried, bits = num_elements * scheme.efficiency, block_bits(num_elements, scheme)
            count, each = code_blocks(bits, scheme.code_rate)
            assert abs(bits - carried) <= max(24.0, carried / 16.0)
            assert bits % 8 == 0
            assert each <= (8448 if scheme.code_rate > 0.25 else 3840)
            assert count == 1 or (bits + 24) % (8 * count) == 0  # TS 38.214, step 4


def test_a_constellation_tells_what_capacity_allows_at_low_snr_and_all_its_bits_at_high():
    for bits in (2, 4, 6, 8):
        mean, variance = information(bits)
        capacity = np.log2(1.0 + 10.0 ** (SNR_DB / 10.0))
        assert (mean <= capacity + 1e-9).all()
        assert (np.diff(mean) >= -1e-9).all()
        assert mean[0] == pytest.approx(capacity[0], rel=0.01)
        assert mean[-1] == pytest.approx(bits)
        assert (variance >= 0.0).all()
    slope = np.interp(5.0, SNR_DB, betas(4))  # 16-QAM at half rate; published calibrations are at 3.7 to 4.7
    assert 3.0 < slope < 5.0


def test_long_blocks_fail_below_the_information_of_their_constellation_and_arrive_above():
    curves = Slotted(snr_gap_db=0.0, lower_rates=False).curves(250)
    mean, _ = information(4)
    for index in range(10, 17):
        needed_db = float(np.interp(schemes("qam64")[index].efficiency, mean, SNR_DB))
        assert curves.rate_at(index, needed_db - 0.4) > 0.95
        assert curves.rate_at(index, needed_db + 0.6) < 0.05
        rates = [curves.rate_at(index, snr_db) for snr_db in GRID_DB]
        assert (np.diff(rates) <= 0.0).all()


def test_effective_snr_lies_between_the_worst_and_the_mean_and_is_the_snr_where_all_are_alike():
    grid, drawn = Slotted().grid(), np.random.default_rng(2)
    snr = 10.0 ** drawn.uniform(-1.0, 2.5, (40, NUM))
    cells, widths_hz = Cells(np.zeros(snr.shape, dtype=np.int64), 1), np.ones(NUM)
    found = grid.effective(snr, widths_hz, cells)[:, 0]
    assert (snr.min(axis=1) <= found * (1 + 1e-9)).all()
    assert (found <= snr.mean(axis=1) * (1 + 1e-9)).all()
    alike = np.repeat(snr[:, :1], NUM, axis=1)
    assert grid.effective(alike, widths_hz, cells)[:, 0] == pytest.approx(snr[:, 0])


def test_round_robin_over_a_static_channel_carries_size_times_arrival_rate():
    medium = {**PLAIN, "scheduler": {"kind": "round_robin"}, "max_attempts": 1}
    channel, bits = Cell(medium, 2).channel, 6_000_000
    curves, scheme = Slotted(**medium).curves(16), 20  # as many blocks of 180 kHz as fit into 3 MHz
    snr_db = curves.thresholds_db[scheme] + 0.02
    watts = [
        10.0 ** (snr_db / 10.0) * channel.noise_psd_w_per_hz * 3e6 / channel.gains(NAME, client, 0, 1)[0, 0]
        for client in range(2)
    ]
    grants = [Grant.spread(np.array([client]), watts[client]) for client in range(2)]
    deliveries = Cell(medium, 2, grants=grants).play([(client, 0, bits) for client in range(2)])
    first = min(deliveries.values(), key=lambda one: one.end_ns)  # until then both have half of every slot
    fails, sent = curves.rate_at(scheme, snr_db), first.measures["num_blocks"]
    assert 0.01 < fails < 0.1
    assert sent == first.end_ns // 1_000_000
    assert in_interval(first.measures["num_failed_blocks"], sent, fails)
    expected = curves.payload_bits[scheme] * (1.0 - fails)
    assert bits / sent == pytest.approx(expected, rel=4.0 * sqrt(fails / sent) + 1.0 / sent)


@pytest.mark.parametrize(
    ("combining", "below_db"), [("chase", 5.0), ("none", 1.0), ("incremental_redundancy", 5.0)]
)
def test_attempts_multiply_error_rates_at_the_snr_that_has_been_collected(combining, below_db):
    medium = Slotted(**PLAIN, combining=combining, feedback_slots=1)
    rules, curves, count = medium.rules(1.0), medium.curves(1), 30_000
    scheme, snr_db = 8, curves.thresholds_db[8] - below_db
    snr = 10.0 ** (snr_db / 10.0)
    sums = {"chase": accumulate(repeat(snr, 4)), "none": repeat(snr, 4)}
    sums["incremental_redundancy"] = ((1.0 + snr) ** number - 1.0 for number in (1, 2, 3, 4))
    fails = [curves.rate_at(scheme, 10.0 * log10(one)) for one in sums[combining]]
    uniforms = stream(4, "blocks").uniforms(0, count, 4).tolist()
    chosen_db = [curves.thresholds_db[scheme] + 1e-6] * count
    air = Air(0, [1] * count, [snr] * count, [snr_db] * count, chosen_db, uniforms, [1.0] * count)
    sender = Sender(10**9, 10**9)
    assert sender.send(air, count, rules) is None
    arrived = (10**9 - sender.missing) / curves.payload_bits[scheme]
    assert sum(0.02 < one < 0.98 for one in fails) >= 2
    attempts = 1.0 + sum(prod(fails[:number]) for number in (1, 2, 3))
    expected = attempts / (1.0 - prod(fails))
    assert sender.num_sent / arrived == pytest.approx(expected, rel=4.0 / sqrt(arrived))
    assert sender.energy_j == sender.num_sent == count
    assert sender.sent_bits == count * curves.payload_bits[scheme]
    assert sender.missing == sender.unsent + sum(block.bits for block in sender.repeats)


@pytest.mark.parametrize("kind", sorted(family(Scheduler)))
def test_all_bits_arrive_in_slots_at_the_power_that_was_granted(kind):
    medium = {"scheduler": {"kind": kind}, "max_attempts": 3, "report_delay_slots": 3}
    asked = [(0, 300, 200_000), (1, 1_500_000, 150_000), (2, 1_500_001, 90_000)]
    cells = [Cell(medium, 3, RAYLEIGH, 1e-5) for _ in range(2)]
    deliveries, again = (cell.play(asked) for cell in cells)
    assert deliveries == again
    for client, at_ns, bits in asked:
        one = deliveries[client]
        assert at_ns == one.asked_ns <= one.start_ns < one.end_ns
        assert one.start_ns % 1_000_000 == one.end_ns % 1_000_000 == 0
        assert one.delivered[client]
        assert one.resent_bits >= 0
        assert (one.resent_bits > 0) == (one.measures["num_failed_blocks"] > 0)
        num_slots, spent = one.measures["num_blocks"], Spent.of(one.measures)
        assert spent.num_slots == (one.end_ns - one.start_ns) // 1_000_000
        assert spent.num_failed_blocks == spent.num_repeated_blocks + spent.num_given_up_blocks
        assert one.energy_j[client] == pytest.approx(1e-5 * 1e-3 * num_slots)
        assert bits / num_slots < 6e6 * 7.5e-3


def test_what_others_do_changes_nothing_where_everybody_keeps_to_its_grant():
    asked = [(0, 0, 300_000), (1, 37_654_321, 90_000), (2, 51_000_000, 70_000)]
    alone = Cell({}, 3, RAYLEIGH, 1e-5).play(asked[:1])[0]
    with_others = Cell({}, 3, RAYLEIGH, 1e-5)
    decide = [(at_ns, lambda: with_others.decide(with_others.grants)) for at_ns in (5, 20_500_000)]
    assert with_others.play(asked, decide)[0] == alone


@pytest.mark.parametrize("kind", sorted(family(Scheduler)))
def test_what_several_receive_is_sent_once_at_the_power_of_the_band(kind):
    down = Link("main_downlink", "down", "main-server")
    radio = {"fading": RAYLEIGH, "medium": {"kind": "slotted", "scheduler": {"kind": kind}}}
    spectrum = {"modelled": True, "num_subchannels": NUM, "bandwidth_hz": NUM * 1e6}
    channel = Channel.build(Radio.model_validate({**radio, "main_downlink": spectrum}), 3, 3)
    clock = Clock()
    network = Slotted(**radio["medium"]).open(clock, channel, Orthogonal(), Log().grants, [down])
    own = {client: Grant.spread(np.arange(client, NUM, 3), 1e-4) for client in range(3)}
    network.grant(down.name, own, 1)
    sending = network.send(down.name, dict.fromkeys(range(3), Payload(400_000)))
    ended = clock.process(sending, "to all")
    clock.run(ended)
    delivery = ended.value
    assert delivery.delivered == dict.fromkeys(range(3), True)
    num_slots = delivery.measures["num_blocks"]
    assert sum(delivery.energy_j.values()) == pytest.approx(3e-4 * 1e-3 * num_slots)
    assert num_slots * 1_000_000 <= delivery.end_ns - delivery.start_ns


def test_where_grants_overlap_the_first_that_asked_is_served_first():
    whole = [Grant.spread(np.arange(NUM), 0.1) for _ in range(3)]
    found = Cell({}, 3, grants=whole).play([(0, 0, 500_000), (1, 100, 500_000), (2, 200, 500_000)])
    assert [found[one].start_ns for one in (1, 2)] == [found[one].end_ns for one in (0, 1)]
    assert [found[one].after_span for one in range(3)] == [None, 0, 1]


def test_a_client_at_the_edge_of_a_cell_still_carries_something(monkeypatch):
    noise_psd = Cell({}, 1).channel.noise_psd_w_per_hz
    gain = Cell({}, 1).channel.gains(NAME, 0, 0, 1)[0, 0]
    for snr_db in (-9.0, -15.0):
        cell = Cell({}, 1, power_w=10.0 ** (snr_db / 10.0) * noise_psd * 6e6 / gain)
        one = cell.play([(0, 0, 100_000)])[0]
        capacity = 6e6 * np.log2(1.0 + 10.0 ** (snr_db / 10.0))
        assert 0.25 < 100_000 / (one.end_ns / 1e9) / capacity < 1.0
    monkeypatch.setattr("cosim.radio.medium.slotting.GIVEN_UP", 2_000)
    cell = Cell({}, 1, power_w=1e-20)
    with pytest.raises(StalledError):
        cell.play([(0, 0, 1000)])
    assert "effective SNR of -" in cell.network.too_weak()


def test_power_control_limits_what_is_concentrated():
    medium = {"scheduler": {"kind": "earliest_deadline"}, **PLAIN}
    free = Cell(medium, 2).play([(0, 0, 10_000)])[0]
    cell = Cell(medium, 2, uplink_p0_dbm=-100.0)
    held = cell.play([(0, 0, 10_000)])[0]
    assert free.energy_j[0] == pytest.approx(0.1 * 1e-3 * free.measures["num_blocks"])
    gain = cell.channel.mean_gains[0]
    assert held.energy_j[0] == pytest.approx(1e-13 / gain / 180e3 * 6e6 * 1e-3 * held.measures["num_blocks"])


def test_sionnas_curves_lie_a_gap_from_ours(monkeypatch):
    if error_rates.sionna_folder() is None:
        pytest.skip("sionna-no-rt is not installed (extra 'radio')")
    own, read = (Slotted(error_rates=one, mcs_table="qam256").curves(5) for one in ("normal", "sionna"))
    away_db = np.subtract(read.thresholds_db, own.thresholds_db)
    assert away_db.min() > -0.7
    assert away_db.max() < 1.7


@pytest.mark.slow
def test_sizes_and_code_blocks_are_those_of_sionna():
    pytest.importorskip("sionna", reason="sionna-no-rt is not installed (extra 'radio')")
    import torch
    from sionna.phy.nr.utils import calculate_tb_size

    num_blocks = [1, 2, 3, 5, 8, 13, 16, 25, 50, 79, 106, 200, 273]
    every = torch.ones(len(num_blocks))
    for scheme in (one for table in ("qam64", "qam256", "qam64_low_se") for one in schemes(table)):
        sizes, _, counts, *_ = calculate_tb_size(
            modulation_order=(scheme.bits_per_symbol * every).int(),
            target_coderate=scheme.code_rate * every,
            num_prbs=torch.tensor(num_blocks),
            num_ofdm_symbols=14,
            num_dmrs_per_prb=12,
            num_layers=1,
            num_ov=0,
            verbose=False,
        )
        bits = [block_bits(156 * one, scheme) for one in num_blocks]
        assert sizes.tolist() == bits
        assert counts.tolist() == [code_blocks(one, scheme.code_rate)[0] for one in bits]


FAULTS = {
    "radio.medium.scheduler: no such setting": {
        "radio.medium": {"kind": "fluid", "scheduler": {"kind": "round_robin"}},
    },
    "a resource block of 'slotted' 1.44e+06 Hz": {
        "radio.medium": {"kind": "slotted", "subcarrier_spacing_hz": 120_000}
    },
    "a scheduler that keeps grants: 'granted'": {
        "radio.medium": {"kind": "slotted", "scheduler": {"kind": "round_robin"}},
        "radio.access": {"kind": "reassign"},
    },
    'bandwidth = "subchannels"': {
        "radio.medium": {"kind": "slotted"},
        "scheme": {"kind": "federated", "adapter_codec": {"kind": "top_k"}},
        "allocator": {"kind": "tsfa", "latency_limit_s": 10.0},
    },
    "extra 'radio'": {"radio.medium": {"kind": "slotted", "error_rates": "sionna"}},
}


@pytest.mark.parametrize("way_out", FAULTS)
def test_what_does_not_go_with_slots_is_refused_in_one_line(way_out, tiny_scenario, monkeypatch):
    from cosim.scenario.build import prepare_tasks

    monkeypatch.setattr("cosim.radio.medium.slotted.sionna_folder", lambda: None)
    with pytest.raises(CosimError) as fault:
        prepare_tasks(tiny_scenario(FAULTS[way_out]))
    assert way_out in str(fault.value)


def test_a_run_in_slots_learns_the_same_says_its_rung_and_is_explained(tiny_scenario, tmp_path):
    from cosim.cli.overview import _air
    from cosim.explain import explain
    from cosim.record.folder import Record
    from cosim.runs import run

    changes = {"scheme.num_rounds": 1, "radio.fading": RAYLEIGH, "radio.antenna_gain_db": -25.0}
    scenarios = {
        rung: tiny_scenario(changes | more)
        for rung, more in {
            "Shannon": {},
            "Shannon with a gap of 3 dB": {"radio.rate.snr_gap_db": 3.0},
            "Shannon, capped at 7.406 bit/s/Hz": {"radio.rate": {"kind": "truncated_shannon"}},
            "slotted, scheduler granted, qam64": {"radio.medium": {"kind": "slotted"}},
        }.items()
    }
    for rung, scenario in scenarios.items():
        assert scenario.radio.medium.rung(UPLINK, scenario.radio.rate).startswith(rung)
    fluid, *_, slotted = scenarios.values()
    assert "slotted, scheduler granted" in "".join(_air(slotted))
    folders = [run(one, tmp_path / str(at), timing_only=True) for at, one in enumerate((fluid, slotted))]
    drained, record = (Record.open(one) for one in folders)
    assert record.manifest["fingerprints"]["learning"] == drained.manifest["fingerprints"]["learning"]
    assert sorted(record.spans["node"].to_pylist()) == sorted(drained.spans["node"].to_pylist())
    names = record.metrics["name"].to_pylist()
    uploads = [row for row in record.spans.to_pylist() if row["kind"] == "transfer" and row["energy_j"]]
    assert names.count("num_blocks") == names.count("num_failed_blocks") == len(uploads)
    assert any(row["resent_bits"] for row in uploads)
    for row in uploads:
        explained = explain(record, row["id"])
        assert explained.slots.num_slots > 0
        assert explained.expected_end_ns == row["end_ns"]
