"""Rank pairs against the products and decompositions they are there to avoid."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosim.learning.pair_energy import (
    coherence,
    covariance_error,
    delta_energies,
    norm_energies,
    product_energy,
)
from cosim.learning.rank_pairs import RankPairs
from cosim.rng import stream
from cosim.testing.ulps import ulps_apart

SHAPES = {
    "h.0.attn.lora_A.weight": (4, 7),
    "h.0.attn.lora_B.weight": (9, 4),
    "h.1.attn.lora_A.weight": (4, 7),
    "h.1.attn.lora_B.weight": (9, 4),
    "h.1.proj.lora_A.weight": (3, 5),
    "h.1.proj.lora_B.weight": (6, 3),
    "score.weight": (2, 7),
}
PAIRS = RankPairs.of(SHAPES)

FEW = 16  # ulps: up to five clients' products of rank four are summed, and their difference is taken

seeds = st.integers(min_value=0, max_value=2**31)
ratios = st.floats(min_value=0.0, max_value=1.0)


def drawn(seed: int, scale: float = 1.0) -> dict[str, Tensor]:
    rng = stream(seed, "rank pairs").generator()
    return {name: torch.from_numpy(rng.normal(size=shape) * scale) for name, shape in SHAPES.items()}


def moved(adapter: dict[str, Tensor], seed: int, scale: float = 0.1) -> dict[str, Tensor]:
    return {name: tensor + drawn(seed, scale)[name] for name, tensor in adapter.items()}


def energies_of(seed: int) -> Any:
    return stream(seed, "energies").generator().exponential(size=PAIRS.count)


def products(adapter: dict[str, Tensor]) -> list[Tensor]:
    return [adapter[module.b_name] @ adapter[module.a_name] for module in PAIRS.modules]


def pair_products(adapter: dict[str, Tensor]) -> list[Tensor]:
    """Return the product of every pair by itself, in the numbering of the pairs."""
    return [
        torch.outer(adapter[module.b_name][:, j], adapter[module.a_name][j])
        for module in PAIRS.modules
        for j in range(module.rank)
    ]


def orthonormal(count: int, size: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.from_numpy(stream(seed, "q").generator().normal(size=(size, count)))).Q


# Numbering and selection


def test_pairs_are_numbered_matrix_by_matrix_whatever_order_an_adapter_comes_in():
    assert RankPairs.of(dict(reversed(SHAPES.items()))) == PAIRS
    assert [module.rank for module in PAIRS.modules] == [4, 4, 3]
    assert PAIRS.numbers.tolist() == [16] * 8 + [11] * 3
    assert PAIRS.slices == (slice(0, 4), slice(4, 8), slice(8, 11))
    assert PAIRS.stacks == ((0, 1), (2,))
    assert PAIRS.others == ("score.weight",)


@pytest.mark.parametrize(
    ("shapes", "fault"),
    [
        ({"q.lora_A.weight": (2, 3)}, "without its lora_B"),
        ({"q.lora_B.weight": (3, 2)}, "without its lora_A"),
        ({"q.lora_A.weight": (2, 3), "q.lora_B.weight": (3, 4)}, "rank 2 and its lora_B 4"),
    ],
)
def test_half_a_pair_is_refused(shapes, fault):
    with pytest.raises(ValueError, match=fault):
        RankPairs.of(shapes)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_sparsification_ratio_is_a_share(ratio):
    with pytest.raises(ValueError, match="from 0 to 1"):
        PAIRS.budget(ratio)


@given(seed=seeds, ratio=ratios)
@settings(deadline=None)
def test_a_selection_over_all_matrices_fills_the_budget_with_the_best_per_number(seed, ratio):
    energies = energies_of(seed)
    chosen = PAIRS.select(energies, ratio)
    sent, budget = int(PAIRS.numbers[chosen].sum()), PAIRS.budget(ratio)
    assert sent <= budget
    assert chosen.all() or sent + PAIRS.numbers.max() > budget
    value = energies / PAIRS.numbers
    if chosen.any() and not chosen.all():
        assert value[chosen].min() >= value[~chosen].max()
    most, most_numbers = PAIRS.most_selected(ratio)
    assert chosen.sum() <= most
    assert sent <= most_numbers <= budget


@given(seed=seeds, ratio=ratios)
@settings(deadline=None)
def test_a_selection_by_matrix_takes_the_best_of_each(seed, ratio):
    energies = energies_of(seed)
    chosen = PAIRS.select(energies, ratio, "module")
    for module, place in zip(PAIRS.modules, PAIRS.slices, strict=True):
        kept, left = energies[place][chosen[place]], energies[place][~chosen[place]]
        assert len(kept) == np.ceil(ratio * module.rank)
        assert not len(kept) or not len(left) or kept.min() >= left.max()
    assert (chosen.sum(), PAIRS.numbers[chosen].sum()) == PAIRS.most_selected(ratio, "module")


@pytest.mark.parametrize("count", range(1, 101))
def test_a_ratio_of_so_many_in_a_hundred_sends_so_many(count):
    pairs = RankPairs.of({"q.lora_A.weight": (100, 3), "q.lora_B.weight": (3, 100)})
    for ratio in (count / 100, sum([0.01] * count)):
        for scope in ("global", "module"):
            assert pairs.select(np.ones(100), min(ratio, 1.0), scope).sum() == count


@given(seed=seeds)
@settings(deadline=None)
def test_the_remaining_energy_falls_convexly_to_nothing(seed):
    energies = energies_of(seed)
    numbers, left = PAIRS.remaining(energies)
    assert left[0] == pytest.approx(energies.sum())
    assert left[-1] == 0.0
    slopes = np.diff(left) / np.diff(numbers)
    assert (slopes <= 0.0).all()
    assert (np.diff(slopes) >= -1e-12).all()


@given(seed=seeds, ratio=ratios)
@settings(deadline=None)
def test_the_curve_says_what_a_selection_leaves(seed, ratio):
    energies = energies_of(seed)
    chosen = PAIRS.select(energies, ratio)
    numbers, left = PAIRS.remaining(energies)
    assert numbers[chosen.sum()] == PAIRS.numbers[chosen].sum()
    assert left[chosen.sum()] == pytest.approx(energies[~chosen].sum())


# Energies


@given(seed=seeds)
@settings(deadline=None)
def test_a_norm_energy_is_that_of_the_pair_by_itself(seed):
    adapter = drawn(seed)
    expected = [float(product.square().sum()) for product in pair_products(adapter)]
    assert norm_energies(PAIRS, adapter) == pytest.approx(expected, rel=1e-12)


@given(seed=seeds, scale=st.sampled_from([1.0, 1e-3, 1e-8, 0.0]))
@settings(deadline=None)
def test_a_delta_energy_is_what_the_receiver_lacks(seed, scale):
    reference = drawn(seed)
    adapter = moved(reference, seed + 1, scale)
    lacking = zip(pair_products(adapter), pair_products(reference), strict=True)
    expected = [float((new - old).square().sum()) for new, old in lacking]
    # beyond a change of 1e-8 the difference of the products is rounding itself
    assert delta_energies(PAIRS, adapter, reference) == pytest.approx(expected, rel=1e-5, abs=1e-28)


def test_from_a_product_of_zero_both_importances_are_one():
    reference = {name: tensor * (".lora_A." in name) for name, tensor in drawn(3).items()}
    adapter = moved(reference, 4)
    assert delta_energies(PAIRS, adapter, {name: 0 * t for name, t in reference.items()}) == pytest.approx(
        norm_energies(PAIRS, adapter)
    )
    assert delta_energies(PAIRS, reference, reference).tolist() == [0.0] * PAIRS.count


@given(seed=seeds, ratio=ratios)
@settings(deadline=None)
def test_with_orthonormal_factors_the_norms_are_the_singular_values(seed, ratio):
    """Acceptance test 2: keeping pairs by their norms loses what truncating the SVD loses."""
    shapes = {"q.lora_A.weight": (6, 11), "q.lora_B.weight": (9, 6)}
    pairs = RankPairs.of(shapes)
    spread = torch.from_numpy(stream(seed, "spread").generator().lognormal(sigma=2.0, size=6))
    b = orthonormal(6, 9, seed) * spread
    adapter = {"q.lora_A.weight": orthonormal(6, 11, seed + 1).T, "q.lora_B.weight": b}
    chosen = torch.from_numpy(pairs.select(norm_energies(pairs, adapter), ratio))
    whole = b @ adapter["q.lora_A.weight"]
    kept = (b * chosen) @ adapter["q.lora_A.weight"]
    singular = torch.linalg.svdvals(whole)[int(chosen.sum()) :]
    assert float((whole - kept).norm()) == pytest.approx(float(singular.norm()), rel=1e-9, abs=1e-12)


@given(seed=seeds, ratio=ratios, mixing=st.floats(min_value=0.0, max_value=2.0))
@settings(deadline=None)
def test_coherence_bounds_what_a_selection_loses(seed, ratio, mixing):
    """Acceptance test 3: the sandwich of section 5."""
    shapes = {"q.lora_A.weight": (6, 40), "q.lora_B.weight": (40, 6)}
    pairs = RankPairs.of(shapes)
    noise = stream(seed, "mixing").generator().normal(size=(6, 6)) * mixing
    factor = orthonormal(6, 40, seed) @ (torch.eye(6, dtype=torch.float64) + torch.from_numpy(noise))
    adapter = {"q.lora_A.weight": orthonormal(6, 40, seed + 1).T + 0.1 * factor.T, "q.lora_B.weight": factor}
    energies = norm_energies(pairs, adapter)
    dropped = ~pairs.select(energies, ratio)
    a, b = adapter["q.lora_A.weight"][dropped], adapter["q.lora_B.weight"][:, dropped]
    lost, sum_of_pairs = float((b @ a).square().sum()), float(energies[dropped].sum())
    slack = coherence(pairs, adapter) * max(int(dropped.sum()) - 1, 0)
    assert (1 - slack) * sum_of_pairs <= lost + 1e-9 * sum_of_pairs
    assert lost <= (1 + slack) * sum_of_pairs * (1 + 1e-9)


def test_coherence_is_that_of_the_worst_two_pairs():
    adapter = drawn(5)
    found = []
    for module in PAIRS.modules:
        a, b = adapter[module.a_name].numpy(), adapter[module.b_name].numpy().T
        for i in range(module.rank):
            for j in range(i):
                cosines = [x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for x in (a, b)]
                found.append(abs(cosines[0] * cosines[1]))
    assert coherence(PAIRS, adapter) == pytest.approx(max(found))


def test_without_b_nothing_is_coherent():
    assert coherence(PAIRS, {n: t * (".lora_A." in n) for n, t in drawn(1).items()}) == 0.0


# Averaging factors


@given(seed=seeds, count=st.integers(min_value=1, max_value=5), scale=st.sampled_from([1.0, 0.1, 1e-4]))
@settings(deadline=None)
def test_averaging_factors_errs_by_their_covariance(seed, count, scale):
    """Acceptance test 1: the identity of section 3, on the products themselves."""
    reference = drawn(seed)
    clients = [moved(reference, seed + 1 + number, scale) for number in range(count)]
    share = stream(seed, "weights").generator().dirichlet(np.ones(count))
    mean = {name: sum(p * one[name] for p, one in zip(share, clients, strict=True)) for name in reference}
    of_products = [
        sum(p * one for p, one in zip(share, several, strict=True))
        for several in zip(*map(products, clients), strict=True)
    ]
    gaps = [left - right for left, right in zip(of_products, products(mean), strict=True)]
    covariances = [
        sum(
            p * (one[m.b_name] - mean[m.b_name]) @ (one[m.a_name] - mean[m.a_name])
            for p, one in zip(share, clients, strict=True)
        )
        for m in PAIRS.modules
    ]
    largest = max(float(product.abs().max()) for product in of_products)
    for gap, covariance in zip(gaps, covariances, strict=True):
        assert ulps_apart(gap, covariance, size=largest) <= FEW
    steps = [left - right for left, right in zip(of_products, products(reference), strict=True)]
    expected = np.sqrt(sum(float(c.square().sum()) for c in covariances)) / np.sqrt(
        sum(float(s.square().sum()) for s in steps)
    )
    found = covariance_error(PAIRS, clients, share.tolist(), reference)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_with_one_factor_shared_averaging_is_exact():
    """Acceptance test 12: with A frozen the two averages are one."""
    reference = drawn(1)
    clients = [
        {name: reference[name] if ".lora_A." in name else tensor for name, tensor in drawn(seed).items()}
        for seed in (2, 3, 4)
    ]
    assert covariance_error(PAIRS, clients, [0.2, 0.3, 0.5], reference) <= FEW * np.finfo(float).eps


def test_clients_that_did_not_move_err_by_nothing():
    reference = drawn(1)
    assert covariance_error(PAIRS, [reference, reference], [0.5, 0.5], reference) == 0.0


@given(seed=seeds, width=st.integers(min_value=1, max_value=12))
@settings(deadline=None)
def test_the_energy_of_a_product_needs_no_product(seed, width):
    rng = stream(seed, "product").generator()
    left, right = (torch.from_numpy(rng.normal(size=(3, width, size))) for size in (6, 8))
    expected = float((left.transpose(1, 2) @ right).square().sum())
    assert product_energy(left, right) == pytest.approx(expected, rel=1e-9)
