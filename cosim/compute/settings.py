"""The hardware of a device, as a scenario gives it."""

from typing import Annotated, ClassVar

from pydantic import Field

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
        ``energy_coefficient * clock_hz**2`` joules.
    """

    plane: ClassVar[Plane] = "time"
    clock_hz: Value = constant(1.3e9)
    flop_per_cycle: Value = constant(512.0)
    queue_capacity: Annotated[int, Field(gt=0)] = 1
    memory_bytes: Value | None = None
    energy_coefficient: Annotated[float, Field(ge=0.0)] = 1e-28
