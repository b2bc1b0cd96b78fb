"""What every slot scheduler keeps, run over each part's examples and random demands."""

from dataclasses import replace

import numpy as np
import pytest

from cosim.radio.scheduler import Demand, Scheduler
from cosim.testing.selection import parts_of

EXAMPLES = parts_of(Scheduler)


def demands():
    """Return demands of some to many senders, one of them that has been granted nothing."""
    for seed, (num_senders, num_slots, num_subchannels) in enumerate([(1, 5, 3), (4, 30, 6), (9, 12, 2)]):
        drawn = np.random.default_rng(seed)
        rates = drawn.exponential(1e5, (num_senders, num_slots, num_subchannels))
        granted = drawn.integers(0, num_senders, num_subchannels) == np.arange(num_senders)[:, None]
        bits = drawn.integers(1, 10**6, num_senders).astype(float)
        asked_s = np.sort(drawn.random(num_senders))
        yield Demand(7, 1e-3, rates, granted.astype(float), bits / 2, bits, asked_s, rates.mean(axis=(1, 2)))


@pytest.mark.parametrize("scheduler", EXAMPLES)
def test_every_subchannel_of_every_slot_has_one_owner_at_most(scheduler):
    for demand in demands():
        owners, mean_rates = scheduler.schedule(demand)
        num_senders = len(demand.bits)
        assert owners.shape == demand.rates.shape[1:]
        assert owners.min() >= -1
        assert owners.max() < num_senders
        if scheduler.keeps_grants:
            slots, numbers = np.nonzero(owners >= 0)
            assert demand.granted[owners[slots, numbers], numbers].all()
        assert mean_rates is None or mean_rates.shape == (len(owners), num_senders)


@pytest.mark.parametrize("scheduler", EXAMPLES)
def test_what_comes_later_changes_no_slot_and_the_same_demand_is_met_the_same(scheduler):
    for demand in demands():
        whole = scheduler.schedule(demand).owners
        first = scheduler.schedule(replace(demand, rates=demand.rates[:, :3])).owners
        assert (first == whole[:3]).all()
        assert (scheduler.schedule(demand).owners == whole).all()


@pytest.mark.parametrize("scheduler", EXAMPLES)
def test_somebody_has_every_subchannel_unless_grants_are_kept(scheduler):
    for demand in demands():
        granted = scheduler.schedule(demand).owners >= 0
        assert granted.all() or scheduler.keeps_grants
