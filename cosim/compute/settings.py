"""The hardware of a device, as a scenario gives it."""

from itertools import pairwise
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from cosim.distributions import Value, constant
from cosim.parts import Plane, Table


class Hardware(Table):
    """Clock, width, queue, memory and energy of a device or of a group of devices.

    A value may be a number or a distribution; each device draws once.

    Attributes
    ----------
    clock_hz
        Cycles per second, f.
    flop_per_cycle
        FLOP done in a cycle; its inverse is the kappa of FedsLLM (cycles per FLOP).
    queue_capacity
        Works served at one time; the others wait, first come first served.
    memory_bytes
        What a device holds at most; without it nothing is refused.
    energy_coefficient
        Effective switched capacitance kappa, J s^2 per cycle^3: a cycle costs
        ``energy_coefficient * clock_hz**2`` joules, as if the voltage were proportional
        to the clock.
    capacitance_f, voltages
        Switched capacitance of a cycle, F, and pairs of clock, Hz, and voltage, V: a
        cycle costs capacitance times the square of the voltage at the device's clock,
        straight between two pairs. Both or neither; they take the place of
        ``energy_coefficient``.

    Source
    ------
    A. P. Chandrakasan et al., "Low-power CMOS digital design", IEEE J. Solid-State
    Circuits 27(4), 1992: switching energy C V^2. A voltage that does not fall with the
    clock is where kappa f^2 errs most.
    """

    plane: ClassVar[Plane] = "time"
    clock_hz: Value = constant(1.3e9)
    flop_per_cycle: Value = constant(512.0)
    queue_capacity: Annotated[int, Field(gt=0)] = 1
    memory_bytes: Value | None = None
    energy_coefficient: Annotated[float, Field(ge=0.0)] = 1e-28
    capacitance_f: Annotated[float | None, Field(gt=0.0, le=1.0)] = None
    voltages: Annotated[
        tuple[tuple[Annotated[float, Field(gt=0.0)], Annotated[float, Field(gt=0.0, le=1e3)]], ...] | None,
        Field(min_length=1),
    ] = None

    @model_validator(mode="after")
    def _capacitance_and_voltages_go_together(self) -> Self:
        if (self.capacitance_f is None) != (self.voltages is None):
            missing = "voltages" if self.voltages is None else "capacitance_f"
            raise ValueError(f"{missing} was not given; give both capacitance_f and voltages, or neither")
        for (clock_hz, _), (following_hz, _) in pairwise(self.voltages or ()):
            if following_hz <= clock_hz:
                raise ValueError(
                    f"voltages has a clock of {following_hz:g} Hz after one of {clock_hz:g} Hz; "
                    "sort them by clock"
                )
        return self
