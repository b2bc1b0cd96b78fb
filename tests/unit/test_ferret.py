"""Ferret's directions against closed forms: means, errors, cosines, budgets, bits and memory."""

import tracemalloc
from math import sqrt

import numpy as np
import pytest
import torch

from cosim.learning.chain import Chain, why_unfit
from cosim.learning.codec import Layout, Sending
from cosim.learning.codec.none import Plain
from cosim.learning.update import ferret
from cosim.learning.update.ferret import Ferret, block_sizes, drawn, moments
from cosim.learning.update.sparsify import Sparsify
from cosim.rng import stream

SIZES = {"a": 300, "b": 200, "c": 400}
LAYOUT = Layout({name: (size,) for name, size in SIZES.items()}, 64)
SIZE, COUNT = 900, 90


def row(seed=0, factors=(1.0, 1.0, 1.0)):
    generator = torch.Generator().manual_seed(seed)
    each = zip(SIZES.items(), factors, strict=True)
    return {n: f * torch.randn(size, generator=generator, dtype=torch.float64) for (n, size), f in each}


def joined(tensors):
    return torch.cat([tensors[name] for name in SIZES])


def received(step, given, draws):
    for seed in range(draws):
        applied = step.apply(given, stream(seed))
        yield joined(step.restore(applied.numbers, applied.packed, LAYOUT, stream(seed)))


def error(step, given, draws=60):
    """Return mean and standard error of the squared error relative to the squared norm."""
    found = [float((one - joined(given)).square().sum()) for one in received(step, given, draws)]
    found = np.array(found) / float(joined(given).square().sum())
    return found.mean(), found.std(ddof=1) / sqrt(draws)


@pytest.mark.parametrize("seeds", ["fresh", "own"])
def test_a_reconstruction_is_right_in_the_mean_with_error_d_over_k_and_its_cosine(seeds):
    """Squared error d / K within 5 %, told from 1 % of standard error; cosine sqrt(K / (K + d))."""
    step, given = Ferret(num_coordinates=COUNT, seeds=seeds), row()
    all_found = torch.stack(list(received(step, given, 300)))
    update = joined(given)
    errors = (all_found - update).square().sum(dim=1) / update.square().sum()
    assert float(errors.std()) / sqrt(300) < 0.01 * SIZE / COUNT
    assert float(errors.mean()) == pytest.approx(SIZE / COUNT, rel=0.05)
    off = (all_found.mean(dim=0) - update) / (all_found.std(dim=0) / sqrt(300))
    assert float(off.square().mean()) == pytest.approx(1.0, abs=5 * sqrt(2 / SIZE))
    cosines = all_found @ update / all_found.norm(dim=1) / update.norm()
    assert float(cosines.mean()) == pytest.approx(sqrt(COUNT / (COUNT + SIZE)), rel=0.02)


def test_the_scale_of_the_code_is_a_third_and_the_shrunk_one_errs_least():
    given = row()
    whole, code, shrunk = (
        next(received(Ferret(num_coordinates=COUNT, scale=scale), given, 1))
        for scale in ("unbiased", "code", "shrunk")
    )
    torch.testing.assert_close(code, whole / 3, rtol=0.005, atol=0.0)  # 1/3 up to 2 / (15 d)
    mean, off = error(Ferret(num_coordinates=COUNT, scale="shrunk"), given)
    assert abs(mean - SIZE / (COUNT + SIZE)) < 5 * off + 0.01  # blocks have whole coordinates each
    along = float(joined(given) @ whole / whole.square().sum())
    best = float((along * whole - joined(given)).square().sum())
    assert float((shrunk - joined(given)).square().sum()) < 1.1 * best


def test_budgets_err_as_the_sum_over_blocks_says_and_by_norm_and_root_least():
    """Sum over blocks of |u_l|^2 d_l / K_l, least where K_l goes by |u_l| sqrt(d_l)."""
    given, found = row(1, (3.0, 0.3, 1.0)), {}
    for budget in ("equal", "size", "norm", "norm_root_size"):
        step = Ferret(num_coordinates=COUNT, budget=budget)
        norms = [float(one.norm()) for one in given.values()]
        counts = step._counts(list(SIZES.values()), norms)
        assert sum(counts) == COUNT
        assert min(counts) >= 1
        expected = sum(n**2 * d / k for n, d, k in zip(norms, SIZES.values(), counts, strict=True))
        expected /= sum(n**2 for n in norms)
        found[budget], off = error(step, given, 100)
        assert abs(found[budget] - expected) < 5 * off + 0.005 * expected, budget
    assert min(found, key=found.__getitem__) == "norm_root_size"


def test_directions_are_truncated_with_the_moments_they_are_said_to_have():
    numbers = torch.cat([chunk.flatten() for _, chunk in drawn(3, 0, 500, 400)]).double()
    deviation, kurtosis = moments(400)
    assert float(numbers.abs().max()) <= 1 / 20 + 1e-9
    assert float(numbers.square().mean()) == pytest.approx(deviation**2, rel=5 * 0.9 / sqrt(200_000))
    assert deviation == pytest.approx(1 / sqrt(1200), rel=1e-3)
    assert float((numbers / deviation).pow(4).mean()) == pytest.approx(kurtosis, rel=0.02)
    assert abs(float(numbers.mean())) < 5 * deviation / sqrt(200_000)


def test_directions_come_in_chunks_and_are_never_all_in_memory(monkeypatch):
    monkeypatch.setattr(ferret, "CHUNK_NUMBERS", 1 << 14)
    step, given = Ferret(num_coordinates=400), {"a": torch.ones(20_000)}
    tracemalloc.start()
    applied = step.apply(given, stream(1))
    step.restore(applied.numbers, (), Layout.of(given), stream(1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 4 * (1 << 14) < 4 * 400 * 20_000 / 20


@pytest.mark.parametrize(("seeds", "seed_bits"), [("fresh", 0), ("fixed", 0), ("own", 32)])
def test_an_upload_is_its_coordinates_and_a_seed_of_ones_own(seeds, seed_bits):
    chain = Chain(steps=(Ferret(num_coordinates=COUNT, seeds=seeds),), codec=Plain())
    assert chain.bits(LAYOUT) == 64 * COUNT + seed_bits
    assert chain.is_summable is (seeds != "own")
    by_norm = Chain(steps=(Ferret(num_coordinates=COUNT, seeds=seeds, budget="norm"),), codec=Plain())
    assert by_norm.bits(LAYOUT) == 64 * COUNT + seed_bits + 3 * 7
    assert not by_norm.is_summable
    handed = chain.relayed_bits(LAYOUT, 5)
    assert handed == (64 * COUNT + 32 if chain.is_summable else 5 * (64 * COUNT + 32))
    assert chain.rebuild_flop(LAYOUT, 5) == chain.decode_flop(LAYOUT) * (1 if chain.is_summable else 5)


def test_numbers_alone_are_those_of_a_whole_sending():
    chain = Chain(steps=(Ferret(num_coordinates=COUNT),), codec=Plain())
    sending = Sending(row(1), row(2), None, None, None, 7)
    alone, whole = chain.numbers(sending), chain.transmit(sending)
    assert torch.equal(alone["coordinates"], whole.numbers["coordinates"])
    restored = chain.of_sum(alone, row(2), 7)
    assert all(torch.equal(restored[name], whole.tensors[name]) for name in SIZES)


def test_blocks_join_small_tensors_and_each_needs_a_coordinate():
    small = Layout({"norm": (4,), "bias": (4,), "matrix": (10, 10), "next": (10, 10)})
    assert block_sizes(small) == [8, 100, 100]
    assert Ferret(num_coordinates=3).why_unsendable(small) is None
    assert "3 blocks of the update below one coordinate" in Ferret(num_coordinates=2).why_unsendable(small)


def test_directions_fixed_for_the_run_go_with_nothing_drawn_each_round():
    steps = Ferret(seeds="fixed"), Sparsify(choice="random")
    assert "'sparsify' beside it in every round" in why_unfit(steps, Plain())
    assert why_unfit((Ferret(), Sparsify(choice="random")), Plain()) is None
