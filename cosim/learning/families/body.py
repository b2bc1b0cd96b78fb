"""A model in pieces: what each family says of its own modules."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cosim.learning.families.kernels import Attend, attend_fused, causal_mask
from cosim.learning.families.prefixed import PrefixVectors, seen_mask
from cosim.learning.shape import ModelShape


class Body(ABC):
    """One model in pieces; the pieces are those of the model, not copies.

    Modules are called, so whatever a trainable puts in the place of a linear layer or a norm has its
    say; what lies between them is computed here.

    Parameters
    ----------
    model
        A model under the names of transformers, adapters already on it; see
        :meth:`cosim.learning.base.Base.pieces`.
    shape
        Its shape for the task it is used for.

    Attributes
    ----------
    attend
        The kernel of attention.
    first_position
        Where the positions of a sequence begin.
    sees_prefixes
        Whether attention sees the prefixes of its block.
    """

    is_causal: bool = True
    blocks: Sequence[nn.Module]
    attend: Attend
    first_position: int
    sees_prefixes: bool

    def __init__(self, model: nn.Module, shape: ModelShape) -> None:
        self.shape = shape
        self.attend = attend_fused
        self.first_position, self.sees_prefixes = 0, True

    @abstractmethod
    def embed(self, input_ids: Tensor) -> Tensor:
        """Return what the first block sees, shape (batch_size, sequence_length, hidden_size)."""

    def added(self, seen: NDArray[np.bool_], like: Tensor) -> Tensor:
        """Return the mask of :meth:`run_block` for positions of which some are not to be seen.

        The lowest finite number rather than minus infinity, as transformers has it, keeps an
        example of padding alone finite.
        """
        padding = np.where(seen, 0.0, torch.finfo(like.dtype).min)[:, None, None, :]
        added = torch.from_numpy(padding).to(device=like.device, dtype=like.dtype)
        if not self.is_causal:
            return added
        return torch.minimum(added, causal_mask(seen.shape[1], like.dtype, like.device))

    @abstractmethod
    def run_block(
        self, block: nn.Module, hidden: Tensor, mask: Tensor | None, places: Tensor | None = None
    ) -> Tensor:
        """Return what a block makes of ``hidden``.

        Parameters
        ----------
        hidden
            Shape (batch_size, sequence_length, hidden_size).
        mask
            Added to the attention scores; without it a causal model hides what is later, and
            another sees everything.
        places
            Positions, counted through all examples, that anybody asks for, as only the last block
            may leave others out: the result has shape (len(places), hidden_size).
        """

    @abstractmethod
    def scores(self, rows: Tensor) -> Tensor:
        """Return what the head says of some positions behind the last block.

        Parameters
        ----------
        rows
            Shape (count, hidden_size).

        Returns
        -------
        Tensor
            Shape (count, vocab_size), or (count, num_labels) for a classifier.
        """

    def mixed(
        self,
        block: nn.Module,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        scale: float,
    ) -> Tensor:
        """Return what attention makes of projections, each of shape (batch_size, length, width)."""
        queries, keys, values = (self.heads(one) for one in (queries, keys, values))
        return self.attended(block, queries, keys, values, mask, scale)

    def attended(
        self,
        block: nn.Module,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        scale: float,
    ) -> Tensor:
        """Return what attention makes of heads, with a prefix of the block in front of keys and values."""
        prefix = block._modules.get("prefix")
        if isinstance(prefix, PrefixVectors) and self.sees_prefixes:
            length = keys.shape[2]
            keys, values = prefix.before(keys, values)
            mask = seen_mask(mask, self.is_causal, keys.shape[2] - length, queries)
        return self.joined(self.attend(queries, keys, values, mask, self.is_causal, scale))

    def heads(self, projected: Tensor) -> Tensor:
        """Return a projection head by head, shape (batch_size, heads, length, head_dim)."""
        return projected.view(*projected.shape[:-1], -1, self.shape.head_dim).transpose(1, 2)

    @staticmethod
    def joined(mixed: Tensor) -> Tensor:
        """Return heads side by side again, shape (batch_size, length, heads * head_dim)."""
        return mixed.transpose(1, 2).flatten(2)


class CausalBody(Body):
    """A body with a norm in front of its head, which is a classifier's too."""

    final_norm: Any
    head: Any

    def scores(self, rows: Tensor) -> Tensor:
        rows = self.final_norm(rows)
        found: Tensor = self.head(rows if self.shape.task == "causal_lm" else as_trained(rows))
        return found


def chosen(tensor: Tensor, places: Tensor | None) -> Tensor:
    """Return some positions of a tensor of shape (batch_size, length, width), or all as they are."""
    return tensor if places is None else tensor.flatten(0, 1).index_select(0, places)


def as_trained(hidden: Tensor) -> Tensor:
    """Return ``hidden`` in the number format of a trained head, which is float32 beside bfloat16."""
    return hidden.float() if hidden.dtype == torch.bfloat16 else hidden
