"""Gains that are known late."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.parts import LONGEST_S
from cosim.radio.csi import Csi, Sight
from cosim.units import Floats, seconds_to_ns


class Delayed(Csi):
    """The gains of ``delay_s`` ago; before anything measured has arrived, those before fading.

    Under fading with Jakes' spectrum what is known then correlates with what is, as complex
    amplitudes, by J0(2 pi doppler delay).
    """

    kind: Literal["delayed"] = "delayed"
    delay_s: float = Field(default=0.01, ge=0.0, le=LONGEST_S)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"delay_s": 0.0})

    @property
    def delay_ns(self) -> int:
        """As set."""
        return seconds_to_ns(self.delay_s)

    def known(self, gains: Floats, sight: Sight) -> Floats:
        """Return the gains, which are those of that instant."""
        return gains

    @property
    def description(self) -> str:
        """How late."""
        return f"known {self.delay_s:g} s late"
