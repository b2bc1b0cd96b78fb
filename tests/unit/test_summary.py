"""What a run came to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.record.folder import Record, RunFolder
from cosim.record.log import Log
from cosim.report.learning import loss_levels
from cosim.report.spans import Spans, covered_ns
from cosim.report.summary import summarise
from cosim.runs import run

SECOND = 10**9


@pytest.fixture
def record_of(tmp_path):
    """Return what records a log as a finished run."""

    def recorded(log, simulated_s):
        folder = RunFolder.create(tmp_path / "run", "", {"name": "made", "seed": 1})
        folder.finish(log, "complete", simulated_s=simulated_s)
        return Record.open(tmp_path / "run")

    return recorded


def add(log, kind, name, actor, start_s, end_s, *, peer="", bits=0, energy_j=0.0, round_=1):
    start_ns, end_ns = int(start_s * SECOND), int(end_s * SECOND)
    log.spans.add((), kind, name, actor, peer, round_, 0, start_ns, start_ns, end_ns, bits, 0, energy_j, "")


@pytest.fixture
def log():
    """Two clients; client-1 sends for 5 s of 10, client-0 for 2, the server computes while client-1 sends."""
    log = Log()
    add(log, "compute", "forward", "client-0", 0, 1, energy_j=1.0)
    add(log, "compute", "forward", "client-1", 0, 2, energy_j=2.0)
    add(log, "transfer", "upload", "client-0", 1, 3, peer="main-server", bits=100, energy_j=0.5)
    add(log, "transfer", "upload", "client-1", 2, 7, peer="main-server", bits=100, energy_j=0.25)
    add(log, "compute", "serve", "main-server", 3, 5, energy_j=4.0)
    add(log, "transfer", "download", "main-server", 8, 9, peer="client-0", bits=10, energy_j=8.0)
    for time_s, loss in ((0, 4.0), (4, 3.0), (7, 1.0), (10, 2.0)):
        log.metrics.add(time_s * SECOND, time_s, 0, "main-server", "eval_loss", loss)
    return log


def test_shares_of_time_are_compute_air_and_the_rest(log, record_of):
    summary = summarise(record_of(log, 10.0))
    times = {one.actor: (one.compute_ns, one.air_ns, one.waiting_ns) for one in summary.actors}
    assert times == {
        "client-0": (1 * SECOND, 3 * SECOND, 6 * SECOND),
        "client-1": (2 * SECOND, 5 * SECOND, 3 * SECOND),
        "main-server": (2 * SECOND, 5 * SECOND, 3 * SECOND),
    }
    assert summary.all_clients.waiting_ns == 9 * SECOND


def test_energy_is_told_by_who_spent_it_on_what(log, record_of):
    assert summarise(record_of(log, 10.0)).energy_j == {
        "clients, compute": 3.0,
        "clients, sending": 0.75,
        "servers, compute": 4.0,
        "servers, sending": 8.0,
    }


def test_the_slowest_client_is_the_busiest_and_the_phase_is_where_it_loses_time(log, record_of):
    slowest = summarise(record_of(log, 10.0)).slowest
    assert (slowest.client, slowest.busy_ns, slowest.median_ns) == ("client-1", 7 * SECOND, 5.5 * SECOND)
    assert (slowest.phase, slowest.phase_ns, slowest.phase_median_ns) == ("upload", 5 * SECOND, 3.5 * SECOND)


def test_a_client_that_does_two_things_at_once_is_busy_once(log, record_of):
    add(log, "transfer", "download", "main-server", 1, 4, peer="client-1")  # within what it does anyway
    slowest = summarise(record_of(log, 10.0)).slowest
    assert (slowest.client, slowest.busy_ns) == ("client-1", 7 * SECOND)


def test_a_loss_level_is_reached_at_the_first_evaluation_at_or_below_it(log, record_of):
    (learning,) = summarise(record_of(log, 10.0)).learning
    assert (learning.first_loss, learning.last_loss, learning.best.loss) == (4.0, 2.0, 1.0)
    assert [(one.loss, one.round) for one in learning.levels] == [
        (3.5, 4),
        (3.0, 4),
        (2.5, 7),
        (2.0, 7),
        (1.5, 7),
        (1.0, 7),
    ]


def test_a_run_without_losses_has_nothing_learned(record_of):
    log = Log()
    add(log, "compute", "forward", "client-0", 0, 1)
    summary = summarise(record_of(log, 1.0))
    assert summary.learning == ()
    assert summary.slowest is None


def test_a_run_that_failed_before_its_first_span_can_be_summed_up(record_of):
    summary = summarise(record_of(Log(), 0.0))
    assert (summary.num_spans, summary.length_ns, summary.actors) == (0, 0, ())


def test_phases_add_up_to_all_spans(log, record_of):
    record = record_of(log, 10.0)
    phases = summarise(record).phases
    assert [one.name for one in phases] == ["forward", "upload", "serve", "download"]
    assert sum(one.num_spans for one in phases) == 6
    upload = phases[1]
    assert (upload.covered_ns, upload.longest_ns, upload.bits) == (6 * SECOND, 5 * SECOND, 200.0)


@pytest.mark.parametrize("server_batch", ["joint", "per_client"])
def test_the_shares_of_every_actor_add_up_to_the_length_of_a_real_run(server_batch, tiny_scenario, tmp_path):
    changes = {"radio.main_downlink.modelled": True, "scheme.server_batch": server_batch}
    record = Record.open(run(tiny_scenario(changes), tmp_path / "run", timing_only=True))
    summary = summarise(record)
    assert summary.length_ns == round(record.manifest["simulated_s"] * SECOND)
    for one in summary.actors:
        assert min(one.compute_ns, one.air_ns, one.waiting_ns) >= 0
        assert one.compute_ns + one.air_ns + one.waiting_ns == summary.length_ns
        assert sum(one.shares) == pytest.approx(1.0)
    total_j = float(record.spans["energy_j"].to_numpy().sum())
    assert sum(summary.energy_j.values()) == pytest.approx(total_j)
    assert sum(one.energy_j for one in summary.phases) == pytest.approx(total_j)


intervals = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12)


@settings(deadline=None)
@given(intervals)
def test_covered_time_counts_every_instant_once(found):
    starts = np.array([start for start, _ in found], dtype=np.int64)
    ends = starts + np.array([length for _, length in found], dtype=np.int64)
    instants = {at for start, end in zip(starts, ends, strict=True) for at in range(start, end)}
    assert covered_ns(starts, ends) == len(instants)


@settings(deadline=None)
@given(st.floats(1e-3, 50.0), st.floats(1e-4, 1.0))
def test_loss_levels_fall_in_even_steps_between_the_first_and_the_best_loss(best, fall):
    first = best * (1.0 + fall)
    levels = loss_levels(first, best)
    assert 2 <= len(levels) <= 7
    assert all(best <= level < first for level in levels)
    steps = -np.diff(levels)
    assert (steps > 0).all()
    assert np.allclose(steps, steps[0], rtol=1e-4)


@pytest.mark.parametrize(("first", "best"), [(1.0, 1.0), (1.0, 2.0), (float("inf"), 1.0)])
def test_a_loss_that_does_not_fall_has_no_levels(first, best):
    assert loss_levels(first, best) == ()


def test_actors_are_in_the_order_of_their_numbers(record_of):
    log = Log()
    for actor in ("client-10", "main-server", "client-2", "federated-server"):
        add(log, "compute", "forward", actor, 0, 1)
    spans = Spans.of(record_of(log, 1.0))
    assert spans.actors == ("client-2", "client-10", "federated-server", "main-server")
    assert spans.clients == ("client-2", "client-10")
