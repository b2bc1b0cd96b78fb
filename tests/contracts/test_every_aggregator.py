"""What every aggregator keeps, on drawn factors in float64: what it makes of uploads, and what travels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.learning.aggregator import Aggregator, Server, factor_numbers
from cosim.learning.aggregator.sums import matrices_of, only, padded, truncated
from cosim.learning.shape import BOTH_FACTORS, Linear
from cosim.parts import family, make
from cosim.rng import stream

MATRICES = {"q": Linear("q", d_in=7, d_out=5, has_bias=False), "v": Linear("v", 6, 9, has_bias=True)}
RANK, SCALING = 4, 8.0
EXACT = ("fedex", "flora")
CASES = [
    pytest.param(make(Aggregator, {"kind": kind, **example}), id=f"{kind}-{number}")
    for kind, part in family(Aggregator).items()
    for number, example in enumerate(part.examples)
]


def drawn(seed, rank=RANK, *, head=True):
    """Return an adapter of two matrices, and a head."""
    rng = stream(seed, "drawn adapter").generator()
    adapter = {}
    for name, matrix in MATRICES.items():
        adapter[f"{name}.lora_A.weight"] = torch.from_numpy(rng.normal(size=(rank, matrix.d_in)))
        adapter[f"{name}.lora_B.weight"] = torch.from_numpy(rng.normal(size=(matrix.d_out, rank)))
    if head:
        adapter["score.weight"] = torch.from_numpy(rng.normal(size=(3, 2)))
    return adapter


def trained(aggregator, round_, start, seed, rank):
    """Return a client's adapter after a round: what it trains has moved, and nothing else."""
    mine = truncated(start, rank)
    moves = drawn(seed, rank)
    return mine | {name: mine[name] + moves[name] for name in only(mine, aggregator.trained(round_))}


def model(adapter, residual=None):
    """Return what an adapter and what is merged into the base add to it, and the head."""
    added = {}
    for matrix in matrices_of(adapter):
        added[matrix.a_name] = SCALING * adapter[matrix.b_name] @ adapter[matrix.a_name]
        if residual:
            added[matrix.a_name] = added[matrix.a_name] + residual[matrix.a_name]
    return added | {name: tensor for name, tensor in adapter.items() if "lora" not in name}


def furthest(left, right):
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def mean(models, weights):
    return {name: sum(p * one[name] for p, one in zip(weights, models, strict=True)) for name in models[0]}


class Round:
    """A round of some clients, from a drawn global adapter, with something merged into the base before."""

    def __init__(self, aggregator, seed=0, num_clients=5, round_=1, ranks=None):
        self.aggregator, self.round = aggregator, round_
        self.start = drawn(seed)
        self.residual = {}
        if aggregator.has_residual:
            self.residual = model(drawn(seed + 1, head=False))
        self.ranks = ranks or [aggregator.rank(client, RANK) for client in range(num_clients)]
        shares = stream(seed, "shares").generator().uniform(0.2, 1.0, size=num_clients)
        self.weights = (shares / shares.sum()).tolist()
        self.adapters = [
            trained(aggregator, round_, self.start, seed + 10 + client, rank)
            for client, rank in enumerate(self.ranks)
        ]

    @property
    def uploads(self):
        return [only(one, self.aggregator.sent(self.round)) for one in self.adapters]

    @property
    def server(self):
        return Server(self.start, self.residual, SCALING, self.round, seed=7)

    def average(self, order=None):
        order = range(len(self.ranks)) if order is None else order
        uploads, weights = self.uploads, self.weights
        return self.aggregator.aggregate(
            [uploads[one] for one in order], [weights[one] for one in order], self.server
        )

    def models_before(self):
        return [model(one, self.residual) for one in self.adapters]

    def models_after(self, average):
        """Return the model each client starts the next round from."""
        starts = [truncated(average.adapter, rank) for rank in self.ranks]
        if self.aggregator.is_personal:
            starts = [
                own | only(start, self.aggregator.sent(self.round))
                for own, start in zip(self.adapters, starts, strict=True)
            ]
        return [model(start, average.residual) for start in starts]


@pytest.mark.parametrize("aggregator", CASES)
@pytest.mark.parametrize("round_", [1, 2])
class TestEveryAggregator:
    def test_clients_that_are_alike_change_nothing(self, aggregator, round_):
        alike = Round(aggregator, round_=round_, ranks=[RANK] * 5)
        alike.adapters = [alike.start] * 5
        (before, *_), average = alike.models_before(), alike.average()
        assert all(furthest(after, before) < 1e-12 for after in alike.models_after(average))

    def test_the_order_of_clients_changes_nothing(self, aggregator, round_):
        one = Round(aggregator, round_=round_)
        forward, shuffled = one.average(), one.average([3, 0, 4, 2, 1])
        assert (
            furthest(model(forward.adapter, forward.residual), model(shuffled.adapter, shuffled.residual))
            < 1e-12
        )

    def test_it_writes_into_nothing_and_draws_nothing(self, aggregator, round_):
        one = Round(aggregator, round_=round_)
        given_tensors = [*one.start.values(), *one.residual.values()]
        given_tensors += [tensor for adapter in one.adapters for tensor in adapter.values()]
        before, state = [tensor.clone() for tensor in given_tensors], torch.get_rng_state()
        first, again = one.average(), one.average()
        assert all(torch.equal(*pair) for pair in zip(given_tensors, before, strict=True))
        assert torch.equal(state, torch.get_rng_state())
        for left, right in ((first.adapter, again.adapter), (first.residual, again.residual)):
            assert left.keys() == right.keys()
            assert all(torch.equal(left[name], right[name]) for name in left)

    def test_the_average_has_the_names_shapes_and_types_of_the_global_adapter(self, aggregator, round_):
        one = Round(aggregator, round_=round_)
        average = one.average()
        sent = one.uploads[0].keys()
        assert average.adapter.keys() >= sent
        for name, tensor in average.adapter.items():
            assert (tensor.shape, tensor.dtype) == (one.start[name].shape, one.start[name].dtype)
        assert bool(average.residual) == aggregator.has_residual

    def test_bits_are_those_of_the_numbers_that_are_sent(self, aggregator, round_):
        one = Round(aggregator, round_=round_)
        for rank, upload in zip(one.ranks, one.uploads, strict=True):
            factors = sum(tensor.numel() for name, tensor in upload.items() if "lora" in name)
            assert factor_numbers(MATRICES.values(), rank, aggregator.sent(round_)) == factors

    def test_what_is_downloaded_suffices(self, aggregator, round_):
        """Where nothing is merged, a client gets the new numbers of what is sent, cut to its rank."""
        one = Round(aggregator, round_=round_)
        average = one.average()
        for rank in set(one.ranks):
            told = aggregator.download_numbers(MATRICES.values(), rank, one.ranks, round_)
            new = only(truncated(average.adapter, rank), aggregator.sent(round_))
            factors = sum(tensor.numel() for name, tensor in new.items() if "lora" in name)
            dense = sum(one.d_in * one.d_out for one in MATRICES.values())
            if aggregator.has_residual:  # what is merged, with the new factors or with a seed of them
                assert 0 < told <= factors + dense
            else:
                assert told == factors

    def test_only_its_sum_is_needed_where_it_says_so(self, aggregator, round_):
        one = Round(aggregator, round_=round_)
        whole = [padded(upload, one.start) for upload in one.uploads]
        of_sum = aggregator.aggregate([mean(whole, one.weights)], [1.0], one.server)
        left, right = model(one.average().adapter), model(of_sum.adapter)
        residuals = [found.residual for found in (one.average(), of_sum)]
        is_same = furthest(left, right) < 1e-12 and (not residuals[0] or furthest(*residuals) < 1e-12)
        assert is_same == (aggregator.needs == "linear")

    def test_one_that_calls_itself_plain_is_the_mean(self, aggregator, round_):
        if aggregator.is_plain:
            one = Round(aggregator, round_=round_)
            assert furthest(one.average().adapter, mean(one.uploads, one.weights)) < 1e-12

    def test_what_is_frozen_stays(self, aggregator, round_):
        one = Round(aggregator, round_=round_)
        average = one.average()
        for factor in BOTH_FACTORS - aggregator.trained(round_):
            name = f"q.lora_{factor}.weight"
            assert torch.equal(average.adapter[name], one.start[name])


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
