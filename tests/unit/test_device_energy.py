"""What computing costs: kappa f^2, or switching at the voltage of the clock."""

import pytest
from pydantic import ValidationError

from cosim.compute.device import Device
from cosim.compute.settings import Hardware
from cosim.errors import ScenarioError
from cosim.rng import stream

VOLTAGES = [[0.5e9, 0.6], [1.0e9, 0.7], [2.0e9, 1.1]]


def device(clock_hz, **settings):
    hardware = Hardware.model_validate({"clock_hz": clock_hz, "flop_per_cycle": 4.0, **settings})
    return Device.draw("client-0", hardware, stream(1, "client-0"))


def test_a_voltage_proportional_to_the_clock_is_kappa_f_squared():
    kappa, volt_per_hz = 1e-28, 1e-9
    line = [[clock_hz, volt_per_hz * clock_hz] for clock_hz in (0.5e9, 2.5e9)]
    for clock_hz in (0.5e9, 1.3e9, 2.5e9):
        usual = device(clock_hz, energy_coefficient=kappa)
        switched = device(clock_hz, capacitance_f=kappa / volt_per_hz**2, voltages=line)
        assert switched.energy_j(10**9) == pytest.approx(usual.energy_j(10**9))
        assert switched.duration_ns(10**9) == usual.duration_ns(10**9)


def test_between_two_pairs_the_voltage_is_straight():
    assert device(1.5e9, capacitance_f=1e-9, voltages=VOLTAGES).energy_j(4) == pytest.approx(1e-9 * 0.9**2)


def test_a_clock_without_a_voltage_is_refused():
    with pytest.raises(
        ScenarioError, match=r"clock of 3e\+09 Hz is outside of voltages, which go from 5e\+08"
    ):
        device(3e9, capacitance_f=1e-9, voltages=VOLTAGES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"capacitance_f": 1e-9}, "voltages was not given; give both"),
        ({"voltages": VOLTAGES}, "capacitance_f was not given; give both"),
        ({"capacitance_f": 1e-9, "voltages": VOLTAGES[::-1]}, "sort them by clock"),
    ],
)
def test_half_a_model_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Hardware.model_validate(settings)
