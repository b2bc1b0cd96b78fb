"""What single codecs promise beyond the contract all of them keep."""

from math import ceil, inf, log2, nan, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cosim.learning.codec import Layout, Sending
from cosim.learning.codec.bfloat16 import Bfloat16
from cosim.learning.codec.float16 import Float16
from cosim.learning.codec.packing import packed, packed_rows, unpacked, unpacked_rows
from cosim.learning.codec.qsgd import Qsgd
from cosim.learning.codec.top_k import TopK

SEEDS = st.integers(0, 2**31)


def numbers(seed, size, dtype=torch.float64, scale=1.0):
    return {"x": (scale * torch.randn(size, generator=torch.Generator().manual_seed(seed))).to(dtype)}


def received(codec, tensors, **told):
    return codec.transmit(Sending(tensors, seed=told.pop("seed", 0), **told)).tensors["x"]


class TestPacking:
    @given(st.lists(st.tuples(st.integers(0, 33), st.integers(0, 40)), max_size=4), SEEDS)
    @settings(deadline=None, max_examples=50)
    def test_rows_of_any_width_come_back(self, rows, seed):
        rng = np.random.default_rng(seed)
        numbers = [(rng.integers(0, 2**width, size=count), width) for count, width in rows]
        content = packed_rows(numbers)
        assert len(content) == ceil(sum(count * width for count, width in rows) / 8)
        back = unpacked_rows(content, rows)
        assert all((one == row).all() for one, (row, _) in zip(back, numbers, strict=True))

    @pytest.mark.parametrize("width", [1, 7, 8, 13, 16, 24])
    def test_whole_bytes_are_packed_as_bits_would_be(self, width):
        row = np.random.default_rng(width).integers(0, 2**width, size=21)
        assert packed(row, width) == packed_rows([(row, width)])
        assert (unpacked(packed(row, width), 21, width) == row).all()


class TestNarrow:
    @given(SEEDS)
    @settings(deadline=None, max_examples=20)
    def test_half_precision_keeps_eleven_bits_and_bfloat16_eight(self, seed):
        sent = numbers(seed, 50)
        for codec, bits in ((Float16(), 11), (Bfloat16(), 8)):
            error = (received(codec, sent) - sent["x"]).abs()
            assert bool((error <= sent["x"].abs() * 2.0**-bits + 2.0**-25).all())

    def test_what_half_precision_cannot_hold_arrives_as_infinity(self):
        sent = {"x": torch.tensor([7e4, -7e4, 1e-9])}
        assert received(Float16(), sent).tolist() == [inf, -inf, 0.0]
        assert received(Bfloat16(), sent)[0] == pytest.approx(7e4, rel=1e-2)

    def test_a_small_step_from_what_both_ends_have_is_not_rounded_away(self):
        here = {"x": torch.full((5,), 1000.0)}
        there = {"x": here["x"] + 1e-2}
        step = received(Float16(), there, reference=here) - here["x"]
        assert step == pytest.approx(there["x"] - here["x"], rel=1e-3)
        assert received(Float16(), there).tolist() == here["x"].tolist()


QSGDS = st.builds(
    Qsgd,
    levels=st.integers(1, 20),
    bucket_size=st.none() | st.integers(1, 40),
    norm=st.sampled_from(["l2", "max"]),
)


class TestQsgd:
    @given(QSGDS, SEEDS)
    @settings(deadline=None, max_examples=15)
    def test_is_right_in_the_mean(self, codec, seed):
        sent, draws = numbers(seed, 33), 400
        found = torch.stack([received(codec, sent, seed=seed + draw) for draw in range(draws)])
        buckets = sent["x"].split(codec.bucket_size or 33)
        norms = [one.norm() if codec.norm == "l2" else one.abs().max() for one in buckets]
        sizes = torch.tensor([len(one) for one in buckets])
        step = (torch.stack(norms) / codec.levels).repeat_interleave(sizes)
        share = (sent["x"].abs() / step).frac()  # how often the upper level is drawn
        slack = 6.0 * (share * (1.0 - share) / draws).sqrt() + 12.0 / draws
        assert bool(((found.mean(dim=0) - sent["x"]).abs() <= step * slack).all())

    @given(QSGDS, SEEDS)
    @settings(deadline=None, max_examples=15)
    def test_errs_no_more_than_the_bound_of_the_paper(self, codec, seed):
        sent, draws = numbers(seed, 33), 400
        errors = torch.stack(
            [(received(codec, sent, seed=seed + draw) - sent["x"]).square() for draw in range(draws)]
        )
        bound, s = 0.0, codec.levels
        for bucket in sent["x"].split(codec.bucket_size or 33):
            d = len(bucket)
            if codec.norm == "l2":
                bound += min(d / s**2, sqrt(d) / s) * float(bucket.square().sum())
            else:
                bound += d * float(bucket.abs().max()) ** 2 / (4 * s**2)
        total = errors.sum(dim=1)
        assert float(total.mean()) <= bound + 6.0 * float(total.std()) / sqrt(draws) + 1e-6

    @given(QSGDS, SEEDS)
    @settings(deadline=None, max_examples=30)
    def test_every_number_arrives_on_one_of_the_two_levels_beside_it(self, codec, seed):
        sent = numbers(seed, 33)
        for bucket, found in zip(
            sent["x"].split(codec.bucket_size or 33),
            received(codec, sent, seed=seed).split(codec.bucket_size or 33),
            strict=True,
        ):
            norm = float(bucket.norm() if codec.norm == "l2" else bucket.abs().max())
            step = norm / codec.levels
            assert bool(((found - bucket).abs() <= step * (1 + 1e-6)).all())
            whole = found / step
            assert whole == pytest.approx(whole.round(), abs=1e-5)

    @given(QSGDS, SEEDS)
    @settings(deadline=None, max_examples=30)
    def test_counts_sign_level_and_norms(self, codec, seed):
        layout = Layout({"x": (33,), "y": (4, 5)}, 32)
        buckets = (
            2 if codec.bucket_size is None else ceil(33 / codec.bucket_size) + ceil(20 / codec.bucket_size)
        )
        assert codec.bits(layout) == 53 * (1 + ceil(log2(codec.levels + 1))) + 32 * buckets

    def test_more_levels_lose_less(self):
        sent = numbers(1, 2000, torch.float32)
        lost = [float((received(Qsgd(levels=s), sent) - sent["x"]).norm()) for s in (1, 7, 127, 32767)]
        assert lost == sorted(lost, reverse=True)
        assert lost[-1] < 1e-3 * float(sent["x"].norm())

    def test_nothing_stays_nothing_and_one_number_stays_itself(self):
        assert received(Qsgd(), {"x": torch.zeros(9)}).tolist() == [0.0] * 9
        alone = torch.zeros(9)
        alone[4] = -0.1
        assert received(Qsgd(levels=3), {"x": alone}) == pytest.approx(alone, rel=1e-6)

    def test_what_is_not_finite_spoils_its_bucket_only(self):
        for bad in (inf, nan):
            sent = torch.ones(8)
            sent[1] = bad
            found = received(Qsgd(bucket_size=4), {"x": sent})
            assert found[:4].isnan().all()
            assert found[4:].isfinite().all()

    def test_a_generator_of_its_own_draws_for_every_seed(self):
        sent = numbers(1, 100)
        assert torch.equal(received(Qsgd(levels=1), sent, seed=5), received(Qsgd(levels=1), sent, seed=5))
        assert not torch.equal(received(Qsgd(levels=1), sent, seed=5), received(Qsgd(levels=1), sent, seed=6))


class TestTopK:
    @given(st.floats(0.02, 1.0), SEEDS)
    @settings(deadline=None, max_examples=40)
    def test_keeps_the_largest_differences_and_what_was_there(self, ratio, seed):
        here, there = numbers(seed, 50), numbers(seed + 1, 50)
        codec = TopK(sparsification_ratio=ratio, error_feedback=False)
        found = received(codec, there, reference=here)
        kept = found == there["x"]
        assert int(kept.sum()) == int(50 * ratio + 1e-9)
        assert torch.equal(found[~kept], here["x"][~kept])
        change = (there["x"] - here["x"]).abs()
        if kept.any() and not kept.all():
            assert change[kept].min() >= change[~kept].max()

    def test_what_is_kept_arrives_as_it_is_and_all_of_it_is_dense(self):
        here, there = numbers(1, 50, torch.float32), numbers(2, 50, torch.float32)
        codec = TopK(sparsification_ratio=1.0)
        outcome = codec.transmit(Sending(there, reference=here))
        assert torch.equal(outcome.tensors["x"], there["x"])
        assert outcome.bits == 32 * 50
        assert not outcome.memory["x"].any()

    def test_charges_the_places(self):
        layout = Layout({"a": (10, 10), "b": (33,)}, 32)
        assert TopK(sparsification_ratio=0.29).bits(layout) == 29 * (32 + 7) + 9 * (32 + 6)
        assert TopK(sparsification_ratio=0.29, scope="global").bits(layout) == 38 * (32 + 8)
        assert TopK(sparsification_ratio=0.29).bits(layout, sparsification_ratio=0.5) == 50 * 39 + 16 * 38

    @given(st.floats(0.01, 1.0), st.integers(1, 300), st.sampled_from(["tensor", "global"]))
    @settings(deadline=None, max_examples=60)
    def test_a_share_of_the_bits_is_not_exceeded(self, ratio, size, scope):
        layout = Layout({"a": (size,), "b": (7, 3)}, 32)
        codec = TopK(sparsification_ratio=ratio, scope=scope, ratio_of="bits")
        assert codec.bits(layout) <= ratio * layout.dense_bits + 1e-3
        assert codec.bits(layout) > ratio * layout.dense_bits - 2 * (32 + 9)

    def test_of_equal_numbers_the_first_are_kept(self):
        sent = {"x": torch.tensor([1.0, -2.0, 2.0, 2.0, -1.0, 3.0])}
        assert received(TopK(sparsification_ratio=0.5), sent).tolist() == [0.0, -2.0, 2.0, 0.0, 0.0, 3.0]

    def test_with_error_feedback_every_number_gets_its_turn(self):
        goal, codec = numbers(3, 40), TopK(sparsification_ratio=0.1)
        memory, sums = None, torch.zeros(40, dtype=torch.float64)
        for _ in range(200):
            outcome = codec.transmit(Sending(goal, memory=memory))
            memory, sums = outcome.memory, sums + outcome.tensors["x"]
        assert float((sums / 200 - goal["x"]).abs().max()) < 0.2 * float(goal["x"].abs().max())
        assert torch.count_nonzero(sums) == 40

    def test_what_is_not_a_number_is_sent_before_all(self):
        sent = {"x": torch.tensor([1.0, nan, 2.0, 0.0])}
        assert received(TopK(sparsification_ratio=0.25), sent).isnan().tolist() == [False, True, False, False]

    @pytest.mark.parametrize("ratio", [0.0, -0.1, 1.1, nan])
    def test_a_share_lies_above_zero_and_at_most_at_one(self, ratio):
        with pytest.raises(ValidationError):
            TopK(sparsification_ratio=ratio)
