"""Air without a surface."""

from typing import TYPE_CHECKING, Literal

from cosim.radio.surface import Surface
from cosim.units import Floats

if TYPE_CHECKING:
    from cosim.radio.path import Path


class NoSurface(Surface):
    """There is the direct path only."""

    kind: Literal["none"] = "none"

    def gains(self, path: "Path", direct: Floats) -> Floats:
        """Return the gains of the direct path."""
        return direct
