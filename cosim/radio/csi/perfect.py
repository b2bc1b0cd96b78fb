"""Gains that are known as they are, at no cost."""

from typing import ClassVar, Literal

from cosim.radio.csi import Csi, Sight
from cosim.units import Floats


class Perfect(Csi):
    """The assumption of most papers: the gains of the very instant, free of charge."""

    kind: Literal["perfect"] = "perfect"
    is_perfect: ClassVar[bool] = True

    def known(self, gains: Floats, sight: Sight) -> Floats:
        """Return the gains."""
        return gains

    @property
    def description(self) -> str:
        """As assumed."""
        return "known perfectly"
