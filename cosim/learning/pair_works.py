"""Works about rank pairs: what is measured of a round, and what an allocator is told.

None of them is an input of a work that trains: measuring changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cosim.learning.codec import Codec, Sending
from cosim.parts import make

if TYPE_CHECKING:
    from cosim.learning.model import Adapter
    from cosim.learning.work import Output, Told, Work

Describe = Callable[..., "Work"]
"""Describes a work from its operation, its inputs and its settings."""


def coherence(describe: Describe, adapter: "Output") -> "Output":
    """Return the largest coherence of two rank pairs of an adapter."""
    return describe("coherence", (adapter,)).out("coherence")


def covariance_error(
    describe: Describe, reference: "Output", received: Sequence["Output"], weights: Sequence[float]
) -> "Output":
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
    work = describe("covariance", (reference, *received), weights=list(weights))
    return work.out("covariance_error")


def weighted_mean(describe: Describe, figures: Sequence["Output"], weights: Sequence[float]) -> "Output":
    """Return the mean of numbers the clients measured."""
    return describe("weighted_mean", figures, weights=list(weights)).out("mean")


def pair_energies(
    describe: Describe, codec: "Told", adapter: "Output", reference: "Output", memory: "Output | None"
) -> "Output":
    """Return what a client would lose without each rank pair, what it holds back included.

    The value is a table of one tensor, ``energies``, float64, shape (num_pairs,),
    in the numbering of :class:`~cosim.learning.rank_pairs.RankPairs`.
    """
    inputs = (adapter, reference) if memory is None else (adapter, reference, memory)
    return describe("pair_energies", inputs, codec=codec).out("pairs")


def ideal_update(
    describe: Describe, reference: "Output", received: Sequence["Output"], weights: Sequence[float]
) -> "Output":
    """Return what a round would change if nothing were left out.

    The value is a table of tensors, float64: ``energies``, squares of the singular
    values of the ideal update, shape (rank,), and ``rest``, the energy beyond them
    and that of the covariance of the factors. Arguments as for :func:`covariance_error`.
    """
    work = describe("ideal_update", (reference, *received), weights=list(weights))
    return work.out("spectrum")


def compute_coherence(settings: Mapping[str, Any], adapter: "Adapter") -> dict[str, Any]:
    """Compute the work ``coherence``."""
    from cosim.learning.codec.pairs import pairs_of
    from cosim.learning.pair_energy import coherence

    return {"coherence": coherence(pairs_of(adapter), adapter)}


def compute_covariance(
    settings: Mapping[str, Any], reference: "Adapter", *received: "Adapter"
) -> dict[str, Any]:
    """Compute the work ``covariance``; adapters of lower ranks count as filled up with zeros."""
    from cosim.learning.codec.pairs import pairs_of
    from cosim.learning.pair_energy import covariance_error

    whole = [reference | _filled_up(one, reference) for one in received]
    error = covariance_error(pairs_of(reference), whole, settings["weights"], reference)
    return {"covariance_error": error}


def compute_weighted_mean(settings: Mapping[str, Any], *figures: float) -> dict[str, Any]:
    """Compute the work ``weighted_mean``."""
    return {"mean": sum(share * one for share, one in zip(settings["weights"], figures, strict=True))}


def compute_pair_energies(
    settings: Mapping[str, Any],
    adapter: "Adapter",
    reference: "Adapter",
    memory: "Adapter | None" = None,
) -> dict[str, Any]:
    """Compute the work ``pair_energies``."""
    import torch

    from cosim.learning.codec.pairs import PairCodec

    codec = _codec(settings["codec"])
    if not isinstance(codec, PairCodec):
        raise ValueError(f"codec {codec.kind!r} sends no rank pairs: nothing is known of their energies")
    wanted = adapter
    if memory is not None and codec.keeps_memory:
        wanted = {name: tensor + memory[name] for name, tensor in adapter.items()}
    return {"pairs": {"energies": torch.from_numpy(codec.energies(Sending(wanted, reference)))}}


def compute_ideal_update(
    settings: Mapping[str, Any], reference: "Adapter", *received: "Adapter"
) -> dict[str, Any]:
    """Compute the work ``ideal_update``."""
    import torch

    from cosim.learning.codec.pairs import pairs_of
    from cosim.learning.update_spectrum import update_spectrum

    energies, *rest = update_spectrum(pairs_of(reference), received, settings["weights"], reference)
    rests = torch.tensor(rest, dtype=torch.float64)
    return {"spectrum": {"energies": torch.from_numpy(energies), "rest": rests}}


@lru_cache(maxsize=16)
def _codec(told: "Told") -> Codec:
    codec: Codec = make(Codec, told.settings)  # type: ignore[type-abstract]
    return codec


def _filled_up(adapter: "Adapter", like: "Adapter") -> "Adapter":
    filled = {}
    for name, tensor in adapter.items():
        if tensor.shape != like[name].shape:
            whole = tensor.new_zeros(like[name].shape)
            whole[: tensor.shape[0], : tensor.shape[1]] = tensor
            tensor = whole
        filled[name] = tensor
    return filled
