"""What every codec keeps, run over each part's examples."""

import pytest
import torch
from torch import Tensor

from cosim.learning.codec import Codec, Encoded, Layout, Received, Sending
from cosim.parts import make
from cosim.testing.folded import each
from cosim.testing.selection import examples_of

CASES = examples_of(Codec)
FORMATS = (torch.float32, torch.float64, torch.bfloat16)
BLOCK = "base_model.model.transformer.h"
SHAPES = {
    f"{BLOCK}.0.attn.c_attn.lora_A.weight": (4, 12),
    f"{BLOCK}.0.attn.c_attn.lora_B.weight": (36, 4),
    f"{BLOCK}.1.attn.c_attn.lora_A.weight": (4, 12),
    f"{BLOCK}.1.attn.c_attn.lora_B.weight": (36, 4),
    "base_model.model.score.weight": (2, 5),
}
RATIOS = (None, 0.1, 0.37, 1.0)


def adapter(seed: int, dtype: torch.dtype, scale: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (scale * torch.randn(shape, generator=generator)).to(dtype) for name, shape in SHAPES.items()
    }


def sending(
    codec: Codec, seed: int, dtype: torch.dtype, sparsification_ratio: float | None = None
) -> Sending:
    """An adapter near the one both ends have, with a memory where the codec keeps one."""
    reference, step = adapter(seed, dtype), adapter(seed + 1, dtype, 0.1)
    return Sending(
        tensors={name: reference[name] + step[name] for name in reference},
        reference=reference,
        memory=adapter(seed + 2, dtype, 0.05) if codec.keeps_memory else None,
        sparsification_ratio=sparsification_ratio,
        seed=seed,
    )


def same(one: dict[str, Tensor] | None, two: dict[str, Tensor] | None) -> bool:
    """Whether tensors are the same to the bit."""
    if one is None or two is None:
        return one is two
    return list(one) == list(two) and all(
        one[name].dtype == two[name].dtype and torch.equal(one[name], two[name]) for name in one
    )


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    return {"rtol": 0.0, "atol": 4.0 * torch.finfo(dtype).eps}  # two roundings of numbers of about 4


@pytest.mark.parametrize("settings", CASES)
@each("dtype", FORMATS)
class TestEveryCodec:
    @each("sparsification_ratio", RATIOS)
    def test_counts_the_bits_it_serialises(
        self, settings: dict[str, object], dtype: torch.dtype, sparsification_ratio: float | None
    ) -> None:
        codec = make(Codec, settings)
        layout = Layout(SHAPES, 8 * dtype.itemsize)
        for seed in range(3):
            received = codec.transmit(sending(codec, seed, dtype, sparsification_ratio))
            foreseen = codec.bits(layout, sparsification_ratio)
            assert foreseen is None or foreseen == received.bits
            assert received.bits <= codec.max_bits(layout, sparsification_ratio)
            assert len(received.payload) == -(-received.bits // 8)
            unused = 8 * len(received.payload) - received.bits
            assert not unused or received.payload[-1] & ((1 << unused) - 1) == 0

    @each("sparsification_ratio", RATIOS)
    def test_what_is_received_is_what_the_payload_says(
        self, settings: dict[str, object], dtype: torch.dtype, sparsification_ratio: float | None
    ) -> None:
        codec = make(Codec, settings)
        given = sending(codec, 5, dtype, sparsification_ratio)
        received = codec.transmit(given)
        layout = Layout.of(given.tensors)
        decoded = codec.decode(received.payload, layout, given.reference, sparsification_ratio)
        assert same(decoded, received.tensors)

    def test_keeps_names_shapes_and_formats(self, settings: dict[str, object], dtype: torch.dtype) -> None:
        codec = make(Codec, settings)
        received = codec.transmit(sending(codec, 1, dtype))
        for tensors in (received.tensors, received.memory, received.mask):
            if tensors is not None:
                assert {name: tuple(one.shape) for name, one in tensors.items()} == SHAPES
                assert all(one.dtype == dtype for one in tensors.values())
                assert not any(one.requires_grad for one in tensors.values())

    def test_what_is_held_back_and_what_is_received_are_what_was_to_be_sent(
        self, settings: dict[str, object], dtype: torch.dtype
    ) -> None:
        codec = make(Codec, settings)
        given = sending(codec, 2, dtype)
        for _ in range(3):
            received = codec.transmit(given)
            assert (received.memory is None) is not codec.keeps_memory
            if received.memory is None or given.memory is None:
                return
            for name, tensor in given.tensors.items():
                torch.testing.assert_close(
                    received.tensors[name] + received.memory[name],
                    tensor + given.memory[name],
                    **tolerance(dtype),
                )
            given = Sending(given.tensors, given.reference, received.memory, seed=given.seed)

    def test_the_first_sending_remembers_nothing(
        self, settings: dict[str, object], dtype: torch.dtype
    ) -> None:
        codec = make(Codec, settings)
        given = sending(codec, 4, dtype)
        zero = {name: torch.zeros_like(tensor) for name, tensor in given.tensors.items()}
        at_first = codec.transmit(Sending(given.tensors, given.reference, None, seed=4))
        told_so = codec.transmit(
            Sending(given.tensors, given.reference, zero if codec.keeps_memory else None, seed=4)
        )
        assert as_plain(at_first) == as_plain(told_so)

    def test_the_same_sending_is_received_the_same(
        self, settings: dict[str, object], dtype: torch.dtype
    ) -> None:
        codec = make(Codec, settings)
        before = torch.get_rng_state()
        one, two = (codec.transmit(sending(codec, 3, dtype)) for _ in range(2))
        assert as_plain(one) == as_plain(two)
        assert same(one.tensors, two.tensors)
        assert same(one.memory, two.memory)
        assert torch.equal(before, torch.get_rng_state())

    def test_another_seed_is_another_draw_where_it_draws(
        self, settings: dict[str, object], dtype: torch.dtype
    ) -> None:
        codec = make(Codec, settings)
        given = sending(codec, 3, dtype, 0.3)
        payloads = {
            codec.transmit(
                Sending(given.tensors, given.reference, given.memory, given.sparsification_ratio, seed)
            ).payload
            for seed in range(5)
        }
        assert (len(payloads) > 1) is codec.needs_chance

    def test_leaves_what_it_was_given(self, settings: dict[str, object], dtype: torch.dtype) -> None:
        codec = make(Codec, settings)
        given, untouched = (sending(codec, 6, dtype) for _ in range(2))
        received = codec.transmit(given)
        for tensor in (received.memory or {}).values():
            tensor.fill_(7.0)
        assert same(given.tensors, untouched.tensors)
        assert same(given.reference, untouched.reference)
        assert same(given.memory, untouched.memory)

    def test_without_a_reference_it_sends_or_says_that_it_cannot(
        self, settings: dict[str, object], dtype: torch.dtype
    ) -> None:
        codec = make(Codec, settings)
        activations = {"activations": torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(1))}
        activations = {name: tensor.to(dtype) for name, tensor in activations.items()}
        if codec.needs_reference:
            with pytest.raises(ValueError, match="reference"):
                codec.transmit(Sending(activations, seed=1))
            return
        received = codec.transmit(Sending(activations, seed=1))
        assert received.tensors["activations"].shape == (2, 7, 12)
        assert received.bits <= codec.max_bits(Layout.of(activations))

    def test_measures_what_it_says_it_measures(self, settings: dict[str, object], dtype: torch.dtype) -> None:
        codec = make(Codec, settings)
        figures = codec.transmit(sending(codec, 7, dtype)).figures
        assert tuple(figures) == codec.figure_names
        assert all(isinstance(value, float) for value in figures.values())


def as_plain(received: Received) -> Encoded:
    return Encoded(received.payload, received.bits, received.figures)


@pytest.mark.parametrize("settings", CASES)
def test_one_that_draws_must_be_given_a_seed(settings: dict[str, object]) -> None:
    codec = make(Codec, settings)
    given = sending(codec, 0, torch.float32)
    if codec.needs_chance:
        with pytest.raises(ValueError, match="seed"):
            codec.transmit(Sending(given.tensors, given.reference))
