"""What every aggregator keeps, on drawn factors in float64: what it makes of uploads, and what travels."""

import pytest
import torch

from cosim.learning.aggregator import Aggregator, Server, factor_numbers
from cosim.learning.aggregator.sums import matrices_of, only, padded, truncated
from cosim.learning.shape import BOTH_FACTORS, Linear
from cosim.rng import stream
from cosim.testing.selection import parts_of

MATRICES = {"q": Linear("q", d_in=7, d_out=5, has_bias=False), "v": Linear("v", 6, 9, has_bias=True)}
RANK, SCALING = 4, 8.0
CASES = parts_of(Aggregator)


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
