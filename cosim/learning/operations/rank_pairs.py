"""Operations on rank pairs: what is measured of a round, and what an allocator is given.

None of them is an input of a node that trains: measuring changes nothing.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cosim.graph.node import Graph, Params, Ref
from cosim.graph.operation import Fields, operation
from cosim.learning.aggregator.sums import padded
from cosim.learning.codec import Codec, Sending

if TYPE_CHECKING:
    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter


@operation("coherence")
def _coherence(learner: "Learner", params: Mapping[str, Any], adapter: "Adapter") -> Fields:
    from cosim.learning.codec.pairs import pairs_of
    from cosim.learning.pair_energy import coherence

    return {"coherence": coherence(pairs_of(adapter), adapter)}


def coherence(graph: Graph, adapter: Ref) -> Ref:
    """Return the largest coherence of two rank pairs of an adapter."""
    return graph.add(_coherence, (adapter,)).ref("coherence")


@operation("covariance")
def _covariance(
    learner: "Learner", params: Mapping[str, Any], reference: "Adapter", *received: "Adapter"
) -> Fields:
    """Adapters of lower ranks count as filled up with zeros."""
    from cosim.learning.codec.pairs import pairs_of
    from cosim.learning.pair_energy import covariance_error

    whole = [_whole(one, reference) for one in received]
    error = covariance_error(pairs_of(reference), whole, params["weights"], reference)
    return {"covariance_error": error}


def _whole(received: "Adapter", reference: "Adapter") -> "Adapter":
    """Return what a client has: what was received without control variates, and the reference's else."""
    own = {name: one for name, one in received.items() if name in reference}
    return reference | padded(own, reference)


def covariance_error(graph: Graph, reference: Ref, received: Sequence[Ref], weights: Sequence[float]) -> Ref:
    """Return how far the product of averaged factors is from the averaged product, relative to its step.

    Parameters
    ----------
    reference
        The global adapter the round began from.
    received
        What the server has of each client; a factor that is not in it is the reference's.
    weights
        Of the clients, adding up to one.
    """
    node = graph.add(_covariance, (reference, *received), weights=list(weights))
    return node.ref("covariance_error")


@operation("product_bias")
def _product_bias(
    learner: "Learner",
    params: Mapping[str, Any],
    averaged: "Adapter",
    reference: "Adapter",
    *given: "Adapter",
) -> Fields:
    """Behind the uploads comes what is merged into the base, now and where there was any before."""
    from cosim.learning.codec.pairs import pairs_of
    from cosim.learning.pair_energy import product_bias

    count = len(params["weights"])
    whole = [_whole(one, reference) for one in given[:count]]
    merged = None
    if given[count:]:
        after, *before = given[count:]
        scaling = params["scaling"]
        merged = {
            name: (one - before[0][name] if before and name in before[0] else one) / scaling
            for name, one in after.items()
        }
    return {"product_bias": product_bias(pairs_of(averaged), whole, params["weights"], averaged, merged)}


def product_bias(
    graph: Graph,
    averaged: Ref,
    reference: Ref,
    received: Sequence[Ref],
    weights: Sequence[float],
    merged: Sequence[Ref],
    scaling: float,
) -> Ref:
    """Return how far the product after an average is from the averaged product, relative to that.

    Parameters
    ----------
    averaged
        What the aggregator made.
    reference, received, weights
        As for :func:`covariance_error`.
    merged
        What is merged into the base after the average and before it; empty where averages merge nothing.
    scaling
        That of the adapters, which what is merged has.
    """
    node = graph.add(
        _product_bias, (averaged, reference, *received, *merged), weights=list(weights), scaling=scaling
    )
    return node.ref("product_bias")


@operation("weighted_mean")
def _weighted_mean(learner: "Learner", params: Mapping[str, Any], *figures: float) -> Fields:
    return {"mean": sum(share * one for share, one in zip(params["weights"], figures, strict=True))}


def weighted_mean(graph: Graph, figures: Sequence[Ref], weights: Sequence[float]) -> Ref:
    """Return the mean of numbers the clients measured."""
    return graph.add(_weighted_mean, figures, weights=list(weights)).ref("mean")


@operation("pair_energies", state=("pairs",))
def _pair_energies(
    learner: "Learner",
    params: Mapping[str, Any],
    adapter: "Adapter",
    reference: "Adapter",
    memory: "Adapter | None" = None,
) -> Fields:
    import torch

    from cosim.learning.codec.pairs import PairCodec

    codec: Codec = learner.made(Codec, params["codec"])
    if not isinstance(codec, PairCodec):
        raise ValueError(f"codec {codec.kind!r} sends no rank pairs: nothing is known of their energies")
    wanted = adapter
    if memory is not None and codec.keeps_memory:
        wanted = {name: tensor + memory[name] for name, tensor in adapter.items()}
    return {"pairs": {"energies": torch.from_numpy(codec.energies(Sending(wanted, reference)))}}


def pair_energies(graph: Graph, codec: Params, adapter: Ref, reference: Ref, memory: Ref | None) -> Ref:
    """Return what a client would lose without each rank pair, what it holds back included.

    The value is a table of one tensor, ``energies``, float64, shape (num_pairs,),
    in the numbering of :class:`~cosim.learning.rank_pairs.RankPairs`.
    """
    inputs = (adapter, reference) if memory is None else (adapter, reference, memory)
    return graph.add(_pair_energies, inputs, codec=codec).ref("pairs")


@operation("ideal_update", state=("spectrum",))
def _ideal_update(
    learner: "Learner", params: Mapping[str, Any], reference: "Adapter", *received: "Adapter"
) -> Fields:
    import torch

    from cosim.learning.codec.pairs import pairs_of
    from cosim.learning.update_spectrum import update_spectrum

    energies, *rest = update_spectrum(pairs_of(reference), received, params["weights"], reference)
    rests = torch.tensor(rest, dtype=torch.float64)
    return {"spectrum": {"energies": torch.from_numpy(energies), "rest": rests}}


def ideal_update(graph: Graph, reference: Ref, received: Sequence[Ref], weights: Sequence[float]) -> Ref:
    """Return what a round would change if nothing were left out.

    The value is a table of tensors, float64: ``energies``, squares of the singular
    values of the ideal update, shape (rank,), and ``rest``, the energy beyond them
    and that of the covariance of the factors. Arguments as for :func:`covariance_error`.
    """
    node = graph.add(_ideal_update, (reference, *received), weights=list(weights))
    return node.ref("spectrum")
