"""Transport: what a message costs beyond its payload, and how much later it arrives."""

from math import ceil
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from cosim.parts import LONGEST_S, Plane, Table
from cosim.rng import Stream
from cosim.units import NS_PER_S

_NEGLIGIBLE = 1e-18


class Journey(NamedTuple):
    """What one message needs beyond the airtime of its payload.

    Attributes
    ----------
    overhead_bits, resent_bits
        Sent along with the payload, and sent again.
    delay_ns
        From its last bit on the air until it is there, ns.
    """

    overhead_bits: int
    resent_bits: int
    delay_ns: int


class Transport(Table):
    """Latency, packet loss and overhead of messages.

    A message is its payload and ``overhead_bits``, in packets of ``packet_bits``. Each packet is lost
    with probability ``loss``, whatever was lost before, and is sent again until it arrives; of a
    message to several, until all have it. What is sent again goes over the air at the end of the
    same transmission. The last bit is followed by ``latency_s``, and by
    ``retransmission_timeout_s`` for every time that packets had to be sent again.

    Attributes
    ----------
    retransmissions
        ``drawn`` for each message; ``expected``, as many as there are on average.
    retransmission_timeout_s
        Left out, it is a round trip, twice the latency.
    """

    plane: ClassVar[Plane] = "time"
    latency_s: float = Field(default=0.0, ge=0.0, le=LONGEST_S)
    overhead_bits: int = Field(default=0, ge=0, le=10**15)
    loss: float = Field(default=0.0, ge=0.0, le=0.99)
    packet_bits: int = Field(default=12_000, ge=1)
    retransmissions: Literal["drawn", "expected"] = "drawn"
    retransmission_timeout_s: float | None = Field(default=None, ge=0.0, le=LONGEST_S)

    @property
    def timeout_s(self) -> float:
        """How much later a message is there for each time that packets are sent again, s."""
        given = self.retransmission_timeout_s
        return 2.0 * self.latency_s if given is None else given

    @property
    def told(self) -> str:
        """What it costs, in words."""
        parts = [f"{self.latency_s:g} s of latency"]
        if self.overhead_bits:
            parts.append(f"{self.overhead_bits} bit more a message")
        if self.loss:
            parts.append(
                f"{100.0 * self.loss:g} % of packets of {self.packet_bits} bit lost, {self.retransmissions} "
                f"retransmissions after {self.timeout_s:g} s"
            )
        return ", ".join(parts)

    def delay_ns(self, repeats: float) -> int:
        """Return how long after its last bit a message is there if packets were sent again so often, ns."""
        return round((self.latency_s + repeats * self.timeout_s) * NS_PER_S)

    def journey(self, bits: int, stream: Stream, num_receivers: int = 1) -> Journey:
        """Return what a message of some bits needs; chance is that of this message alone.

        Examples
        --------
        >>> lossy = Transport(loss=0.2, latency_s=0.01, overhead_bits=100, retransmissions="expected")
        >>> lossy.journey(11_900, Stream(0))
        Journey(overhead_bits=100, resent_bits=3000, delay_ns=15000000)
        """
        total = bits + self.overhead_bits
        num_packets = ceil(total / self.packet_bits)
        if self.loss == 0.0 or not num_packets:
            return Journey(self.overhead_bits, 0, self.delay_ns(0))
        if self.retransmissions == "expected":
            again, repeats = self._expected(num_packets, num_receivers)
        else:
            again, repeats = self._drawn(num_packets, stream.generator(), num_receivers)
        return Journey(self.overhead_bits, round(total * again / num_packets), self.delay_ns(repeats))

    def _missing(self, times: int, num_receivers: int) -> float:
        """Return the probability that somebody has not got a packet that was sent so many times."""
        return float(-np.expm1(num_receivers * np.log1p(-(self.loss**times)))) if times else 1.0

    def _expected(self, num_packets: int, num_receivers: int) -> tuple[float, float]:
        """Return how many packets are sent again on average, and how many times some are."""
        again = repeats = 0.0
        missing, times = self._missing(1, num_receivers), 1
        while num_packets * missing >= _NEGLIGIBLE:
            again += missing
            repeats += float(-np.expm1(num_packets * np.log1p(-missing)))
            times += 1
            missing = self._missing(times, num_receivers)
        return num_packets * again, repeats

    def _drawn(
        self, num_packets: int, generator: np.random.Generator, num_receivers: int
    ) -> tuple[float, float]:
        """Return how many packets are sent again, and how many times some are."""
        again, times, left, before = 0, 0, num_packets, 1.0
        while left:
            again, times = again + left, times + 1
            missing = self._missing(times, num_receivers)
            left, before = int(generator.binomial(left, missing / before)), missing
        return float(again - num_packets), float(times - 1)
