"""A battery: what a client has left, and when it stops."""

from typing import Self

from pydantic import Field, model_validator

from cosim.parts import Table
from cosim.units import NS_PER_S

STOPS = (
    "clients.battery: who runs empty is out of the round, and of those after it until it holds restart_share "
    "again; what it was sending does not arrive. Work is taken to draw its energy evenly, pauses included."
)
"""What a user must know of batteries."""


class Battery(Table):
    """What a client draws energy from: computing, sending, and being switched on.

    Attributes
    ----------
    capacity_j
        The most it holds, J.
    initial_j
        What is in it at the beginning, J; full where it is left out.
    idle_w
        Drawn as long as the client is on, beside what it computes and sends, W.
    recharge_w
        What charges it at any time, W.
    restart_share
        A client whose battery has run empty is off until it holds this share again.
    """

    capacity_j: float = Field(gt=0.0)
    initial_j: float | None = Field(default=None, ge=0.0)
    idle_w: float = Field(default=0.0, ge=0.0)
    recharge_w: float = Field(default=0.0, ge=0.0)
    restart_share: float = Field(default=0.1, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        if self.initial_j == 0.0:
            raise ValueError("initial_j is 0: a client with an empty battery cannot begin; give it a charge")
        if self.initial_j is not None and self.initial_j > self.capacity_j:
            raise ValueError(
                f"initial_j {self.initial_j:g} is above capacity_j {self.capacity_j:g}; lower the one or "
                "raise the other"
            )
        return self


class Charge:
    """A battery under way; asked at instants that do not go back.

    Attributes
    ----------
    is_on, is_out
        Whether the client is on; whether it has been off since it was let in last.
    left_j
        What it held at the instant it was asked last, J.
    drawn_j
        What computing, sending and idling have drawn so far, J.
    """

    def __init__(self, battery: Battery) -> None:
        self.battery, self.is_on, self.is_out, self.drawn_j = battery, True, False, 0.0
        self.left_j = battery.capacity_j if battery.initial_j is None else battery.initial_j
        self._at_ns = 0

    def draw(self, now_ns: int, energy_j: float = 0.0) -> float:
        """Let time pass and draw an energy evenly since the last instant; returns what there was of it, J.

        Less than was asked for where the battery runs empty; the client is off from then on.
        """
        battery, lasts_s = self.battery, max(now_ns - self._at_ns, 0) / NS_PER_S
        self._at_ns = max(now_ns, self._at_ns)
        if not self.is_on:
            self._recharge(lasts_s)
            return 0.0
        idle_j, more_j = battery.idle_w * lasts_s, battery.recharge_w * lasts_s
        asked_j, had_j = energy_j + idle_j, self.left_j + more_j
        if asked_j < had_j or asked_j == 0.0:
            self.left_j = min(had_j - asked_j, battery.capacity_j)
            self.drawn_j += asked_j
            return energy_j
        # all powers are constant: it is empty once it has had this share of them
        share = self.left_j / (asked_j - more_j) if asked_j > more_j else 1.0
        self.is_on, self.is_out, self.left_j = False, True, 0.0
        self.drawn_j += share * asked_j
        self._recharge((1.0 - share) * lasts_s)
        return share * energy_j

    def _recharge(self, lasts_s: float) -> None:
        """Charge a client that is off, until it is on again."""
        battery, restart_j = self.battery, self.battery.restart_share * self.battery.capacity_j
        off_s = self.off_s
        self.left_j += battery.recharge_w * min(lasts_s, off_s)
        if lasts_s >= off_s:
            self.is_on = True
            rest_j = (battery.recharge_w - battery.idle_w) * (lasts_s - off_s)
            self.left_j = min(max(max(restart_j, self.left_j) + rest_j, 0.0), battery.capacity_j)

    @property
    def off_s(self) -> float:
        """How long it takes until the client is on again, s; infinite if it never is."""
        missing_j = self.battery.restart_share * self.battery.capacity_j - self.left_j
        if self.is_on:
            return 0.0
        return max(missing_j, 0.0) / self.battery.recharge_w if self.battery.recharge_w else float("inf")

    def share_of(self, now_ns: int, duration_ns: int, energy_j: float) -> float:
        """Return the share of a computation that it lasts for; a little more where it runs empty."""
        self.draw(now_ns)
        if self.is_out or not duration_ns:
            return float(not self.is_out)
        lasts_ns = self.lasts_s(energy_j / duration_ns * NS_PER_S) * NS_PER_S
        return min(1.0, lasts_ns * (1.0 + 1e-12) / duration_ns)

    def lasts_s(self, power_w: float) -> float:
        """Return for how long it feeds a power beside what is always drawn, s; infinite if for ever."""
        net_w = power_w + self.battery.idle_w - self.battery.recharge_w
        return self.left_j / net_w if net_w > 0.0 else float("inf")
