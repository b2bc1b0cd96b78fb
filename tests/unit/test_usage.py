"""What devices, subchannels and energy were used for, and how fast transfers were."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosim.channel_replay import replay_channel
from cosim.record.folder import Record, RunFolder
from cosim.record.log import Log
from cosim.report.rates import rates
from cosim.report.spans import Spans, length_ns
from cosim.report.subchannel_grants import SubchannelGrants
from cosim.report.usage import actor_use, energy, shared_ns, subchannel_use
from cosim.runs import run


@pytest.fixture
def made(tmp_path):
    """Return a run of 100 ns: client-0 computes while it sends, client-1 queues for its only subchannel."""
    log = Log()

    def add(parents, kind, name, actor, peer, asked, start, end, bits, energy_j):
        log.spans.add(parents, kind, name, actor, peer, 1, 1, asked, start, end, bits, 0, energy_j, "")

    add((), "compute", "forward", "client-0", "", 0, 0, 20, 0, 1.0)
    add((), "transfer", "upload", "client-0", "main-server", 10, 10, 40, 300, 0.5)
    add((1,), "transfer", "upload", "client-1", "main-server", 30, 40, 60, 100, 0.25)
    add((2,), "compute", "serve", "main-server", "", 60, 60, 90, 0, 4.0)
    log.grants.add(0, 1, "main_uplink", 0, "client-0", 0.1, 1e-9)
    log.grants.add(0, 1, "main_uplink", 1, "client-0", 0.1, 1e-9)
    log.grants.add(40, 1, "main_uplink", 0, "client-1", 0.1, 1e-9)
    folder = RunFolder.create(tmp_path / "run", "", {"name": "made", "seed": 1})
    folder.finish(log, "complete", simulated_s=100e-9)
    return Record.open(tmp_path / "run")


def test_the_time_of_an_actor_is_told_apart(made):
    found = {one.actor: one for one in actor_use(Spans.of(made), 100)}
    one = found["client-0"]
    assert (one.compute_ns, one.air_ns, one.overlap_ns, one.queueing_ns, one.idle_ns) == (20, 30, 10, 0, 60)
    one = found["client-1"]
    assert (one.compute_ns, one.air_ns, one.overlap_ns, one.queueing_ns, one.idle_ns) == (0, 20, 0, 10, 70)
    assert one.mean_queue == pytest.approx(0.1)
    one = found["main-server"]
    assert (one.compute_ns, one.air_ns, one.overlap_ns, one.queueing_ns, one.idle_ns) == (30, 50, 0, 0, 20)
    assert one.utilisation == pytest.approx(0.3)


def test_a_subchannel_is_used_while_its_holder_sends(made):
    found = subchannel_use(Spans.of(made), SubchannelGrants.of(made, 100), 100)
    assert [(one.link, one.subchannel, one.held_ns, one.used_ns, one.num_holders) for one in found] == [
        ("main_uplink", 0, 100, 50, 2),
        ("main_uplink", 1, 100, 30, 1),
    ]
    assert found[0].utilisation == pytest.approx(0.5)


def test_energy_is_told_by_actor_and_phase(made):
    found = {(one.actor, one.phase): one.energy_j for one in energy(Spans.of(made))}
    assert found == {
        ("client-0", "forward"): 1.0,
        ("client-0", "upload"): 0.5,
        ("client-1", "upload"): 0.25,
        ("main-server", "serve"): 4.0,
    }


def test_the_rate_of_a_transfer_is_its_bits_over_its_time(made):
    found = rates(Spans.of(made), SubchannelGrants.of(made, 100))
    assert found.spans.tolist() == [1, 2]
    assert found.bit_per_s.tolist() == pytest.approx([300 / 30e-9, 100 / 20e-9])
    assert found.with_queue_bit_per_s.tolist() == pytest.approx([300 / 30e-9, 100 / 30e-9])
    assert found.num_subchannels.tolist() == [2.0, 1.0]
    assert np.isnan(found.of_grant).all()


@pytest.mark.parametrize("part", ["spans", "grants"])
def test_a_run_of_nothing_has_no_use(part, tmp_path):
    log = Log()
    if part == "grants":  # spans, but nothing that travels
        log.spans.add((), "compute", "whole_step", "main-server", "", 1, 1, 0, 0, 5, 0, 1, 0.0, "")
    RunFolder.create(tmp_path / "run", "", {}).finish(log, "complete", simulated_s=5e-9)
    record = Record.open(tmp_path / "run")
    spans, grants = Spans.of(record), SubchannelGrants.of(record, 5)
    assert subchannel_use(spans, grants, 5) == ()
    assert energy(spans) == ()
    assert len(rates(spans, grants).spans) == 0
    assert [one.compute_ns for one in actor_use(spans, 5)] == ([5] if part == "grants" else [])


intervals = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=12)


@settings(deadline=None)
@given(intervals, intervals)
def test_what_intervals_share_with_a_window_is_what_counting_says(some, windows):
    starts, ends = (np.array([one[0] + k * one[1] for one in some], dtype=np.int64) for k in (0, 1))
    begins, untils = (np.array([one[0] + k * one[1] for one in windows], dtype=np.int64) for k in (0, 1))
    counted = [
        sum(((starts <= at) & (at < ends)).sum() for at in range(begin, until))
        for begin, until in zip(begins.tolist(), untils.tolist(), strict=True)
    ]
    assert shared_ns(starts, ends, begins, untils).tolist() == counted


@pytest.fixture(scope="module")
def recorded(tiny_scenario, tmp_path_factory):
    def record(changes):
        return Record.open(
            run(tiny_scenario(changes), tmp_path_factory.mktemp("run") / "run", timing_only=True)
        )

    return record


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    allocator=st.sampled_from(["equal", "time_shared"]),
    access=st.sampled_from(["orthogonal", "reassign"]),
)
def test_whoever_sends_holds_what_is_used(seed, allocator, access, recorded):
    record = recorded({"seed": seed, "allocator.kind": allocator, "radio.access.kind": access})
    spans = Spans.of(record)
    total = length_ns(record, spans)
    grants = SubchannelGrants.of(record, total)
    found = rates(spans, grants)
    by_transfer = found.num_subchannels * spans.duration_ns[found.spans]
    by_subchannel = sum(one.used_ns for one in subchannel_use(spans, grants, total))
    assert by_transfer.sum() == pytest.approx(by_subchannel)
    assert (found.num_subchannels >= 1.0).all()
    for one in actor_use(spans, total):
        assert 0 <= one.overlap_ns <= min(one.compute_ns, one.air_ns)
        busy = one.compute_ns + one.air_ns - one.overlap_ns
        assert busy <= total - one.idle_ns <= busy + one.queueing_ns


def test_without_fading_a_transfer_is_as_fast_as_its_grant(recorded):
    record = recorded({"radio.fading.kind": "none"})
    spans = Spans.of(record)
    found = rates(
        spans, SubchannelGrants.of(record, length_ns(record, spans)), replay_channel(record).budgets
    )
    assert found.of_grant == pytest.approx(np.ones(len(found.spans)), rel=1e-5)
    assert (found.of_grant <= 1.0 + 1e-12).all()
