"""What there is to say of one span: the link budget of a transfer, or the device of a computation."""

from dataclasses import dataclass

from cosim.compute.device import Device
from cosim.radio.budget import LinkBudget
from cosim.radio.grant import Grant
from cosim.radio.slots.spent import Spent
from cosim.units import Floats


@dataclass(frozen=True)
class Span:
    """One row of ``spans.parquet``."""

    id: int
    parents: tuple[int, ...]
    kind: str
    name: str
    actor: str
    peer: str
    round: int
    local_step: int
    asked_ns: int
    start_ns: int
    end_ns: int
    bits: float
    flop: float
    energy_j: float
    node: str
    task: str = ""
    delivered: bool = True
    resent_bits: float = 0.0
    participants: tuple[str, ...] = ()

    @property
    def sender(self) -> str:
        """Who acted; how many clients, where several sent at once."""
        return self.actor or _together(self.participants)

    @property
    def receiver(self) -> str:
        """Who received; how many clients, where several did; nobody of what is computed."""
        return self.peer or (_together(self.participants) if self.participants else "")

    @property
    def waited_ns(self) -> int:
        """From being asked for to the start, ns."""
        return self.start_ns - self.asked_ns

    @property
    def duration_ns(self) -> int:
        """From start to end, ns."""
        return self.end_ns - self.start_ns


def _together(clients: tuple[str, ...]) -> str:
    return clients[0] if len(clients) == 1 else f"{len(clients)} clients"


@dataclass(frozen=True, eq=False)
class Stretch:
    """A part of a transfer over which grant and air stayed the same; without a subchannel it paused.

    Attributes
    ----------
    start_ns, end_ns
        From when to when, ns.
    grant
        Subchannels and power.
    block_ns
        How long a gain holds, ns; None where it never changes.
    budgets
        How what each subchannel can carry to or from this client at the start comes about; at an
        adapted rate, of one client alone, that adds up to the grant's.
    client
        Whose budgets these are: where several receive, of the one with the lowest rate at the start.
    rates_bit_per_s
        The rate in each coherence block crossed, shape (num_blocks,).
    """

    start_ns: int
    end_ns: int
    grant: Grant
    block_ns: int | None
    budgets: tuple[LinkBudget, ...]
    client: str
    rates_bit_per_s: Floats


@dataclass(frozen=True, eq=False)
class TransferExplanation:
    """A transfer over a link, or at once over a link that is free.

    Attributes
    ----------
    span, parents
        The transfer, and what it waited for.
    link
        Which link it went over.
    is_modelled
        Whether the link takes time; if not there is no stretch.
    stretches
        One for as long as grant and air stayed the same; none of a transfer with several
        senders, and of one with several receivers only if the scheme says so: at the rate of the weakest.
    expected_end_ns
        When the bits, those sent again too, have drained at these rates, ns: the end of
        the span, if record and air agree.
    is_summed
        Whether what several sent was summed in the air: there is no rate then, and no stretch.
    has_unrecorded_air
        Whether clients of other cells were heard, or decisions could set the phases of a surface and
        the record has none: there is no stretch.
    is_sounding
        Whether it is pilots, or a report of the channel, which have no grant: there is no stretch.
    overhead_bits
        Bits that were sent along with the payload.
    is_latency
        Whether it is the time between the last bit of another transfer and its arrival: there is no stretch.
    is_silent
        Whether the client sent nothing, as the channel allowed less than its rate: there is no stretch.
    slots
        Of one that went as transport blocks, slot by slot, what its slots went to: there is no rate to
        explain, and no stretch.
    """

    span: Span
    parents: tuple[Span, ...]
    link: str
    is_modelled: bool
    stretches: tuple[Stretch, ...]
    expected_end_ns: int
    is_summed: bool = False
    has_unrecorded_air: bool = False
    is_silent: bool = False
    is_sounding: bool = False
    overhead_bits: int = 0
    is_latency: bool = False
    slots: Spent | None = None


@dataclass(frozen=True)
class ComputeExplanation:
    """A computation on a device."""

    span: Span
    parents: tuple[Span, ...]
    device: Device
    expected_end_ns: int


Explanation = TransferExplanation | ComputeExplanation
