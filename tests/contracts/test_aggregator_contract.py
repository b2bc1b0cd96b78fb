import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.learning.aggregator import Aggregator, Server, factor_numbers
from cosim.learning.shape import Linear
from cosim.parts import family, make
from cosim.rng import stream
from cosim.testing import contract
from cosim.testing.contracts.aggregator import MATRICES, RANK, SCALING, Round, drawn, furthest, mean, model

EXACT = ("fedex", "flora")

globals().update(contract(Aggregator))


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@given(seed=st.integers(0, 2**31), num_clients=st.integers(1, 7))
@settings(deadline=None, max_examples=20)
def test_the_exact_ones_are_the_mean_of_the_clients_models(kind, dtype, tolerance, seed, num_clients):
    one = Round(make(Aggregator, {"kind": kind}), seed, num_clients)
    for part in (one.start, one.residual, *one.adapters):
        part.update({name: tensor.to(dtype) for name, tensor in part.items()})
    average = one.average()
    expected = mean([{n: t.double() for n, t in m.items()} for m in one.models_before()], one.weights)
    found = model(average.adapter, average.residual)
    size = max(float(tensor.abs().max()) for tensor in expected.values())
    assert furthest({n: t.double() for n, t in found.items()}, expected) < tolerance * max(size, 1.0)


def test_a_stack_takes_clients_of_any_rank_and_is_exact():
    one = Round(make(Aggregator, {"kind": "flora", "client_ranks": [1, 4, 2]}))
    average = one.average()
    found = model(average.adapter, average.residual)
    assert furthest(found, mean(one.models_before(), one.weights)) < 1e-12
    assert all(not tensor.any() for name, tensor in average.adapter.items() if "lora_B" in name)


def test_a_fresh_adapter_is_another_one_in_another_round_and_as_large():
    flora = make(Aggregator, {"kind": "flora"})
    one = Round(flora)
    first = flora.aggregate(one.uploads, one.weights, one.server).adapter
    other = flora.aggregate(one.uploads, one.weights, Server(one.start, one.residual, SCALING, 2, 8)).adapter
    for name, matrix in MATRICES.items():
        left, right = (adapter[f"{name}.lora_A.weight"] for adapter in (first, other))
        assert not torch.equal(left, right)
        assert 0.5 / matrix.d_in**0.5 < float(left.abs().max()) <= 1.0 / matrix.d_in**0.5


def test_the_residual_of_fedex_has_the_rank_it_travels_with():
    """All senders but the last: deviations from the mean add up to nothing."""
    one = Round(make(Aggregator, {"kind": "fedex"}), num_clients=2)
    residual = one.average().residual
    for name in residual:
        assert torch.linalg.matrix_rank(residual[name] - one.residual[name]) == RANK
    alone = Round(make(Aggregator, {"kind": "fedex"}), num_clients=1)
    new = alone.average().residual
    assert furthest(new, alone.residual) == 0.0
    numbers = alone.aggregator.download_numbers(MATRICES.values(), RANK, [RANK], 1)
    factors = factor_numbers(MATRICES.values(), RANK, alone.aggregator.sent(1))
    assert numbers == factors < alone.aggregator.download_numbers(MATRICES.values(), RANK, [RANK] * 2, 1)


def test_a_large_stack_travels_as_the_matrix_it_stands_for():
    wide = [Linear("wide", d_in=100, d_out=200, has_bias=False)]
    flora, fedex = (make(Aggregator, {"kind": kind}) for kind in EXACT[::-1])
    assert flora.download_numbers(wide, 4, [4] * 3, 1) == 12 * 300
    assert flora.download_numbers(wide, 4, [4] * 50, 1) == 100 * 200
    assert fedex.download_numbers(wide, 4, [4] * 3, 1) == 4 * 300 + 8 * 300
    assert fedex.download_numbers(wide, 4, [4] * 50, 1) == 4 * 300 + 100 * 200


@given(seed=st.integers(0, 2**31), num_clients=st.integers(1, 6))
@settings(deadline=None, max_examples=25)
def test_a_refactored_mean_product_is_the_best_at_its_rank(seed, num_clients):
    """Eckart and Young, with numpy on the product itself."""
    one = Round(make(Aggregator, {"kind": "product_svd", "client_ranks": [4, 2, 3]}), seed, num_clients)
    adapter = one.average().adapter
    for name in MATRICES:
        names = f"{name}.lora_B.weight", f"{name}.lora_A.weight"
        product = sum(
            weight * (client[names[0]] @ client[names[1]]).numpy()
            for weight, client in zip(one.weights, one.adapters, strict=True)
        )
        u, values, v = np.linalg.svd(product)
        b, a = (adapter[factor].numpy() for factor in names)
        best = (u[:, :RANK] * values[:RANK]) @ v[:RANK]
        assert np.abs(b @ a - best).max() < 1e-10 * max(1.0, values[0])
        for rank in (1, 2, 3):  # a client of a lower rank has the best at its own
            missing = np.linalg.norm(b[:, :rank] @ a[:rank] - product)
            assert missing == pytest.approx(np.sqrt((values[rank:] ** 2).sum()), rel=1e-9, abs=1e-9)
        assert np.abs(a @ a.T - np.eye(RANK)).max() < 1e-10


def test_refactoring_a_product_of_nothing_leaves_pairs_that_can_be_trained():
    one = Round(make(Aggregator, {"kind": "product_svd"}))
    for adapter in one.adapters:
        adapter.update({name: torch.zeros_like(adapter[name]) for name in adapter if "lora_B" in name})
    adapter = one.average().adapter
    assert not any(tensor.any() for name, tensor in adapter.items() if "lora_B" in name)
    assert all(tensor.norm(dim=1).min() > 0.9 for name, tensor in adapter.items() if "lora_A" in name)


def test_a_rank_above_what_a_matrix_has_is_filled_up_with_zeros():
    start = drawn(0, rank=6, head=False)
    svd = make(Aggregator, {"kind": "product_svd"})
    adapter = svd.aggregate([start], [1.0], Server(start, {}, SCALING)).adapter
    assert furthest(model(adapter), model(start)) < 1e-11
    assert not adapter["q.lora_B.weight"][:, 5:].any()


@pytest.mark.parametrize("round_", [1, 2, 3, 4])
def test_the_mean_is_exact_where_one_factor_is_common(round_):
    for kind in ("ffa", "rolora"):
        one = Round(make(Aggregator, {"kind": kind}), round_=round_)
        assert furthest(model(one.average().adapter), mean(one.models_before(), one.weights)) < 1e-12


def test_the_covariance_of_the_factors_is_zero_without_moving_a():
    one = Round(make(Aggregator, {"kind": "ffa"}))
    average = one.average().adapter
    for name in MATRICES:
        b, a = f"{name}.lora_B.weight", f"{name}.lora_A.weight"
        covariance = sum(
            weight * (client[b] - average[b]) @ (client[a] - average[a])
            for weight, client in zip(one.weights, one.adapters, strict=True)
        )
        assert not covariance.any()


def test_rolora_trains_b_and_a_in_turn():
    rolora = make(Aggregator, {"kind": "rolora"})
    assert [rolora.trained(round_) for round_ in (1, 2, 3, 4)] == [{"B"}, {"A"}, {"B"}, {"A"}]
    assert [rolora.sent(round_) for round_ in (1, 2)] == [{"B"}, {"A"}]


def test_b_is_not_among_what_fedsa_sends_and_is_trained_all_the_same():
    fedsa = make(Aggregator, {"kind": "fedsa"})
    assert (fedsa.sent(1), fedsa.trained(1)) == ({"A"}, {"A", "B"})
    one = Round(fedsa)
    assert not any("lora_B" in name for upload in one.uploads for name in upload)
    average = one.average().adapter
    assert all(torch.equal(average[name], one.start[name]) for name in one.start if "lora_B" in name)


def test_hetlora_fills_up_with_zeros_and_weighs_by_norm():
    ranks = [1, 4, 2]
    for weighting in ("data", "norm"):
        part = make(Aggregator, {"kind": "hetlora", "client_ranks": ranks, "weighting": weighting})
        one = Round(part, num_clients=3)
        weights = one.weights
        if weighting == "norm":
            squares = [
                sum(
                    np.linalg.norm(
                        (client[f"{name}.lora_B.weight"] @ client[f"{name}.lora_A.weight"]).numpy()
                    )
                    ** 2
                    for name in MATRICES
                )
                for client in one.adapters
            ]
            weights = (np.sqrt(squares) / np.sqrt(squares).sum()).tolist()
        adapter = one.average().adapter
        for name in MATRICES:
            a = np.zeros((RANK, MATRICES[name].d_in))
            b = np.zeros((MATRICES[name].d_out, RANK))
            for rank, weight, client in zip(ranks, weights, one.adapters, strict=True):
                a[:rank] += weight * client[f"{name}.lora_A.weight"].numpy()
                b[:, :rank] += weight * client[f"{name}.lora_B.weight"].numpy()
            assert np.abs(adapter[f"{name}.lora_A.weight"].numpy() - a).max() < 1e-12
            assert np.abs(adapter[f"{name}.lora_B.weight"].numpy() - b).max() < 1e-12
        heads = mean([{"score.weight": client["score.weight"]} for client in one.adapters], one.weights)
        assert torch.allclose(adapter["score.weight"], heads["score.weight"])


def test_adapters_of_nothing_are_weighed_by_data():
    one = Round(make(Aggregator, {"kind": "hetlora"}))
    for adapter in one.adapters:
        adapter.update({name: torch.zeros_like(adapter[name]) for name in adapter if "lora_B" in name})
    assert furthest(one.average().adapter, mean(one.adapters, one.weights)) < 1e-12


def test_a_masked_mean_is_over_those_who_sent_and_what_nobody_sent_stays():
    fedavg = make(Aggregator, {"kind": "fedavg"})
    one = Round(fedavg, num_clients=3)
    chance = stream(4, "masks").generator()
    masks = [
        {name: torch.from_numpy(1.0 * (chance.random(tensor.shape) < 0.4)) for name, tensor in client.items()}
        for client in one.adapters
    ]
    masks[0]["score.weight"] = torch.ones(1, 1, dtype=torch.float64)  # a mask may stand for many numbers
    server = Server(one.start, {}, SCALING, masks=masks)
    adapter = fedavg.aggregate(one.uploads, one.weights, server).adapter
    for name, found in adapter.items():
        for place in np.ndindex(tuple(found.shape)):
            sent = [
                (weight, float(client[name][place]))
                for weight, client, mask in zip(one.weights, one.adapters, masks, strict=True)
                if mask[name].expand(found.shape)[place] > 0.0
            ]
            total = sum(weight for weight, _ in sent)
            expected = (
                sum(weight * value for weight, value in sent) / total if sent else one.start[name][place]
            )
            assert float(found[place]) == pytest.approx(float(expected), abs=1e-12)


def test_ranks_that_differ_are_refused_with_the_numbers_where_factors_are_averaged():
    able = ", ".join(repr(kind) for kind, part in family(Aggregator).items() if part.takes_ranks)
    assert "'flora', 'hetlora', 'product_svd'" in able
    for kind, part in family(Aggregator).items():
        told = {"kind": kind, "client_ranks": [4, 2, 4]}
        if part.takes_ranks:
            assert [make(Aggregator, told).rank(client, 8) for client in range(4)] == [4, 2, 4, 4]
            continue
        with pytest.raises(ValueError, match=f"client_ranks 4, 2, 4 differ.*take one of {able}"):
            make(Aggregator, told)
