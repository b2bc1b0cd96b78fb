"""Trainings that are played turn by turn, so that several tasks can share one population."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from cosim.kernel.clock import Steps
from cosim.learning.training import Training
from cosim.parts import LONGEST_S
from cosim.units import NS_PER_S, Floats
from cosim.world import World

LOCAL_STEP = "client_forward_backward"
"""Name of the spans of a local step."""


class Cost(NamedTuple):
    """What a turn is expected to take of a client: seconds, and joules of its computing and sending."""

    latency_s: float
    energy_j: float


class Turns(ABC):
    """One training under way, a turn at a time.

    Attributes
    ----------
    num_begun
        Turns begun so far.
    """

    def __init__(self, world: World, training: Training) -> None:
        self.world, self.training, self.num_begun = world, training, 0

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether there are turns left to begin."""

    @abstractmethod
    def turn(self, client: int, ready: Sequence[int]) -> Steps:
        """Take a turn of a client, or of all; returns the spans that what follows waits for.

        Parameters
        ----------
        client
            Whose turn it is, where it is not of all.
        ready
            Spans that it waits for.
        """

    @abstractmethod
    def evaluate(self) -> None:
        """Record how good the model is; values are computed with the next that are asked for."""

    def evaluate_now(self) -> None:
        """Record that on held-out examples of this instant."""
        self.training.move((), self.world.clock.now / NS_PER_S)  # no round begins
        self.evaluate()

    @abstractmethod
    def end(self) -> None:
        """Leave what was learned in the world, when the last turn is over."""

    @abstractmethod
    def cost(self, client: int) -> Cost:
        """Return what the next turn is expected to take."""

    def new_data(self, client: int, time_s: float) -> float:
        """Return the share of a client's data that it has not drawn from yet."""
        return self.training.new_data(client, time_s)

    def cost_of_update(self, client: int, local_steps: int) -> Cost:
        """Return what local steps, upload and download take while the air stays as it is now."""
        world, amounts = self.world, self.training.amounts.whole(client, 1)
        device, flop = world.site.devices[world.client_names[client]], amounts.flop
        rates, power_w = world.decisions.rates(world.clock.now), world.decisions.tx_power_w(client)
        up_s = _airtime_s(amounts.adapter_bits, rates.get("federated_uplink"), client)
        down_s = _airtime_s(amounts.adapter_download_bits, rates.get("federated_downlink"), client)
        computing_s = device.duration_ns(flop, LOCAL_STEP, local_steps) / NS_PER_S
        sent_j, costs = up_s * power_w.get("federated_uplink", 0.0), world.channel.radio.uplink_energy
        if up_s < LONGEST_S:
            sent_j = costs.total_j(sent_j, amounts.adapter_bits, round(up_s * NS_PER_S), None)
        energy_j = device.energy_j(flop, LOCAL_STEP, local_steps) + sent_j
        return Cost(computing_s + up_s + down_s, energy_j)


def _airtime_s(bits: int, rates: Floats | None, client: int) -> float:
    """Return how long bits take, s; none over a link that is free."""
    if rates is None or not bits:
        return 0.0
    return bits / float(rates[client]) if rates[client] > 0.0 else float("inf")
