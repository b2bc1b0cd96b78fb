"""Steps on an update with a codec behind them, as one encoding."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np

from cosim.learning.codec import Codec, Encoding, Layout, Received, Sending, difference
from cosim.learning.codec.packing import packed_rows, unpacked_rows
from cosim.learning.update import Tensors, UpdateStep
from cosim.parts import OneOf, Table
from cosim.rng import Stream, stream
from cosim.units import Ints

if TYPE_CHECKING:
    from torch import Tensor


class Chain(Table, Encoding):
    """What happens to an update, step by step, and what the numbers that come of it travel as.

    First in the payload are the whole numbers that steps packed, then what the codec makes of the numbers.
    Where all steps keep the layout the codec is given whole tensors and the reference, as it
    is without a chain; else it is given the numbers alone.
    """

    kind: Literal["chain"] = "chain"
    steps: Annotated[tuple[UpdateStep, ...], OneOf(UpdateStep)]
    codec: Annotated[Codec, OneOf(Codec)]

    @property
    def title(self) -> str:
        """The steps and the codec, in their order."""
        return ", ".join([*(step.kind for step in self.steps), self.codec.kind])

    @property
    def keeps_layout(self) -> bool:
        """Whether the codec is given tensors of the names and shapes of the update."""
        return all(step.keeps_layout for step in self.steps)

    @property
    def obeys_ratio(self) -> bool:
        """Whether the codec does."""
        return self.codec.obeys_ratio

    @property
    def takes_bits(self) -> bool:
        """Whether a step does; not where what is lost waits, which may grow at another width."""
        return any(step.takes_bits for step in self.steps) and not self.keeps_memory

    def with_bits(self, bits: int) -> Self:
        """Return the chain with so many bits a number."""
        return self.model_copy(update={"steps": tuple(step.with_bits(bits) for step in self.steps)})

    @property
    def needs_chance(self) -> bool:
        """Whether a step draws for itself, or the codec does."""
        return self.codec.needs_chance or any(step.chance == "own" for step in self.steps)

    @property
    def needs_common_chance(self) -> bool:
        """Whether a step draws what all draw alike."""
        return any(step.chance in ("common", "fixed") for step in self.steps)

    @property
    def keeps_common_chance(self) -> bool:
        """Whether what all draw alike is drawn once for the run."""
        return any(step.chance == "fixed" for step in self.steps)

    @property
    def is_relayed(self) -> bool:
        """Whether a step says so."""
        return any(step.is_relayed for step in self.steps)

    @property
    def turns_factors(self) -> bool:
        """Whether the codec does."""
        return self.codec.turns_factors

    @property
    def figure_names(self) -> tuple[str, ...]:
        """What the codec measures."""
        return self.codec.figure_names

    @property
    def keeps_memory(self) -> bool:
        """Whether a step has what is lost behind it wait for the next update."""
        return any(step.holds_back for step in self.steps)

    @property
    def has_mask(self) -> bool:
        """Whether the codec says where it sent."""
        return self.codec.has_mask

    @property
    def is_summable(self) -> bool:
        """Whether every step says so, and the codec changes nothing."""
        return self.codec.is_summable and all(step.is_summable for step in self.steps)

    def air_layout(self, layout: Layout) -> Layout:
        """Return the layout of the numbers behind all steps."""
        for step in self.steps:
            layout = step.layout(layout)
        return layout

    def bits(self, layout: Layout, sparsification_ratio: float | None = None) -> int | None:
        """Return the bits of what is packed and of the codec's payload."""
        behind = self.codec.bits(self.air_layout(layout), sparsification_ratio)
        return None if behind is None else self._packed_bits(layout) + behind

    def max_bits(self, layout: Layout, sparsification_ratio: float | None = None) -> int:
        """Return the bits of what is packed and the most of the codec's payload."""
        return self._packed_bits(layout) + self.codec.max_bits(self.air_layout(layout), sparsification_ratio)

    def least_ratio(self, layout: Layout) -> float:
        """Return the codec's."""
        return self.codec.least_ratio(self.air_layout(layout))

    def why_unsendable(self, layout: Layout) -> str | None:
        """Return the first reason that a step has."""
        reasons = (step.why_unsendable(given) for step, given in self._given(layout))
        return next((why for why in reasons if why is not None), None)

    def encode_flop(self, layout: Layout) -> int:
        """Return the sum over the steps; one that holds back decodes what it sent, too."""
        given = list(self._given(layout))
        flop = sum(step.encode_flop(one) for step, one in given)
        for number, (step, _) in enumerate(given):
            if step.holds_back:
                flop += sum(later.decode_flop(one) for later, one in given[number + 1 :])
        return flop

    def decode_flop(self, layout: Layout) -> int:
        """Return the sum over the steps."""
        return sum(step.decode_flop(one) for step, one in self._given(layout))

    def held_numbers(self, layout: Layout) -> int:
        """Return the numbers that steps hold back."""
        return sum(one.num_numbers for step, one in self._given(layout) if step.holds_back)

    def numbers(self, sending: Sending) -> Tensors:
        """Return the numbers that are sent, alone; not for steps that hold back."""
        self._refuse(sending)
        numbers = {name: tensor.detach() for name, tensor in difference(sending).items()}
        for number, step in enumerate(self.steps):
            chance = self._chance(number, sending.seed, sending.common_seed)
            numbers = step.apply(numbers, chance).numbers
        return numbers

    def transmit(self, sending: Sending) -> Received:
        """Return what the receiver has in the end, what stays with the sender, and the numbers sent.

        Without a reference the tensors are the update.
        """
        self._refuse(sending)
        update = {name: tensor.detach() for name, tensor in difference(sending).items()}
        layout, numbers, wanted = Layout.of(update), update, update
        packed: list[Sequence[Ints]] = []
        for number, step in enumerate(self.steps):
            if step.holds_back:
                held = sending.memory or {}
                wanted = numbers = {name: one + held[name] if held else one for name, one in numbers.items()}
            applied = step.apply(numbers, self._chance(number, sending.seed, sending.common_seed))
            numbers = applied.numbers
            packed.append(applied.packed)
        inner = self.codec.transmit(self._inner(numbers, sending))
        received, what_arrived = inner.tensors, inner.tensors
        if not self.keeps_layout:
            what_arrived = self._restored(inner.tensors, packed, layout, sending.seed, sending.common_seed)
            what_arrived = {name: one.to(update[name].device) for name, one in what_arrived.items()}
            received = _added(what_arrived, sending.reference)
        elif sending.reference is not None and self.keeps_memory:
            what_arrived = {name: one - sending.reference[name] for name, one in received.items()}
        memory = (
            {name: one - what_arrived[name] for name, one in wanted.items()} if self.keeps_memory else None
        )
        payload, bits = self._payload(packed, layout, inner)
        return Received(received, payload, bits, memory, inner.figures, inner.mask, numbers)

    def decode(
        self,
        payload: bytes,
        layout: Layout,
        reference: Tensors | None = None,
        sparsification_ratio: float | None = None,
        seed: int | None = None,
        common_seed: int | None = None,
    ) -> Tensors:
        """Return the receiver's tensors, on the CPU, from what travelled and what it knew before."""
        bits, rows = self._packed_bits(layout), list(self._rows(layout))
        content = np.unpackbits(np.frombuffer(payload, dtype=np.uint8))
        found = unpacked_rows(np.packbits(content[:bits]).tobytes(), [one for some in rows for one in some])
        packed = [[found.pop(0) for _ in some] for some in rows]
        rest = payload if not bits else np.packbits(content[bits:]).tobytes()
        if self.keeps_layout:
            return self.codec.decode(rest, layout, reference, sparsification_ratio)
        numbers = self.codec.decode(rest, self.air_layout(layout), None, sparsification_ratio)
        update = self._restored(numbers, packed, layout, seed, common_seed)
        return _added(update, None if reference is None else {n: one.cpu() for n, one in reference.items()})

    def of_sum(self, numbers: Tensors, reference: Tensors, common_seed: int | None) -> Tensors:
        """Return what the receiver has of a sum of numbers, beside the reference of all who sent."""
        restored = self._restored(numbers, [()] * len(self.steps), Layout.of(reference), None, common_seed)
        return _added(restored, reference)

    def _inner(self, numbers: Tensors, sending: Sending) -> Sending:
        """Return what the codec is given."""
        reference = sending.reference if self.keeps_layout else None
        tensors = _added(numbers, reference)
        return Sending(tensors, reference, None, sending.sparsification_ratio, sending.seed)

    def _restored(
        self,
        numbers: "Mapping[str, Tensor]",
        packed: Sequence[Sequence[Ints]],
        layout: Layout,
        seed: int | None,
        common_seed: int | None,
    ) -> Tensors:
        """Return the update that the receiver has, step by step backwards."""
        restored = dict(numbers)
        for number, (step, given) in reversed(list(enumerate(self._given(layout)))):
            restored = step.restore(restored, packed[number], given, self._chance(number, seed, common_seed))
        return restored

    def _given(self, layout: Layout) -> Iterator[tuple[UpdateStep, Layout]]:
        """Return each step with the layout of what it is given."""
        for step in self.steps:
            yield step, layout
            layout = step.layout(layout)

    def _rows(self, layout: Layout) -> Iterator[tuple[tuple[int, int], ...]]:
        for step, given in self._given(layout):
            yield step.rows(given)

    def _packed_bits(self, layout: Layout) -> int:
        return sum(count * width for rows in self._rows(layout) for count, width in rows)

    def _payload(
        self, packed: Sequence[Sequence[Ints]], layout: Layout, inner: Received
    ) -> tuple[bytes, int]:
        bits = self._packed_bits(layout)
        if not bits:
            return inner.payload, inner.bits
        widths = [width for rows in self._rows(layout) for _, width in rows]
        rows = packed_rows(zip((one for some in packed for one in some), widths, strict=True))
        pieces = ((rows, bits), (inner.payload, inner.bits))
        content = [np.unpackbits(np.frombuffer(one, dtype=np.uint8), count=count) for one, count in pieces]
        return np.packbits(np.concatenate(content)).tobytes(), bits + inner.bits

    def _chance(self, number: int, seed: int | None, common_seed: int | None) -> Stream | None:
        """Return the chance of a step; None where it draws nothing, or its own is not known."""
        seeds = {"none": None, "own": seed, "common": common_seed, "fixed": common_seed}
        given = seeds[self.steps[number].chance]
        return None if given is None else stream(given, "update step", number)


def _added(update: Tensors, reference: Tensors | None) -> Tensors:
    if reference is None:
        return update
    return {name: reference[name].detach() + one.to(reference[name]) for name, one in update.items()}


def encoding(steps: tuple[UpdateStep, ...], codec: Codec) -> Encoding:
    """Return steps with a codec behind them; without steps, the codec."""
    return Chain(steps=steps, codec=codec) if steps else codec


def codec_of(encoding: Encoding) -> Codec:
    """Return the codec behind the steps; the encoding itself where there are none."""
    found = encoding.codec if isinstance(encoding, Chain) else encoding
    assert isinstance(found, Codec)
    return found


def why_unfit(steps: Sequence[UpdateStep], codec: Codec) -> str | None:
    """Return why steps and codec do not go together, with a way out; None where they do."""
    holding = [number for number, step in enumerate(steps) if step.holds_back]
    for number, step in enumerate(steps):
        later = steps[number + 1 :]
        if step.is_last and (later or not codec.is_transparent):
            other = repr(later[0].kind) if later else f"adapter_codec {codec.kind!r}"
            return (
                f"{step.kind!r} says how each number travels, and {other} behind it has none left to work "
                f"on; put {step.kind!r} last, with adapter_codec = {{ kind = 'none' }}"
            )
        if step.holds_back and holding[0] != number:
            return (
                f"{step.kind!r} is there twice, and one holds back all that is lost behind it; leave one out"
            )
        if holding and number > holding[0] and step.noise_std > 0.0:
            return (
                f"{step.kind!r} behind {steps[holding[0]].kind!r} would be taken back with the next update; "
                f"put {step.kind!r} in front of it"
            )
        if step.chance == "common" and any(other.chance == "fixed" for other in steps):
            fixed = next(other.kind for other in steps if other.chance == "fixed")
            return (
                f"{fixed!r} draws once for the run, and {step.kind!r} beside it in every round; let "
                f"{fixed!r} draw in every round, too (seeds = 'fresh')"
            )
        if holding and number > holding[0] and not step.loses_a_part:
            return (
                f"what {step.kind!r} as it is set loses may be more than the update, and behind "
                f"{steps[holding[0]].kind!r} it would grow from round to round; "
                f"give it {step.less_lost}"
            )
    if steps and codec.keeps_memory:
        return (
            f"adapter_codec {codec.kind!r} holds back what it does not send, which belongs into the chain; "
            "set its error_feedback to false, and put { kind = 'residual' } where it is to begin"
        )
    if (codec.needs_reference or codec.needs_factors) and not all(step.keeps_layout for step in steps):
        changing = next(step.kind for step in steps if not step.keeps_layout)
        return (
            f"adapter_codec {codec.kind!r} needs the tensors of the update, and {changing!r} sends numbers "
            "of another layout; take a codec such as 'none' or 'float16'"
        )
    return None
