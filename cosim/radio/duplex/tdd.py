"""Time division: uplinks and downlinks take turns, slot by slot."""

from functools import cache
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cosim.kernel.slots import Slots
from cosim.parts import LONGEST_S
from cosim.radio.duplex import Duplex
from cosim.units import seconds_to_ns


class Tdd(Duplex):
    """A frame of slots, each for downlinks, for uplinks, or for nobody; it begins at time zero.

    A transfer drains, radiates and meets the channel in slots of its own direction alone, exactly.
    Both directions of a server have one band: a downlink fades as the uplink to the same server does
    where both have as many subchannels. The radio of a client stays awake between its slots.

    Attributes
    ----------
    pattern
        A letter for each slot: ``D`` for downlinks, ``U`` for uplinks, ``S`` for neither, such as the
        switch from downlink to uplink.
    slot_s
        How long a slot lasts, s. Blocks of the channel must be whole frames, or slots whole blocks.

    Source
    ------
    3GPP TS 38.213, clause 11.1: patterns of downlink, flexible and uplink slots. Which patterns
    networks use is their operators' choice; ``DDDSU`` is a common one.
    """

    kind: Literal["tdd"] = "tdd"
    pattern: str = Field(default="DDDSU", pattern="^[DUS]+$", max_length=320)
    slot_s: float = Field(default=0.5e-3, ge=1e-6, le=LONGEST_S)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"pattern": "UD", "slot_s": 0.01})

    @model_validator(mode="after")
    def _both_have_a_slot(self) -> Self:
        if not {"D", "U"} <= set(self.pattern):
            raise ValueError(
                f"pattern {self.pattern!r} leaves one direction without a slot; give both D and U"
            )
        return self

    def slots(self, *, is_uplink: bool) -> Slots:
        """Return the slots of the letter of a direction."""
        return _slots(self.pattern, seconds_to_ns(self.slot_s), "U" if is_uplink else "D")

    def fading_of(self, link: str) -> str:
        """Return the uplink to the same server."""
        return link.replace("downlink", "uplink")


@cache
def _slots(pattern: str, slot_ns: int, letter: str) -> Slots:
    return Slots(slot_ns, tuple(one == letter for one in pattern))
