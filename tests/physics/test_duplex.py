"""Time division: transfers go on in slots of their own direction, against sums over slots."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.errors import ScenarioError
from cosim.kernel.job import BlockRate, ConstantRate
from cosim.kernel.slots import Slots, SlottedRate
from cosim.radio.duplex.tdd import Tdd
from cosim.scenario.build import prepare
from cosim.units import NS_PER_S

FEDERATED = {
    "scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 1},
    "radio.federated_downlink.modelled": True,
}
TDD = {"radio.duplex": {"kind": "tdd", "pattern": "DDSU", "slot_s": 1e-4}}

patterns = st.lists(st.booleans(), min_size=1, max_size=6).filter(any)


@settings(deadline=None, max_examples=60)
@given(patterns, st.integers(1, 9), st.integers(0, 200), st.integers(0, 200))
def test_open_time_is_the_time_in_open_slots(pattern, slot_ns, start_ns, lasts_ns):
    slots = Slots(slot_ns, tuple(pattern))
    of_each = [pattern[now_ns // slot_ns % len(pattern)] for now_ns in range(start_ns + lasts_ns)]
    assert slots.open_ns(start_ns + lasts_ns) == sum(of_each)
    if lasts_ns:
        end_ns = slots.after_ns(start_ns, lasts_ns)
        assert slots.open_ns(end_ns) - slots.open_ns(start_ns) == lasts_ns
        assert slots.open_ns(end_ns - 1) < slots.open_ns(end_ns)


@settings(deadline=None, max_examples=50)
@given(pattern=patterns, amount=st.integers(1, 300), start_ns=st.integers(0, 90), per_ns=st.integers(1, 5))
def test_blocks_as_long_as_frames_and_slots_of_many_blocks_drain_alike(pattern, amount, start_ns, per_ns):
    """Blocks of one rate each, once in open time and once with closed blocks at rate zero."""
    slots = Slots(4, tuple(pattern))
    frame_ns = slots.frame_ns

    def in_frames(first, count):
        return np.array([float((per_ns + one) % 4 + 1) * NS_PER_S for one in range(first, first + count)])

    def in_slots(first, count):  # blocks of half a slot
        numbers = np.arange(first, first + count) * 2
        is_open = np.array([pattern[one // 4 % len(pattern)] for one in numbers])
        return np.where(is_open, np.array([in_frames(int(one) // frame_ns, 1)[0] for one in numbers]), 0.0)

    slotted = SlottedRate(BlockRate(slots.open_of_frame_ns, in_frames), slots)
    masked = BlockRate(2, in_slots)
    end_ns = slotted.finish_ns(amount, start_ns)
    assert end_ns == masked.finish_ns(amount, start_ns)
    assert slotted.drained(start_ns, end_ns) == masked.drained(start_ns, end_ns) >= amount
    assert slotted.drained(start_ns, end_ns - 1) < amount


def test_nothing_to_send_takes_no_time_and_no_rate_for_ever():
    slots = Slots(10, (False, True))
    assert SlottedRate(ConstantRate(1.0), slots).finish_ns(0, 7) == 7
    assert SlottedRate(ConstantRate(0.0), slots).finish_ns(1, 7) is None
    assert SlottedRate(ConstantRate(5e8), slots).drained(0, 40) == Fraction(10)


@pytest.mark.parametrize("coherence_time_s", [None, 4e-4, 2.5e-5])
def test_a_transfer_progresses_and_radiates_in_its_own_slots(coherence_time_s, tiny_scenario, play):
    fading = {"kind": "rayleigh_block"} | ({"coherence_time_s": coherence_time_s} if coherence_time_s else {})
    air = {**FEDERATED, "radio.fading": fading}
    both = [tiny_scenario({**air, **more}) for more in ({}, TDD)]
    for direction, letter in (("adapter_upload", "U"), ("adapter_download", "D")):
        transfers = []
        for scenario in both:
            world = play(scenario)
            log = world.log.spans
            log.settle()
            transfers.append(
                [
                    (log.start_ns[row], log.end_ns[row], log.energy_j[row], log.bits[row])
                    for row in range(len(log))
                    if log.name[row] == direction
                ]
            )
        slots = Tdd(pattern="DDSU", slot_s=1e-4).slots(is_uplink=letter == "U")
        for (start_ns, end_ns, energy_j, bits), other in zip(transfers[1], transfers[0], strict=True):
            assert bits == other[3]
            open_ns = slots.open_ns(end_ns) - slots.open_ns(start_ns)
            assert slots.open_ns(end_ns - 1) < slots.open_ns(end_ns)  # it ends in a slot of its own
            power_w = other[2] / (other[1] - other[0])
            assert energy_j == pytest.approx(power_w * open_ns)
            if coherence_time_s is None and letter == "U":
                assert open_ns == other[1] - other[0]  # as much open time as it took with all of it


def test_a_downlink_fades_as_its_uplink(tiny_scenario):
    air = {**FEDERATED, **TDD, "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 4e-4}}
    air |= {f"radio.federated_{link}.num_subchannels": 5 for link in ("uplink", "downlink")}
    channel = prepare(tiny_scenario(air)).channel
    up, down = (channel.gain_at(f"federated_{link}", 900_000) for link in ("uplink", "downlink"))
    np.testing.assert_array_equal(up, down)
    assert (up != channel.gain_at("main_uplink", 900_000)[:, :1]).any()


def test_allocators_see_the_share_of_a_direction_and_nothing_is_predicted(tiny_scenario):
    prepared = prepare(tiny_scenario({**FEDERATED, **TDD}))
    assert any("uplinks have 25 % of the time and downlinks 50 %" in note for note in prepared.notes)
    decisions = prepared.decisions()
    links = decisions.state(0, 1).links
    assert links["federated_uplink"].data_share == 0.25
    assert links["federated_downlink"].data_share == 0.5
    assert decisions.plan() is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radio.duplex.pattern": "DDD"}, "pattern 'DDD' leaves one direction without a slot"),
        ({"radio.duplex.pattern": "DUX"}, "should match pattern"),
        (
            {"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 3e-4}},
            r"slots last 0\.0001 s in frames of 0\.0004 s, and the fading changes every 0\.0003 s",
        ),
        ({"radio.medium": {"kind": "over_the_air"}}, "radio.duplex: a sum over the medium"),
    ],
)
def test_what_does_not_fit_a_frame_is_refused(changes, message, tiny_scenario):
    with pytest.raises(ScenarioError, match=message):
        prepare(tiny_scenario({**FEDERATED, **TDD, **changes}))
