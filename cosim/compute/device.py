"""A device: how long an amount of FLOP takes on it, what it costs, and who waits for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cosim.compute.settings import Hardware
from cosim.distributions import LEAST, MOST, Value
from cosim.errors import ScenarioError
from cosim.rng import Stream
from cosim.units import drain_ns, seconds_to_ns


@dataclass(frozen=True)
class Device:
    """One device's hardware, drawn; ``measured_s`` are seconds of a mini-batch, by computation.

    Examples
    --------
    >>> phone = Device("client-0", clock_hz=1e9, flop_per_cycle=2.0, queue_capacity=1,
    ...                memory_bytes=None, energy_coefficient=1e-28)
    >>> phone.duration_ns(4_000_000_000), round(phone.energy_j(4_000_000_000), 9)
    (2000000000, 0.2)
    """

    name: str
    clock_hz: float
    flop_per_cycle: float
    queue_capacity: int
    memory_bytes: float | None
    energy_coefficient: float
    cycle_j: float | None = None
    measured_s: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def draw(
        cls, name: str, hardware: Hardware, stream: Stream, measured_s: Mapping[str, float] | None = None
    ) -> "Device":
        """Return one device of a group; each value has a stream of its own.

        Raises
        ------
        ScenarioError
            If a distribution without an end draws what no device has, or a clock for
            which there is no voltage.
        """
        memory = hardware.memory_bytes
        clock_hz = _drawn(name, "clock_hz", hardware.clock_hz, stream)
        return cls(
            name=name,
            clock_hz=clock_hz,
            flop_per_cycle=_drawn(name, "flop_per_cycle", hardware.flop_per_cycle, stream),
            queue_capacity=hardware.queue_capacity,
            memory_bytes=None if memory is None else _drawn(name, "memory_bytes", memory, stream),
            energy_coefficient=hardware.energy_coefficient,
            cycle_j=_cycle_j(name, clock_hz, hardware),
            measured_s=measured_s or {},
        )

    @property
    def flop_per_s(self) -> float:
        """Speed, FLOP/s."""
        return self.clock_hz * self.flop_per_cycle

    def duration_ns(self, flop: int, name: str = "", times: int = 1) -> int:
        """Return the time ``flop`` takes, so many times, rounded up to the nanosecond.

        As measured, if the computation of that name was.
        """
        if name in self.measured_s and flop:
            return times * seconds_to_ns(self.measured_s[name])
        return drain_ns(times * flop, self.flop_per_s)

    def energy_j(self, flop: int, name: str = "", times: int = 1) -> float:
        """Return the dynamic energy of ``flop``, J: kappa f^2 a cycle, or C V^2 where voltages are given.

        A computation whose time was measured has as many cycles as the clock makes in it.

        Source
        ------
        T. D. Burd and R. W. Brodersen, "Processor design for portable systems",
        J. VLSI Signal Processing, 1996; as used throughout wireless federated learning.
        """
        if name in self.measured_s and flop:
            cycle_j = self.energy_coefficient * self.clock_hz**2 if self.cycle_j is None else self.cycle_j
            return times * cycle_j * self.clock_hz * self.measured_s[name]
        flop *= times
        if self.cycle_j is not None:
            return self.cycle_j * flop / self.flop_per_cycle
        return self.energy_coefficient * self.clock_hz**2 * flop / self.flop_per_cycle

    def refuse_what_does_not_fit(self, needed_bytes: int, what: str) -> None:
        """Refuse a run that would not fit in memory.

        Raises
        ------
        ScenarioError
            With both numbers.
        """
        if self.memory_bytes is not None and needed_bytes > self.memory_bytes:
            raise ScenarioError(
                f"{self.name}: {what} needs {needed_bytes / 1e6:.1f} MB and the device has "
                f"{self.memory_bytes / 1e6:.1f} MB; give it more memory_bytes, a smaller batch, "
                "a shorter sequence_length or another cut_layer."
            )


def _drawn(name: str, setting: str, value: Value, stream: Stream) -> float:
    drawn = value.draw(stream.child(setting))
    if not LEAST <= drawn <= MOST:
        raise ScenarioError(
            f"{name}: {setting}: {value.kind!r} draws {drawn:g}, and a device has {LEAST:g} to {MOST:g}; "
            "narrow the distribution."
        )
    return drawn


def _cycle_j(name: str, clock_hz: float, hardware: Hardware) -> float | None:
    """Return what a cycle costs at the voltage of a clock, J; None where there are no voltages."""
    if hardware.capacitance_f is None or hardware.voltages is None:
        return None
    clocks_hz, volts = zip(*hardware.voltages, strict=True)
    if not clocks_hz[0] <= clock_hz <= clocks_hz[-1]:
        raise ScenarioError(
            f"{name}: its clock of {clock_hz:g} Hz is outside of voltages, which go from {clocks_hz[0]:g} to "
            f"{clocks_hz[-1]:g} Hz; add a pair, or narrow clock_hz."
        )
    return float(hardware.capacitance_f * np.interp(clock_hz, clocks_hz, volts) ** 2)
