"""Codecs: what is sent instead of tensors, bit by bit, and what the receiver makes of it.

A codec turns named tensors into bytes and back. Its bits are counted exactly
and are those of the bytes, so what a transfer is charged is what it carries;
the receiver works with what it decodes, so the loss shows what is lost. What an
error feedback holds back stays with the sender and is added before the next
sending. Names hold no torch until something is sent.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from cosim.parts import Part

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Tensors = dict[str, "Tensor"]

SEED_BITS = 32
"""Bits of a seed that one end draws and tells the other."""


class Layout(NamedTuple):
    """What is to be sent, before it is computed; sender and receiver both know it.

    Attributes
    ----------
    shapes
        Shape of each tensor by its name, in the order in which they are sent.
    bits_per_number
        Width of the tensors' own numbers: 16 (bfloat16), 32 or 64.

    Examples
    --------
    >>> Layout({"lora_A": (4, 64), "lora_B": (192, 4)}, 32).dense_bits
    32768
    """

    shapes: Mapping[str, tuple[int, ...]]
    bits_per_number: int = 32

    @property
    def sizes(self) -> dict[str, int]:
        """How many numbers each tensor holds, by name."""
        return {name: prod(shape) for name, shape in self.shapes.items()}

    @property
    def num_numbers(self) -> int:
        """How many numbers there are in all."""
        return sum(self.sizes.values())

    @property
    def dense_bits(self) -> int:
        """Bits of all numbers as they are."""
        return self.bits_per_number * self.num_numbers

    @property
    def dtype(self) -> "torch.dtype":
        """The tensors' number format."""
        import torch

        return {16: torch.bfloat16, 32: torch.float32, 64: torch.float64}[self.bits_per_number]

    @classmethod
    def of(cls, tensors: Tensors) -> "Layout":
        """Return the layout of tensors that are there, all of one number format."""
        formats = {str(tensor.dtype).removeprefix("torch."): tensor.dtype for tensor in tensors.values()}
        if len(formats) != 1 or not formats.keys() <= {"bfloat16", "float32", "float64"}:
            raise ValueError(
                "tensors sent together are all of one format, bfloat16, float32 or float64, "
                f"not {', '.join(sorted(formats))}"
            )
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        return cls(shapes, 8 * formats.popitem()[1].itemsize)


class Sending(NamedTuple):
    """What a sender gives its codec.

    Attributes
    ----------
    tensors
        What the receiver should have.
    reference
        What both ends have already, by the same names: for an adapter the one
        the round began from; None where there is nothing, as for activations.
    memory
        What earlier sendings held back, as :attr:`Received.memory` gave it; None at the first.
    sparsification_ratio
        Share of the dense bits the numbers may take, as an allocator decided; None
        where none did, and the codec's own settings hold. Masks and indices come on top.
    seed
        Of this sending's own chance, for a codec that draws.
    common_seed
        Of what all senders of a round draw alike.
    """

    tensors: Tensors
    reference: Tensors | None = None
    memory: Tensors | None = None
    sparsification_ratio: float | None = None
    seed: int | None = None
    common_seed: int | None = None


@dataclass(frozen=True)
class Encoded:
    """What travels: ``bits`` of ``payload``, whose last byte is filled up with zeros."""

    payload: bytes
    bits: int
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Received:
    """What a sending comes to.

    Attributes
    ----------
    tensors
        What the receiver has: whole tensors of the names, shapes and number format that were
        sent, on the sender's device.
    payload, bits
        What travelled; ``len(payload) == ceil(bits / 8)``.
    memory
        What the sender holds back for the next time; None without error feedback.
    figures
        What the sender measured, by the names of :attr:`Codec.figure_names`.
    mask
        Where ``tensors`` was sent (1) and where the receiver keeps what it had
        (0), for aggregators that average over senders only; None if all was sent,
        or the difference is of no account.
    numbers
        What a chain of steps made of the update; None for a codec alone.
    """

    tensors: Tensors
    payload: bytes
    bits: int
    memory: Tensors | None = None
    figures: dict[str, float] = field(default_factory=dict)
    mask: Tensors | None = None
    numbers: Tensors | None = None


class Encoding(ABC):
    """What tensors travel as: a codec, or steps on an update with a codec behind them.

    It says how many bits that takes, exactly where no value decides them, and what the
    receiver has in the end. Sending is pure: it writes into nothing it is given and draws
    from the seeds of a :class:`Sending` alone.
    """

    if TYPE_CHECKING:
        kind: str

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return self.kind

    @property
    def obeys_ratio(self) -> bool:
        """Whether it obeys the sparsification ratio of an allocator."""
        return False

    @property
    def takes_bits(self) -> bool:
        """Whether a decision may say with how many bits it sends a number."""
        return False

    def with_bits(self, bits: int) -> Self:
        """Return the encoding with so many bits a number."""
        return self

    @property
    def needs_chance(self) -> bool:
        """Whether it draws, and so needs a seed."""
        return False

    @property
    def needs_common_chance(self) -> bool:
        """Whether it draws what all senders of a round draw alike, and so needs a common seed."""
        return False

    @property
    def keeps_common_chance(self) -> bool:
        """Whether what all draw alike is drawn once for the run, and not in every round."""
        return False

    @property
    def is_relayed(self) -> bool:
        """Whether the server hands on what it received, and clients restore the average themselves."""
        return False

    @property
    def needs_reference(self) -> bool:
        """Whether it works on the difference to something both ends have: of no use for activations."""
        return False

    @property
    def turns_factors(self) -> bool:
        """Whether the receiver has other factors than the sender, which do not go with another's."""
        return False

    @property
    def figure_names(self) -> tuple[str, ...]:
        """What its sender measures."""
        return ()

    @property
    def keeps_memory(self) -> bool:
        """Whether what is held back is added to what is sent next: error feedback."""
        return False

    @property
    def is_transparent(self) -> bool:
        """Whether the receiver always has the very tensors, and nothing need be computed for it."""
        return False

    @property
    def has_mask(self) -> bool:
        """Whether what is received says where it was sent."""
        return False

    @abstractmethod
    def bits(self, layout: Layout, sparsification_ratio: float | None = None) -> int | None:
        """Return the exact bits of a payload; None where they depend on the values."""

    def max_bits(self, layout: Layout, sparsification_ratio: float | None = None) -> int:
        """Return bits that no payload exceeds; a codec whose bits depend on values says how many."""
        bits = self.bits(layout, sparsification_ratio)
        if bits is None:
            raise NotImplementedError(f"{type(self).__name__} must say how many bits it takes at most")
        return bits

    def least_ratio(self, layout: Layout) -> float:
        """Return the least sparsification ratio that sends anything of a layout; zero without a ratio."""
        return 0.0

    @property
    def is_summed(self) -> bool:
        """Whether the server hands on a sum, of which it and every client restore the average once."""
        return self.is_relayed and self.is_summable

    def numbers(self, sending: Sending) -> Tensors:
        """Return :attr:`Received.numbers` alone; not where anything is held back."""
        raise NotImplementedError(f"{type(self).__name__} hands on no numbers")

    def why_unsendable(self, layout: Layout) -> str | None:
        """Return why a layout cannot be sent, with a way out; None where it can."""
        return None

    def relayed_bits(self, layout: Layout, num_senders: int) -> int:
        """Return the bits of what the server hands on: a sum and a seed, or all that it received."""
        if self.is_summable:
            return self.air_layout(layout).dense_bits + SEED_BITS
        return max(num_senders * self.max_bits(layout), SEED_BITS)

    def rebuild_flop(self, layout: Layout, num_senders: int) -> int:
        """Return the FLOP of a client to restore the average from what is handed on, if anything is."""
        if not self.is_relayed:
            return 0
        return self.decode_flop(layout) * (1 if self.is_summable else num_senders)

    def encode_flop(self, layout: Layout) -> int:
        """Return the FLOP of the sender to encode once; a codec is charged none, as in its sources."""
        return 0

    def decode_flop(self, layout: Layout) -> int:
        """Return the FLOP of the receiver to decode once."""
        return 0

    def held_numbers(self, layout: Layout) -> int:
        """Return how many numbers the sender holds back from one sending to the next, where charged."""
        return 0

    def air_layout(self, layout: Layout) -> Layout:
        """Return the layout of the numbers that go over the air, where a medium adds them up."""
        return layout

    def of_sum(self, numbers: Tensors, reference: Tensors, common_seed: int | None) -> Tensors:
        """Return what the receiver has of a sum of :attr:`Received.numbers`, beside what all began from."""
        raise NotImplementedError(f"{type(self).__name__} goes over the air as it is")

    @property
    def is_summable(self) -> bool:
        """Whether what several send may be added up on its way, and read as the sum of what they meant."""
        return self.is_transparent

    @abstractmethod
    def transmit(self, sending: Sending) -> Received:
        """Return what the receiver has in the end, and what stays with the sender.

        Raises
        ------
        ValueError
            If it draws and no seed is given, needs a reference and there is none, or the
            tensors are of several number formats.
        """

    def _refuse(self, sending: Sending) -> None:
        if self.needs_chance and sending.seed is None:
            raise ValueError(f"codec {self.kind!r} draws: it needs a seed")
        if self.needs_reference and sending.reference is None:
            raise ValueError(f"codec {self.kind!r} sends differences: it needs a reference")


class Codec(Part, Encoding):
    """How tensors travel.

    A part says how numbers become bytes (``encode``), how the receiver reads
    them (``decode``), and how many bits that takes. Both directions are pure:
    they write into nothing they are given and draw from ``Sending.seed`` alone.

    Attributes
    ----------
    obeys_ratio
        Whether it obeys the sparsification ratio of an allocator.
    needs_chance
        Whether it draws, and so needs a seed.
    needs_reference
        Whether it works on the difference to something both ends have, and so is
        of no use for activations and gradients.
    needs_factors
        Whether it is about the factors of LoRA adapters, and sends nothing sensible of other tensors.
    turns_factors
        Whether the receiver has other factors than the sender, of nearly the same
        products: they do not go with those of another sender.
    """

    obeys_ratio: ClassVar[bool] = False
    needs_chance: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False
    needs_factors: ClassVar[bool] = False
    turns_factors: ClassVar[bool] = False

    @abstractmethod
    def encode(self, sending: Sending) -> Encoded:
        """Return what travels for ``sending.tensors``, to which a memory is already added."""

    @abstractmethod
    def decode(
        self,
        payload: bytes,
        layout: Layout,
        reference: Tensors | None = None,
        sparsification_ratio: float | None = None,
    ) -> Tensors:
        """Return the receiver's tensors, on the CPU, from what travelled and what it knew before."""

    def transmit(self, sending: Sending) -> Received:
        """Return what the receiver has in the end, and what stays with the sender.

        With error feedback, received and memory add up to the tensors and the
        memory of before, up to the rounding of one subtraction and one addition.

        Raises
        ------
        ValueError
            If the codec draws and no seed is given, needs a reference and there is
            none, or the tensors are of several number formats.
        """
        self._refuse(sending)
        wanted = {name: tensor.detach() for name, tensor in sending.tensors.items()}
        layout = Layout.of(wanted)
        if self.keeps_memory and sending.memory is not None:
            wanted = {name: tensor + sending.memory[name] for name, tensor in wanted.items()}
        encoded = self.encode(sending._replace(tensors=wanted, memory=None))
        decoded = self.decode(encoded.payload, layout, sending.reference, sending.sparsification_ratio)
        received = {name: tensor.to(wanted[name].device) for name, tensor in decoded.items()}
        memory = None
        if self.keeps_memory:
            memory = {name: tensor - received[name] for name, tensor in wanted.items()}
        return Received(received, encoded.payload, encoded.bits, memory, encoded.figures)


def difference(sending: Sending) -> Tensors:
    """Return what the receiver lacks: the tensors less the reference, where there is one."""
    if sending.reference is None:
        return sending.tensors
    return {name: tensor - sending.reference[name] for name, tensor in sending.tensors.items()}


def added(difference: Tensors, reference: Tensors | None) -> Tensors:
    """Return the receiver's tensors, on the CPU, from a difference to what it had."""
    if reference is None:
        return difference
    return {name: reference[name].detach().cpu() + tensor for name, tensor in difference.items()}
