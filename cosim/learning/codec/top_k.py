"""The largest numbers, each by its place."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.learning.codec import Codec, Encoded, Layout, Sending, Tensors, difference
from cosim.learning.codec.entries import flat, in_shapes, largest, magnitudes, place_bits, whole
from cosim.learning.codec.packing import packed_rows, tensor_bytes, tensor_of, unpacked_rows


class TopK(Codec):
    """Sends the numbers that differ most from what the receiver has, each with its place.

    Chosen are the entries with the largest difference to the reference (the
    largest entries where there is none); of equal ones the first. They arrive
    as they are, so with a ratio of 1 nothing is lost; where an entry is not sent the
    receiver keeps what it had, zero without a reference. An entry takes its own
    bits and ``ceil(log2(size))`` for its place; where all are sent, no places travel.

    On adapters, error feedback gives every entry its turn. On activations and
    gradients what is held back belongs to other examples than those of the next mini-batch.

    Attributes
    ----------
    sparsification_ratio
        Share kept, unless an allocator decides one. Rounded down to whole entries.
    ratio_of
        What it is a share of: ``numbers``, with the places on top, or all
        ``bits``, for a comparison at equal payload.
    scope
        ``tensor`` keeps the share of each tensor, as in the baseline; ``global``
        chooses among all tensors at once, and places count through all of them.
    error_feedback
        Whether what is not sent is added to what is sent the next time.

    Source
    ------
    A. F. Aji and K. Heafield, "Sparse communication for distributed gradient
    descent", EMNLP 2017; error feedback: S. U. Stich et al., "Sparsified SGD
    with memory", NeurIPS 2018.
    """

    kind: Literal["top_k"] = "top_k"
    obeys_ratio: ClassVar[bool] = True
    former_names: ClassVar[Mapping[str, str]] = {"keep_ratio": "sparsification_ratio"}
    sparsification_ratio: float = Field(default=0.1, gt=0.0, le=1.0)
    ratio_of: Literal["numbers", "bits"] = "numbers"
    scope: Literal["tensor", "global"] = "tensor"
    error_feedback: bool = True
    examples: ClassVar = (
        {},
        {"error_feedback": False},
        {"sparsification_ratio": 0.37, "scope": "global", "ratio_of": "bits"},
        {"sparsification_ratio": 1.0},
    )

    @property
    def keeps_memory(self) -> bool:
        """Whether error feedback is on."""
        return self.error_feedback

    def bits(self, layout: Layout, sparsification_ratio: float | None = None) -> int:
        """Return the bits of the kept numbers and of their places."""
        return sum(
            one.count * (layout.bits_per_number + one.place_bits)
            for one in self._groups(layout, sparsification_ratio)
        )

    def least_ratio(self, layout: Layout) -> float:
        """Return the share of one entry of the largest group."""
        least = 1.0
        for one in self._groups(layout, 0.0):
            width = layout.bits_per_number
            entry = 1.0 + one.place_bits / width if self.ratio_of == "bits" else 1.0
            least = min(least, entry / max(one.size, 1))
        return least

    def encode(self, sending: Sending) -> Encoded:
        """Return the kept numbers of all groups, then their places."""
        import torch

        layout = Layout.of(sending.tensors)
        lacking, numbers, rows = difference(sending), [], []
        for one in self._groups(layout, sending.sparsification_ratio):
            places = largest(magnitudes(flat(lacking, one.names)), one.count)
            kept = flat(sending.tensors, one.names)[torch.from_numpy(places)]
            numbers.append(tensor_bytes(kept))
            rows.append((places, one.place_bits))
        return Encoded(
            b"".join((*numbers, packed_rows(rows))), self.bits(layout, sending.sparsification_ratio)
        )

    def decode(
        self,
        payload: bytes,
        layout: Layout,
        reference: Tensors | None = None,
        sparsification_ratio: float | None = None,
    ) -> Tensors:
        """Return what the receiver had, with the kept numbers in their places."""
        import torch

        groups = list(self._groups(layout, sparsification_ratio))
        num_bytes = layout.bits_per_number // 8
        end = num_bytes * sum(one.count for one in groups)
        rows = unpacked_rows(payload[end:], [(one.count, one.place_bits) for one in groups])
        tensors: Tensors = {}
        begin = 0
        for one, places in zip(groups, rows, strict=True):
            until = begin + num_bytes * one.count
            kept = tensor_of(payload[begin:until], (one.count,), layout.dtype)
            begin = until
            numbers = torch.zeros(one.size, dtype=layout.dtype)
            if reference is not None:
                numbers = flat(reference, one.names).detach().cpu().clone()
            numbers[torch.from_numpy(places if one.place_bits else np.arange(one.count))] = kept
            tensors |= in_shapes(numbers, {name: layout.shapes[name] for name in one.names})
        return tensors

    def _groups(self, layout: Layout, sparsification_ratio: float | None) -> Iterator["_Group"]:
        """Return what is chosen among, and how many of it."""
        ratio = self.sparsification_ratio if sparsification_ratio is None else sparsification_ratio
        sizes = layout.sizes
        together = [tuple(sizes)] if self.scope == "global" else [(name,) for name in sizes]
        for names in together:
            size = sum(sizes[name] for name in names)
            count = whole(ratio * size)
            width_of_place = place_bits(size, count)
            if self.ratio_of == "bits" and count < size:
                width = layout.bits_per_number
                count = whole(ratio * size * width / (width + width_of_place))
            yield _Group(names, size, count, width_of_place)


@dataclass(frozen=True)
class _Group:
    """Entries chosen among: of these tensors, so many in all, so many kept, a place in so many bits."""

    names: tuple[str, ...]
    size: int
    count: int
    place_bits: int
