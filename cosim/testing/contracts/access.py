"""What every way of sharing the air keeps, run over each part's examples and random grants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.parts import make
from cosim.radio.access import Access
from cosim.radio.grant import Grant
from cosim.testing.selection import examples_of

EXAMPLES = examples_of(Access)


@st.composite
def cells(draw):
    """Return grants that do not overlap, each client at least one subchannel, and who sends."""
    num_clients = draw(st.integers(1, 5))
    spare = draw(st.lists(st.integers(0, num_clients - 1), max_size=8))
    assignment = np.array(draw(st.permutations([*range(num_clients), *spare])))
    powers = draw(st.lists(st.floats(1e-6, 1.0), min_size=num_clients, max_size=num_clients))
    granted = {
        client: Grant.spread(np.flatnonzero(assignment == client), powers[client])
        for client in range(num_clients)
    }
    active = draw(st.lists(st.sampled_from(range(num_clients)), unique=True))
    return granted, active


def as_plain(in_use):
    return {
        client: (grant.subchannels.tolist(), grant.tx_power_w.tolist()) for client, grant in in_use.items()
    }


for_all_cells = settings(deadline=None, max_examples=80)


@pytest.mark.parametrize("example", EXAMPLES)
@for_all_cells
@given(cell=cells())
def test_whoever_sends_and_nobody_else_has_a_grant(example, cell):
    granted, active = cell
    assert sorted(make(Access, example).in_use(granted, active)) == sorted(active)


@pytest.mark.parametrize("example", EXAMPLES)
@for_all_cells
@given(cell=cells())
def test_every_subchannel_serves_one_client_at_a_time(example, cell):
    in_use = make(Access, example).in_use(*cell)
    numbers = [number for grant in in_use.values() for number in grant.subchannels.tolist()]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("example", EXAMPLES)
@for_all_cells
@given(cell=cells())
def test_a_sender_keeps_its_own_subchannels_and_no_more_than_its_power(example, cell):
    granted, active = cell
    for client, grant in make(Access, example).in_use(granted, active).items():
        assert set(granted[client].subchannels.tolist()) <= set(grant.subchannels.tolist())
        assert grant.total_tx_power_w <= granted[client].total_tx_power_w * (1 + 1e-12)
        assert (np.diff(grant.subchannels) > 0).all()
        assert grant.subchannels.shape == grant.tx_power_w.shape


@pytest.mark.parametrize("example", EXAMPLES)
@for_all_cells
@given(cell=cells())
def test_the_same_grants_and_senders_give_the_same_answer(example, cell):
    granted, active = cell
    before = as_plain(granted)
    first, again = (as_plain(make(Access, example).in_use(granted, active)) for _ in range(2))
    assert first == again
    assert as_plain(granted) == before


@pytest.mark.parametrize("example", EXAMPLES)
@for_all_cells
@given(cell=cells())
def test_an_access_that_changes_nothing_in_flight_gives_each_the_same_whoever_else_sends(example, cell):
    granted, active = cell
    access = make(Access, example)
    if not access.changes_in_flight:
        together = as_plain(access.in_use(granted, active))
        for client in active:
            assert as_plain(access.in_use(granted, [client])) == {client: together[client]}


@pytest.mark.parametrize("example", EXAMPLES)
def test_grants_that_overlap_are_handed_on_as_they_are_to_the_one_that_sends(example):
    band = np.arange(4)
    granted = {client: Grant.spread(band, 0.1) for client in range(3)}
    in_use = make(Access, example).in_use(granted, [1])
    assert as_plain(in_use) == {1: (band.tolist(), [0.025] * 4)}
