"""A term of each client and a common one, kept at the server; both zero before there is one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cosim.learning.aggregator.sums import weighted_sum
from cosim.learning.server_optimizer import Sender, Tensors

if TYPE_CHECKING:
    from torch import Tensor


def controls(like: Tensors, state: Tensors, senders: Sequence[Sender]) -> Tensors:
    """Return of each tensor the common term less the mean of the senders' own."""
    if not senders:
        return {}
    names = list(senders[0].upload)
    own = [
        {name: term_of(state, f"own/{one.client}/{name}", like[name]) for name in names} for one in senders
    ]
    mean = weighted_sum(own, [one.weight for one in senders])
    return {name: term_of(state, f"common/{name}", like[name]) - mean[name] for name in names}


def term_of(state: Tensors, key: str, like: "Tensor") -> "Tensor":
    """Return what a state has, zero before it has it."""
    return state[key] if key in state else like.new_zeros(like.shape)


def replace_term(kept: Tensors, name: str, one: Sender, term: "Tensor", share: float) -> None:
    """Give a client this term, and let the common one take in a share of the change."""
    key, common = f"own/{one.client}/{name}", f"common/{name}"
    kept[common] = term_of(kept, common, term) + share * (term - term_of(kept, key, term))
    kept[key] = term
