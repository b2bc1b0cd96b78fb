"""A bandit over pairs of clients and channels: what it learns, whom it serves, and what is charged for it."""

from dataclasses import replace

import numpy as np
import pytest

from cosim.control.allocators.matched import Matched
from cosim.control.reports import REPORT_BITS, Outcome
from cosim.errors import AllocationError, ScenarioError
from cosim.learning.amounts import whole_amounts
from cosim.scenario.build import prepare
from cosim.scenario.load import change
from cosim.testing.strategies import random_cell
from cosim.units import NS_PER_S

NUM_CLIENTS, NUM_CHANNELS = 4, 3


def rounds_of(allocator, means_s, num_rounds, seed=0):
    """Return the expected delay of each round, and who took part, of delays around these means."""
    rng = np.random.default_rng(seed)
    state = random_cell(1, NUM_CLIENTS, NUM_CHANNELS)
    delays_s, part = [], []
    for round_ in range(1, num_rounds + 1):
        decided = allocator.allocate(replace(state, round=round_, stream=state.stream.child(round_)))
        channel_of = decided.arrays["channel_of"].astype(int)
        chosen = channel_of >= 0
        held = np.where(chosen, means_s[np.arange(NUM_CLIENTS), channel_of], 0.0)
        drawn = held * rng.uniform(0.8, 1.2, NUM_CLIENTS)
        state = replace(
            state,
            arrays=decided.arrays,
            reported={"delay": tuple(np.where(chosen, drawn / 2, None))},
            outcomes=tuple(Outcome(airtime_s=one / 2) for one in drawn),
        )
        delays_s.append(held.max())
        part.append(chosen)
    return np.array(delays_s), np.array(part)


MEANS_S = np.array([[0.3, 0.8, 0.9], [0.9, 0.4, 0.8], [0.7, 0.6, 0.8], [0.9, 0.9, 0.9]])
"""Of each client on each channel; the two fastest have 0.3 and 0.4 s."""


@pytest.mark.parametrize("matching", ["exact", "greedy"])
def test_regret_grows_ever_more_slowly_and_the_bandit_comes_close_to_the_best(matching):
    bandit = Matched(max_delay_s=1.0, exploration=0.2, matching=matching)
    regret = rounds_of(bandit, MEANS_S, 400)[0] - 0.4
    # a logarithm grows as much from 200 to 400 as from 100 to 200, a straight line twice as much
    assert regret[200:].sum() < 1.5 * regret[100:200].sum()
    drawn = rounds_of(Matched(choice="random", max_delay_s=1.0), MEANS_S, 400)[0] - 0.4
    assert regret.sum() < 0.3 * drawn.sum()


def test_the_queue_lets_everybody_take_part_as_often_as_is_asked():
    part = rounds_of(Matched(max_delay_s=1.0, exploration=0.2, min_share=0.25), MEANS_S, 200)[1]
    assert part.sum(axis=1).tolist() == [2] * 200
    assert (part.mean(axis=0) >= 0.25 - 10 / 200).all()
    without = rounds_of(Matched(max_delay_s=1.0, exploration=0.2), MEANS_S, 200)[1]
    assert without.mean(axis=0)[3] < 0.15


def test_in_turn_all_take_part_alike_and_by_the_best_mean_only_those_two():
    in_turn = rounds_of(Matched(choice="round_robin"), MEANS_S, 24)[1]
    assert in_turn.sum(axis=0).tolist() == [12] * NUM_CLIENTS
    greedy = rounds_of(Matched(choice="delay_greedy", max_delay_s=1.0), MEANS_S, 60)[0]
    assert (greedy[30:] == 0.4).all()


MATCHED = {
    "scheme": {"kind": "federated", "num_rounds": 3, "local_steps": 1},
    "clients.count": 6,
    "radio.federated_uplink": {"num_subchannels": 5, "bandwidth_hz": 600e3},
    "radio.federated_downlink": {"modelled": True, "num_subchannels": 6},
    "allocator": {"kind": "matched", "num_clients": 2},
}


def test_each_chosen_client_is_sent_its_channel_and_rounds_last_as_foreseen(tiny_scenario, play):
    log = play(tiny_scenario(MATCHED)).log
    log.spans.settle()
    spans = list(zip(log.spans.round, log.spans.name, log.spans.peer, log.spans.bits, strict=True))
    assigned = {(round_, peer, bits) for round_, name, peer, bits in spans if name == "assignment"}
    part = zip(log.metrics.round, log.metrics.actor, log.metrics.name, log.metrics.value, strict=True)
    chosen = {(round_, actor, 3) for round_, actor, name, value in part if name == "participation" and value}
    assert assigned == chosen
    assert len(chosen) == 6
    foreseen = [
        v for name, v in zip(log.metrics.name, log.metrics.value, strict=True) if name == "predicted_round_s"
    ]
    took = [end - start for start, end in zip(log.rounds.start_ns, log.rounds.end_ns, strict=True)]
    assert took == pytest.approx([NS_PER_S * one for one in foreseen], abs=1)


def test_more_clients_than_channels_are_served_also_where_the_air_changes_on_the_way(tiny_scenario, play):
    few = {**MATCHED, "radio.federated_uplink": {"num_subchannels": 3, "bandwidth_hz": 600e3}}
    few |= {"radio.federated_downlink": {"modelled": False}}
    one = play(tiny_scenario(few))
    event = {"at_s": one.clock.now / 3e9, "set": {"radio.noise_figure_db": 12.0}}
    world = play(tiny_scenario({**few, "events": [event]}))
    world.log.spans.settle()
    names = list(world.log.spans.name)
    assert names.count("adapter_upload") == 6
    assert world.clock.now > one.clock.now
    shares = world.decisions.shares_while_waiting(0)["federated_uplink"]
    assert sorted(np.concatenate([grant.subchannels for grant in shares]).tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"allocator.num_clients": 6}, "6 clients ask for a channel each, and radio.federated_uplink has 5"),
        ({"allocator.min_share": 0.5}, "0.5 of the rounds for each of 6 clients is 3 clients a round, and 2"),
        ({"scheme": {"kind": "split_federated"}}, "take the scheme 'federated'"),
    ],
)
def test_what_no_matching_can_keep_is_refused_in_one_line(changes, message, tiny_scenario):
    with pytest.raises((AllocationError, ScenarioError), match=message):
        prepare(change(tiny_scenario(MATCHED), changes))


def test_the_oracle_knows_the_mean_delay_of_each_pair(tiny_scenario):
    fading = {"kind": "rician", "k_factor": 5.0, "fixed": "multipath", "coherence_time_s": 1.0}
    oracle = {"allocator.choice": "oracle", "allocator.max_delay_s": 100.0, "radio.fading": fading}
    one = prepare(change(tiny_scenario(MATCHED), {**oracle, "radio.federated_downlink.modelled": False}))
    amounts = whole_amounts(one.task, one.allocation.lora_rank)
    uplink, width_hz = one.channel, 600e3 / 5
    noise_w = one.channel.noise_psd_w_per_hz * width_hz
    gains = np.array([uplink.gain_at("federated_uplink", block * NS_PER_S) for block in range(200)])
    rates = width_hz * np.log2(1.0 + 10.0**-0.7 * gains / noise_w)
    bits = amounts.adapter_bits + REPORT_BITS
    trained_s = amounts.flop / np.array([client.flop_per_s for client in one.clients])
    delays_s = trained_s[:, np.newaxis] + (bits / rates).mean(axis=0)
    found = one.allocation.arrays["rewards"]
    np.testing.assert_allclose(100.0 * (1.0 - found), delays_s, rtol=1e-9)
