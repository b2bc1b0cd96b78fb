"""Channel knowledge: less than there is."""

from typing import Literal

from pydantic import Field

from cosim.radio.csi import Csi, Sight
from cosim.units import Floats, db_to_linear


class Wary(Csi):
    """All gains are taken to be lower by a margin."""

    kind: Literal["far_wary"] = "far_wary"
    margin_db: float = Field(default=2.0, ge=0.0, le=100.0)

    def known(self, gains: Floats, sight: Sight) -> Floats:
        """Return the gains less the margin."""
        return gains * db_to_linear(-self.margin_db)

    @property
    def description(self) -> str:
        """By how much."""
        return f"known {self.margin_db:g} dB too low"
