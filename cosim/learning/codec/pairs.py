"""Codecs that send some rank pairs of an adapter, whole, and say which."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.learning.codec import Codec, Encoded, Layout, Received, Sending, Tensors
from cosim.learning.codec.packing import Bits, packed, tensor_bytes, tensor_of, unpacked
from cosim.learning.rank_pairs import Bools, Factors, Floats, RankPairs, Scope
from cosim.units import Ints

if TYPE_CHECKING:
    from torch import Tensor


class PairCodec(Codec):
    """Sends rank pairs: the column of B and the row of A with the same number, or neither.

    First comes which ones, as one bit for each pair, or as their count and
    their numbers, whichever is shorter, and a bit that says which of the two it
    is. Then come tensors that are no factors, all of them, and the chosen pairs,
    as they are. The numbering is that of :class:`RankPairs`: a pair keeps its
    number, since pairs of one number are averaged with each other.

    Attributes
    ----------
    sparsification_ratio
        Share of the factors' numbers that are sent, where no allocator decides on it.
        What does not fill a pair is left over; masks, and what is no factor, come on top.
    scope
        ``global``: the best pairs of all matrices together, by energy per number.
        ``module``: the best of each matrix, ``ceil(sparsification_ratio * rank)`` of them.
    measures_spread
        Whether two more figures are recorded of each client: ``pair_energy``, what is lost if nothing is
        sent, and ``effective_pairs``, (sum e)^2 / sum e^2 over the number of pairs for their
        energies e: 1 where all are equal, and the choice between them is of no account.
    """

    obeys_ratio: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True
    needs_factors: ClassVar[bool] = True
    former_names: ClassVar[Mapping[str, str]] = {"keep_ratio": "sparsification_ratio"}
    sparsification_ratio: float = Field(default=0.5, gt=0.0, le=1.0)
    scope: Scope = "global"
    measures_spread: bool = False

    @property
    def figure_names(self) -> tuple[str, ...]:
        """What is not sent; how energies are spread where that is asked for."""
        return ("dropped_energy", *(("pair_energy", "effective_pairs") if self.measures_spread else ()))

    @abstractmethod
    def energies(self, sending: Sending) -> Floats:
        """Return what is expected to be lost without each pair, shape (num_pairs,), for an allocator."""

    @abstractmethod
    def _weigh(self, pairs: RankPairs, sending: Sending) -> tuple[Tensors, Floats, Floats]:
        """Return the factors to send pairs of, by what to choose them, and what is lost without each."""

    @property
    def _falls_back_to_zero(self) -> bool:
        """Whether the receiver takes pairs that are not sent as zero, not as those it has."""
        return False

    def bits(self, layout: Layout, sparsification_ratio: float | None = None) -> int | None:
        """Return the exact bits; None if pairs of several sizes compete with each other."""
        is_fixed = self.scope == "module" or RankPairs.of(layout.shapes).is_uniform
        return self.max_bits(layout, sparsification_ratio) if is_fixed else None

    def max_bits(self, layout: Layout, sparsification_ratio: float | None = None) -> int:
        """Return the bits if the numbers take all they may."""
        pairs = RankPairs.of(layout.shapes)
        count, numbers = pairs.most_selected(self._ratio(sparsification_ratio), self.scope)
        dense = sum(layout.sizes[name] for name in pairs.others)
        return mask_bits(pairs.count, count) + layout.bits_per_number * (numbers + dense)

    def least_ratio(self, layout: Layout) -> float:
        """Return the share of the smallest pair; by matrix at least one of each is sent."""
        numbers = RankPairs.of(layout.shapes).numbers
        if self.scope == "module" or not len(numbers):
            return 0.0
        return float(numbers.min() / numbers.sum())

    def pair_bits(self, layout: Layout) -> Ints:
        """Return the bits of each pair, shape (num_pairs,)."""
        return layout.bits_per_number * RankPairs.of(layout.shapes).numbers

    def overhead_bits(self, layout: Layout) -> int:
        """Return the most bits that come on top of the pairs, however many are sent."""
        pairs = RankPairs.of(layout.shapes)
        dense = sum(layout.sizes[name] for name in pairs.others)
        return mask_bits(pairs.count, pairs.count) + layout.bits_per_number * dense

    def encode(self, sending: Sending) -> Encoded:
        """Return which pairs are sent, and the pairs."""
        pairs = pairs_of(sending.tensors)
        tensors, worth, losses = self._weigh(pairs, sending)
        chosen = pairs.select(worth, self._ratio(sending.sparsification_ratio), self.scope)
        pieces = [tensor_bytes(sending.tensors[name]) for name in pairs.others]
        for module, rows in _chosen_rows(pairs, chosen):
            pieces.append(tensor_bytes(tensors[module.a_name][rows]))
            pieces.append(tensor_bytes(tensors[module.b_name].T[rows]))
        head, body = write_mask(chosen), b"".join(pieces)
        content = np.concatenate([head, np.unpackbits(np.frombuffer(body, dtype=np.uint8))])
        figures = {"dropped_energy": float(losses[~chosen].sum())}
        if self.measures_spread:
            total, squares = float(losses.sum()), float(np.square(losses).sum())
            figures["pair_energy"] = total
            figures["effective_pairs"] = total**2 / (squares * pairs.count) if squares > 0.0 else 1.0
        return Encoded(np.packbits(content).tobytes(), len(content), figures)

    def decode(
        self,
        payload: bytes,
        layout: Layout,
        reference: Tensors | None = None,
        sparsification_ratio: float | None = None,
    ) -> Tensors:
        """Return the pairs that were sent beside those the receiver has, or beside zeros."""
        import torch

        if reference is None:
            raise ValueError(f"codec {self.kind!r} sends some pairs: it needs the others to decode")
        pairs = RankPairs.of(layout.shapes)
        content = np.unpackbits(np.frombuffer(payload, dtype=np.uint8))
        chosen, used = read_mask(content, pairs.count)
        body, width, place = np.packbits(content[used:]).tobytes(), layout.bits_per_number // 8, 0

        def read(*shape: int) -> "Tensor":
            nonlocal place
            begin, place = place, place + width * int(np.prod(shape))
            return tensor_of(body[begin:place], shape, layout.dtype)

        tensors = {name: read(*layout.shapes[name]) for name in pairs.others}
        for module, rows in _chosen_rows(pairs, chosen):
            for name, size in ((module.a_name, module.num_inputs), (module.b_name, module.num_outputs)):
                before = reference[name].detach().cpu()
                factor = torch.zeros_like(before) if self._falls_back_to_zero else before.clone()
                (factor if name == module.a_name else factor.T)[rows] = read(len(rows), size)
                tensors[name] = factor
        return {name: tensors[name] for name in layout.shapes}

    def _ratio(self, sparsification_ratio: float | None) -> float:
        return self.sparsification_ratio if sparsification_ratio is None else sparsification_ratio


class FactorCodec(PairCodec):
    """Sends pairs of the factors as they were trained.

    Attributes
    ----------
    unsent
        What becomes of a pair a client does not send. ``update``: the server takes it as
        unchanged since the round began. ``masked``: it is averaged over those alone who
        send it. ``zerofill``: the server takes it as zero, which shrinks pairs few send.
    error_feedback
        Whether a client keeps what it did not send of its update, and adds it to the next.
        Without it the same pairs may win every round, and the others never travel.
    """

    unsent: Literal["update", "masked", "zerofill"] = "update"
    error_feedback: bool = True

    @model_validator(mode="after")
    def _memory_is_of_what_the_receiver_keeps(self) -> Self:
        if self.unsent == "zerofill" and self.error_feedback:
            raise ValueError(
                "unsent = 'zerofill' needs error_feedback = false: what is held back is held back from an "
                "update, and a pair set to zero is not updated"
            )
        return self

    @property
    def keeps_memory(self) -> bool:
        """As the setting says."""
        return self.error_feedback

    @property
    def has_mask(self) -> bool:
        """Where the server averages over senders only."""
        return self.unsent == "masked"

    @property
    def _falls_back_to_zero(self) -> bool:
        return self.unsent == "zerofill"

    def _weigh(self, pairs: RankPairs, sending: Sending) -> tuple[Tensors, Floats, Floats]:
        import torch

        from cosim.learning.pair_energy import delta_energies

        fallback = sending.reference or {}
        if self._falls_back_to_zero:
            fallback = {name: torch.zeros_like(tensor) for name, tensor in fallback.items()}
        worth = self._worth(pairs, sending)
        return sending.tensors, worth, delta_energies(pairs, sending.tensors, fallback)

    @abstractmethod
    def _worth(self, pairs: RankPairs, sending: Sending) -> Floats:
        """Return by what to choose pairs, shape (num_pairs,)."""

    def transmit(self, sending: Sending) -> Received:
        """Return what the receiver has in the end, with a mask where it averages over senders only."""
        import torch

        received = super().transmit(sending)
        if self.unsent != "masked":
            return received
        pairs = pairs_of(sending.tensors)
        content = np.unpackbits(np.frombuffer(received.payload, dtype=np.uint8))
        chosen, _ = read_mask(content, pairs.count)
        mask = {name: torch.ones_like(tensor) for name, tensor in received.tensors.items()}
        for module, rows in _chosen_rows(pairs, ~chosen):
            mask[module.a_name][rows] = 0.0
            mask[module.b_name].T[rows] = 0.0
        return replace(received, mask=mask)


def pairs_of(tensors: Tensors) -> RankPairs:
    """Return the rank pairs of an adapter that is there."""
    return RankPairs.of({name: tuple(tensor.shape) for name, tensor in tensors.items()})


def mask_bits(num_pairs: int, num_chosen: int) -> int:
    """Return the bits it takes to say which pairs are sent.

    Examples
    --------
    >>> mask_bits(64, 32), mask_bits(64, 1)
    (65, 14)
    """
    return 1 + min(num_pairs, _list_bits(num_pairs, num_chosen))


def write_mask(chosen: Bools) -> Bits:
    """Return which pairs are sent as bits, each a byte of 0 or 1."""
    numbers = np.flatnonzero(chosen)
    if len(chosen) <= _list_bits(len(chosen), len(numbers)):
        return np.concatenate([[0], chosen]).astype(np.uint8)
    parts = [(np.array([1]), 1), (np.array([len(numbers)]), len(chosen).bit_length())]
    parts.append((numbers, _width(len(chosen))))
    return np.concatenate([_bits(*part) for part in parts])


def read_mask(content: Bits, num_pairs: int) -> tuple[Bools, int]:
    """Return which pairs are sent, and how many bits said so."""
    if not content[0]:
        return content[1 : 1 + num_pairs].astype(np.bool_), 1 + num_pairs
    begin, width = 1 + num_pairs.bit_length(), _width(num_pairs)
    (count,) = unpacked(np.packbits(content[1:begin]).tobytes(), 1, begin - 1).tolist()
    end = begin + count * width
    chosen = np.zeros(num_pairs, dtype=np.bool_)
    chosen[unpacked(np.packbits(content[begin:end]).tobytes(), count, width)] = True
    return chosen, end


def _list_bits(num_pairs: int, num_chosen: int) -> int:
    return num_pairs.bit_length() + num_chosen * _width(num_pairs)


def _width(num_pairs: int) -> int:
    return max(num_pairs - 1, 0).bit_length()


def _bits(numbers: Ints, width: int) -> Bits:
    raw = np.frombuffer(packed(numbers, width), dtype=np.uint8)
    return np.unpackbits(raw, count=len(numbers) * width)


def _chosen_rows(pairs: RankPairs, chosen: Bools) -> list[tuple[Factors, list[int]]]:
    """Return for each matrix which of its pairs were chosen."""
    return [
        (module, np.flatnonzero(chosen[place]).tolist())
        for module, place in zip(pairs.modules, pairs.slices, strict=True)
    ]
