"""A fluid medium: bits drain at a rate that follows grants and channel at every instant."""

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.kernel.clock import Clock
from cosim.parts import OfPlane
from cosim.radio.access import Access
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium import Medium
from cosim.radio.medium.draining import Draining
from cosim.radio.rate import RateModel
from cosim.record.grants import GrantLog
from cosim.units import Floats, db_to_linear


class Fluid(Medium):
    """Bits drain at a rate, to the bit, re-rated in flight.

    Attributes
    ----------
    rate
        ``adapted``: at every instant at what the channel allows, so that everything
        arrives. ``fixed``: clients send at one spectral efficiency, and what is sent is
        lost if the channel allows less in any block that the transfer crosses (outage);
        it has taken time and energy then. ``known``: likewise, at the efficiency that what the controller
        knows of the channel (``radio.csi``) lets expect of the grant when it decides, with the
        SNR ``backoff_db`` lower. Downlinks stay adapted.
    fixed_spectral_efficiency_bit_per_s_per_hz
        Of ``fixed``, over the whole width of a grant; of those clients for which an
        allocator decides no other.
    outage
        What a client does whose channel allows less when its turn comes: ``lost``, it sends
        without knowing, and is lost; ``silent``, it knows its channel and sends nothing, which takes
        neither time nor energy.
    backoff_db
        Of ``known``: how much lower the SNR is taken to be, dB.
    attempts
        How often what is lost is sent in all, at once and at the same rate.
    """

    kind: Literal["fluid"] = "fluid"
    lets_leave: ClassVar[bool] = True
    rate: Annotated[Literal["adapted", "fixed", "known"], OfPlane("value")] = "adapted"
    fixed_spectral_efficiency_bit_per_s_per_hz: Annotated[float | None, OfPlane("value")] = Field(
        default=None, gt=0.0
    )
    outage: Annotated[Literal["lost", "silent"], OfPlane("value")] = "lost"
    backoff_db: Annotated[float, OfPlane("value")] = Field(default=0.0, ge=0.0, le=400.0)
    attempts: Annotated[int, OfPlane("value")] = Field(default=1, ge=1, le=1000)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"rate": "fixed", "fixed_spectral_efficiency_bit_per_s_per_hz": 2.0},
        {"rate": "known", "backoff_db": 3.0, "attempts": 3},
    )

    @model_validator(mode="after")
    def _a_fixed_rate_is_given(self) -> Self:
        if (self.rate == "fixed") != (self.fixed_spectral_efficiency_bit_per_s_per_hz is not None):
            raise ValueError(
                f"rate = {self.rate!r} was given "
                + ("without" if self.rate == "fixed" else "with")
                + " fixed_spectral_efficiency_bit_per_s_per_hz; give both rate = 'fixed' and the efficiency, "
                "or neither"
            )
        if self.rate == "adapted" and self.outage == "silent":
            raise ValueError(
                "outage = 'silent' is of fixed rates, and adapted ones have none; set rate = 'fixed'"
            )
        if self.rate == "adapted" and self.attempts > 1:
            raise ValueError(
                f"attempts = {self.attempts} is of fixed rates, and at adapted ones nothing is lost; set "
                "rate = 'fixed' or 'known'"
            )
        if self.rate != "known" and self.backoff_db:
            raise ValueError(
                f"backoff_db {self.backoff_db:g} is of rates by what is known; set rate = 'known'"
            )
        return self

    @property
    def is_closed_form(self) -> bool:
        """At an adapted rate."""
        return self.rate == "adapted"

    def open(
        self, clock: Clock, channel: Channel, access: Access, log: GrantLog, links: Collection[Link]
    ) -> Draining:
        """Return transfers that drain."""
        return Draining(clock, channel, access, log, links, self)

    def rung(self, link: Link, rate: RateModel) -> str:
        """Return the rate model of the link, or the fixed rate."""
        if not self.loses(link):
            return super().rung(link, rate)
        if self.rate == "known":
            return (
                f"what is known of the channel when it is decided, with the SNR {self.backoff_db:g} dB lower"
            )
        return f"fixed, {self.fixed_spectral_efficiency_bit_per_s_per_hz:g} bit/s/Hz unless decided"

    def loses(self, link: Link) -> bool:
        """Return whether clients send at a fixed rate over it."""
        return self.rate != "adapted" and link.is_uplink

    @property
    def num_attempts(self) -> int:
        """As set."""
        return self.attempts

    @property
    def backoff(self) -> float | None:
        """Of rates that are chosen from what is known."""
        return db_to_linear(-self.backoff_db) if self.rate == "known" else None

    @property
    def fixes_rates(self) -> bool:
        """Whether a decision may say at which rate each client sends."""
        return self.rate == "fixed"

    @property
    def is_silent_in_outage(self) -> bool:
        """Whether clients know when nothing would arrive."""
        return self.outage == "silent"

    def rates(
        self, channel: Channel, link: Link, client: int, grant: Grant, first: int, count: int
    ) -> Floats:
        """Return what the channel allows, or the fixed rate of an uplink."""
        if not self.loses(link):
            return super().rates(channel, link, client, grant, first, count)
        decided = grant.spectral_efficiency_bit_per_s_per_hz
        efficiency = self.fixed_spectral_efficiency_bit_per_s_per_hz if decided is None else decided
        assert efficiency is not None
        return np.full(count, efficiency * grant.width_hz(channel.bandwidths_hz(link.name)))
