"""What every update step keeps, run over each part's examples."""

import pytest
import torch
from torch import Tensor

from cosim.learning.chain import Chain, why_unfit
from cosim.learning.codec import Codec, Layout, Sending
from cosim.learning.codec.none import Plain
from cosim.learning.update import UpdateStep
from cosim.parts import make
from cosim.rng import stream
from cosim.testing.folded import each
from cosim.testing.selection import examples_of

CASES = examples_of(UpdateStep)
SHAPES = {"h.0.q.lora_A.weight": (3, 12), "h.0.q.lora_B.weight": (20, 3), "score.weight": (2, 5)}
SIZE = 106
CODECS = ("none", "float16", "qsgd")


def update(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}


def restored(step: UpdateStep, numbers: dict[str, Tensor], packed=(), seed: int = 1) -> dict[str, Tensor]:
    return step.restore(numbers, packed, Layout(SHAPES, 32), stream(seed))


def furthest(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    return max(float((one[name] - two[name]).abs().max()) for name in one)


@pytest.mark.parametrize("settings", CASES)
class TestEveryUpdateStep:
    def test_what_goes_on_has_the_layout_it_says(self, settings: dict[str, object]) -> None:
        for dtype in (torch.float32, torch.float64):
            step, layout = make(UpdateStep, settings), Layout(SHAPES, 8 * dtype.itemsize)
            applied = step.apply(update(0, dtype), stream(1))
            assert Layout.of(applied.numbers) == step.layout(layout)
            assert step.keeps_layout is (step.layout(layout) == layout)
            rows = step.rows(layout)
            assert [len(row) for row in applied.packed] == [count for count, _ in rows]
            for row, (_, width) in zip(applied.packed, rows, strict=True):
                assert 0 <= row.min() <= row.max() < 2**width
            found = step.restore(applied.numbers, applied.packed, layout, stream(1))
            assert Layout.of(found) == layout

    def test_it_draws_what_it_says_and_nothing_global(self, settings: dict[str, object]) -> None:
        step, before = make(UpdateStep, settings), torch.get_rng_state()
        given, untouched = update(0), update(0)
        one, same, other = (step.apply(given, stream(seed)) for seed in (1, 1, 2))
        assert furthest(one.numbers, same.numbers) == 0.0
        differs = furthest(one.numbers, other.numbers) > 0.0 or any(
            (left != right).any() for left, right in zip(one.packed, other.packed, strict=True)
        )
        assert differs is (step.chance != "none")
        assert furthest(given, untouched) == 0.0
        assert torch.equal(before, torch.get_rng_state())

    def test_a_sum_is_restored_to_the_sum_where_it_says_so(self, settings: dict[str, object]) -> None:
        step = make(UpdateStep, settings)
        if not step.is_summable:
            return
        one, two = (step.apply(update(seed), stream(1)).numbers for seed in (0, 1))
        assert not step.apply(update(0), stream(1)).packed
        both = restored(step, {name: 0.25 * one[name] + 0.75 * two[name] for name in one})
        left, right = restored(step, one), restored(step, two)
        apart = {name: 0.25 * left[name] + 0.75 * right[name] for name in left}
        assert furthest(both, apart) < 1e-5

    def test_error_feedback_catches_up_where_it_says_so(self, settings: dict[str, object]) -> None:
        step, lost, given = make(UpdateStep, settings), 0.0, update(3)
        assert step.noise_std or step.loses_a_part or step.less_lost  # the way out, in a message
        if step.noise_std or not step.loses_a_part:
            return
        for seed in range(40):
            applied = step.apply(given, stream(seed))
            found = restored(step, applied.numbers, applied.packed, seed)
            lost += sum(float((found[name] - given[name]).square().sum()) for name in given) / 40
        assert lost <= sum(float(one.square().sum()) for one in given.values())

    def test_its_sensitivity_bounds_what_goes_on(self, settings: dict[str, object]) -> None:
        step, given = make(UpdateStep, settings), update(0)
        norm, after = (
            sum(float(one.double().square().sum()) for one in some.values()) ** 0.5
            for some in (given, step.apply(given, stream(1)).numbers)
        )
        assert after <= step.sensitivity(norm) * (1 + 1e-6)

    def test_it_costs_flop_or_nothing_and_holds_what_it_says(self, settings: dict[str, object]) -> None:
        step, layout = make(UpdateStep, settings), Layout(SHAPES, 32)
        chain = Chain(steps=(step,), codec=Plain())
        assert step.encode_flop(layout) >= 0 <= step.decode_flop(layout)
        assert chain.held_numbers(layout) == SIZE * step.holds_back
        assert chain.keeps_memory is step.holds_back

    @each("kind", CODECS)
    @each("before", [[], [{"kind": "clip"}, {"kind": "residual"}]])
    def test_in_a_chain_bits_are_counted_as_serialised_and_the_payload_says_it_all(
        self, settings: dict[str, object], kind: str, before: list[dict[str, object]]
    ) -> None:
        steps = tuple(make(UpdateStep, one) for one in [*before, settings])
        codec = make(Codec, {"kind": kind})
        if why_unfit(steps, codec) is not None:
            return
        chain, reference, step = Chain(steps=steps, codec=codec), update(5), update(6)
        tensors = {name: reference[name] + 0.1 * step[name] for name in step}
        memory = update(7) if chain.keeps_memory else None
        got = chain.transmit(Sending(tensors, reference, memory, None, 8, 9))
        layout = Layout.of(tensors)
        assert chain.bits(layout) == got.bits == chain.max_bits(layout)
        assert len(got.payload) == -(-got.bits // 8)
        decoded = chain.decode(got.payload, layout, reference, None, 8, 9)
        assert furthest(decoded, got.tensors) == 0.0
        assert Layout.of(got.tensors) == layout
