"""Traces of rates."""

from typing import Any, ClassVar, Literal

from cosim.radio.trace import Trace
from cosim.units import Floats


class RateTrace(Trace):
    """``rate_bit_per_s`` is what a client's whole grant carries, however many subchannels and whatever power.

    As measured by a phone in a network that shares its air by itself. A client without a subchannel
    sends nothing. Allocators that set powers by the SNR are refused; others see each client's rate as
    it is at the time of the decision.
    """

    kind: Literal["rate"] = "rate"
    column: ClassVar[str] = "rate_bit_per_s"
    least: ClassVar[float] = 0.0
    most: ClassVar[float] = 1e15
    gives: ClassVar[Literal["fading", "gains", "rates"]] = "rates"
    takes_place_of: ClassVar[tuple[str, ...]] = ("rate",)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"file": "trace.csv", "at_end": "hold"},)

    def gains(self, values: Floats, mean: Floats, noise_w: float) -> Floats:
        """Return what is modelled: rates do not depend on it."""
        return mean
