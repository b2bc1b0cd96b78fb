"""Medium: pilots take a share of the air."""

from collections.abc import Collection
from typing import Literal

from pydantic import Field

from cosim.kernel.clock import Clock
from cosim.radio.access import Access
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium import Medium
from cosim.radio.medium.draining import Draining
from cosim.record.grants import GrantLog
from cosim.units import Floats


class Pilots(Medium):
    """Bits drain at what the channel allows, less the share of symbols that carry pilots."""

    kind: Literal["far_pilots"] = "far_pilots"
    pilot_share: float = Field(default=0.25, ge=0.0, lt=1.0)

    def open(
        self, clock: Clock, channel: Channel, access: Access, log: GrantLog, links: Collection[Link]
    ) -> Draining:
        """Return transfers that drain."""
        return Draining(clock, channel, access, log, links, self)

    def rates(
        self, channel: Channel, link: Link, client: int, grant: Grant, first: int, count: int
    ) -> Floats:
        """Return the rate that is left for data."""
        return (1.0 - self.pilot_share) * super().rates(channel, link, client, grant, first, count)
