"""What sending costs a client beyond what it radiates."""

from typing import ClassVar

from pydantic import Field

from cosim.parts import LONGEST_S, Plane, Table
from cosim.units import NS_PER_S


class UplinkEnergy(Table):
    """Energy of a client's transmission: what it radiates, and what its radio takes.

    The radio takes ``baseline_w`` while it sends and ``j_per_bit`` for each bit, which is a
    power that grows with the rate. Afterwards it stays awake for ``tail_s`` at
    ``baseline_w``, unless it sends again before; a tail is charged to the client's next
    transmission, so that after its last one is not. Without ``counts_radiated`` all of the power is
    taken to be in baseline and slope, as where they were measured on a whole phone.

    Source
    ------
    Linear in the rate: J. Huang et al., "A close examination of performance and power
    characteristics of 4G LTE networks", MobiSys 2012. An own fit to the 5G measurements of
    A. Narayanan et al., SIGCOMM 2021, gives 3.20 W and 32.2 nJ per bit for uplinks of a 5G low band,
    2.93 W and 76.7 nJ for LTE, screen and all included.
    """

    plane: ClassVar[Plane] = "time"
    baseline_w: float = Field(default=0.0, ge=0.0)
    j_per_bit: float = Field(default=0.0, ge=0.0)
    tail_s: float = Field(default=0.0, ge=0.0, le=LONGEST_S)
    counts_radiated: bool = True

    def total_j(self, radiated_j: float, bits: float, airtime_ns: int, idle_ns: int | None) -> float:
        """Return what a transmission costs, J.

        Parameters
        ----------
        radiated_j, bits, airtime_ns
            What it radiated, its size, and how long it was on air.
        idle_ns
            For how long the client had sent nothing before; None if it never had.
        """
        tail_s = 0.0 if idle_ns is None or not self.tail_s else min(max(idle_ns, 0) / NS_PER_S, self.tail_s)
        own_j = self.baseline_w * (airtime_ns / NS_PER_S + tail_s) + self.j_per_bit * bits
        return own_j + (radiated_j if self.counts_radiated else 0.0)
