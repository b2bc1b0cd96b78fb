"""A battery under way, against sums of powers over time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cosim.compute.battery import Battery, Charge
from cosim.units import NS_PER_S

S = NS_PER_S


def test_what_is_drawn_is_the_integral_of_all_powers_until_it_is_empty():
    charge = Charge(Battery(capacity_j=10.0, idle_w=0.5, recharge_w=0.25, restart_share=0.2))
    assert charge.draw(2 * S, 4.0) == 4.0  # 2 W beside 0.25 W net
    assert charge.left_j == pytest.approx(10.0 - 4.5)
    assert charge.lasts_s(2.0) == pytest.approx(5.5 / 2.25)
    assert charge.draw(6 * S, 8.0) == pytest.approx(2.0 * 5.5 / 2.25)  # empty after 2.44 s of 4 s
    assert not charge.is_on
    assert charge.drawn_j == pytest.approx(5.0 + 2.5 * 5.5 / 2.25)
    off_s = 2.0 / 0.25 - (4.0 - 5.5 / 2.25)
    assert charge.off_s == pytest.approx(off_s)
    charge.draw(6 * S + round((off_s + 1.0) * S))
    assert charge.is_on
    assert charge.is_out  # until it is let in
    assert charge.left_j == pytest.approx(2.0 - 0.25)


def test_it_holds_no_more_than_its_capacity():
    charge = Charge(Battery(capacity_j=3.0, initial_j=1.0, recharge_w=1.0))
    charge.draw(10 * S)
    assert charge.left_j == 3.0
    assert charge.lasts_s(0.5) == float("inf")


@settings(deadline=None, max_examples=50)
@given(
    idle_w=st.floats(0.0, 2.0),
    work=st.lists(st.tuples(st.integers(0, 3 * S), st.floats(0.0, 4.0)), min_size=1, max_size=12),
)
def test_without_a_charger_drawn_and_left_are_what_it_began_with(idle_w, work):
    charge, now_ns, spent_j, on_s = Charge(Battery(capacity_j=8.0, idle_w=idle_w)), 0, 0.0, 0.0
    for lasts_ns, energy_j in work:
        was_on, now_ns = charge.is_on, now_ns + lasts_ns
        had_j = charge.left_j
        got_j = charge.draw(now_ns, energy_j)
        spent_j += got_j
        asked_j = energy_j + idle_w * lasts_ns / S
        if was_on:
            on_s += lasts_ns / S * (min(1.0, had_j / asked_j) if asked_j else 1.0)
        assert 0.0 <= got_j <= energy_j
        assert was_on or got_j == 0.0
    assert charge.left_j + charge.drawn_j == pytest.approx(8.0)
    assert spent_j + idle_w * on_s == pytest.approx(charge.drawn_j)
    assert charge.is_on == (charge.left_j > 0.0)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"capacity_j": 0.0}, "greater than 0"),
        ({"capacity_j": 1.0, "initial_j": 0.0}, "client with an empty battery cannot begin"),
        ({"capacity_j": 1.0, "initial_j": 2.0}, "initial_j 2 is above capacity_j 1"),
    ],
)
def test_a_battery_that_is_empty_or_too_full_at_the_start_is_refused(given_, message):
    with pytest.raises(ValidationError, match=message):
        Battery.model_validate(given_)
