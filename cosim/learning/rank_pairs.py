"""Rank pairs: a column of B and the row of A it is multiplied with, numbered over all adapted matrices.

An adapter is a sum of rank-one matrices, one for each pair. Numbering, sizes and
selection need no tensors; what pairs weigh is in :mod:`cosim.learning.pair_energy`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import ceil, floor
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

Scope = Literal["global", "module"]

_ROUNDING = 1e-9  # a ratio of 29 pairs in 100 is 28.999999999999996 pairs


@dataclass(frozen=True)
class Factors:
    """The two factors of one adapted matrix: A of shape (rank, num_inputs), B (num_outputs, rank)."""

    a_name: str
    b_name: str
    rank: int
    num_inputs: int
    num_outputs: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rank, inputs and outputs; matrices that agree in it can be stacked."""
        return self.rank, self.num_inputs, self.num_outputs


@dataclass(frozen=True)
class RankPairs:
    """The pairs of an adapter, numbered matrix by matrix in the order of their names.

    Names are sorted, so the number of a pair is the same at both ends, however
    an adapter was put together, and a pair keeps its number for good: pairs are
    averaged with those of the same number, and must never be sorted.

    Attributes
    ----------
    modules
        The adapted matrices.
    others
        Names of tensors that are no factors, such as a classifier's head, sorted.

    Examples
    --------
    >>> shapes = {"q.lora_A.weight": (2, 3), "q.lora_B.weight": (5, 2), "head": (7,)}
    >>> pairs = RankPairs.of(shapes)
    >>> pairs.count, pairs.numbers.tolist(), pairs.others
    (2, [8, 8], ('head',))
    """

    modules: tuple[Factors, ...]
    others: tuple[str, ...] = ()

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]]) -> "RankPairs":
        """Return the pairs of an adapter of these shapes, named as PEFT saves it.

        Raises
        ------
        ValueError
            If a factor comes without the other, or their ranks differ.
        """
        modules, others = [], []
        for name in sorted(shapes):
            if ".lora_A." in name:
                modules.append(_factors(name, shapes))
            elif ".lora_B." not in name:
                others.append(name)
            elif name.replace(".lora_B.", ".lora_A.") not in shapes:
                raise ValueError(f"{name} comes without its lora_A; a rank pair has a part in both factors")
        return cls(tuple(modules), tuple(others))

    @cached_property
    def count(self) -> int:
        """How many pairs there are."""
        return sum(module.rank for module in self.modules)

    @cached_property
    def numbers(self) -> Ints:
        """Numbers each pair consists of, inputs plus outputs of its matrix, shape (count,)."""
        sizes = [module.num_inputs + module.num_outputs for module in self.modules]
        return np.repeat(np.asarray(sizes, dtype=np.int64), [module.rank for module in self.modules])

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where the pairs of each matrix are among all."""
        ends = np.cumsum([0, *(module.rank for module in self.modules)]).tolist()
        return tuple(slice(begin, end) for begin, end in pairwise(ends))

    @cached_property
    def stacks(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of the matrices that agree in shape, each in one stack."""
        found: dict[tuple[int, int, int], list[int]] = {}
        for number, module in enumerate(self.modules):
            found.setdefault(module.shape, []).append(number)
        return tuple(map(tuple, found.values()))

    def budget(self, sparsification_ratio: float) -> int:
        """Return how many numbers may be sent at a sparsification ratio, of all there are.

        Raises
        ------
        ValueError
            If the ratio is not in [0, 1].
        """
        if not 0.0 <= sparsification_ratio <= 1.0:
            raise ValueError(f"a sparsification ratio lies from 0 to 1, got {sparsification_ratio}")
        total = int(self.numbers.sum())
        return min(total, floor(sparsification_ratio * total * (1.0 + _ROUNDING)))

    def select(self, energies: Floats, sparsification_ratio: float, scope: Scope = "global") -> Bools:
        """Return which pairs to send, shape (count,).

        Parameters
        ----------
        energies
            What is lost if a pair is not sent, shape (count,).
        sparsification_ratio
            Share of all numbers that may be sent.
        scope
            ``global``: pairs of all matrices by energy per number, until the next
            one would exceed the budget. ``module``: the best ``ceil(ratio * rank)``
            of each matrix, which may exceed it.

        Examples
        --------
        >>> pairs = RankPairs.of({"q.lora_A.weight": (3, 4), "q.lora_B.weight": (4, 3)})
        >>> pairs.select(np.array([1.0, 5.0, 2.0]), sparsification_ratio=0.7).tolist()
        [False, True, True]
        """
        if energies.shape != (self.count,):
            raise ValueError(f"{self.count} pairs have {self.count} energies, got shape {energies.shape}")
        budget = self.budget(sparsification_ratio)
        chosen = np.zeros(self.count, dtype=np.bool_)
        if scope == "global":
            order = self.order(energies)
            chosen[order[np.cumsum(self.numbers[order]) <= budget]] = True
            return chosen
        for module, place in zip(self.modules, self.slices, strict=True):
            best = np.argsort(-energies[place], kind="stable")[: _per_module(module, sparsification_ratio)]
            chosen[place.start + best] = True
        return chosen

    def order(self, energies: Floats) -> Ints:
        """Return the numbers of all pairs by falling energy per number; the first of equals comes first."""
        return np.argsort(-energies / self.numbers, kind="stable")

    def most_selected(self, sparsification_ratio: float, scope: Scope = "global") -> tuple[int, int]:
        """Return the most pairs, and the most numbers, that :meth:`select` takes, whatever the energies."""
        if scope == "module":
            kept = [_per_module(module, sparsification_ratio) for module in self.modules]
            sizes = [module.num_inputs + module.num_outputs for module in self.modules]
            return sum(kept), sum(one * size for one, size in zip(kept, sizes, strict=True))
        budget = self.budget(sparsification_ratio)
        smallest = int((np.cumsum(np.sort(self.numbers)) <= budget).sum())
        return smallest, smallest * int(self.numbers[0]) if self.is_uniform and self.count else budget

    @property
    def is_uniform(self) -> bool:
        """Whether all pairs are equally large, so that a ratio fixes how many are sent."""
        return len(set(self.numbers.tolist())) <= 1

    def remaining(self, energies: Floats) -> tuple[Ints, Floats]:
        """Return the curve of the energy that is not sent, at each of its corners.

        Returns
        -------
        numbers, energy
            Numbers sent, and the energy of all pairs that then are not; both of
            shape (count + 1,), from nothing sent to all. Convex and falling.
        """
        order = self.order(energies)
        spent = np.concatenate([[0], np.cumsum(self.numbers[order])])
        left = np.concatenate([np.cumsum(energies[order][::-1])[::-1], [0.0]])
        return spent, left


def _factors(a_name: str, shapes: Mapping[str, Sequence[int]]) -> Factors:
    b_name = a_name.replace(".lora_A.", ".lora_B.")
    if b_name not in shapes:
        raise ValueError(f"{a_name} comes without its lora_B; a rank pair has a part in both factors")
    (rank, num_inputs), (num_outputs, other_rank) = shapes[a_name], shapes[b_name]
    if rank != other_rank:
        raise ValueError(f"{a_name} has rank {rank} and its lora_B {other_rank}; the two must agree")
    return Factors(a_name, b_name, rank, num_inputs, num_outputs)


def _per_module(module: Factors, sparsification_ratio: float) -> int:
    return min(module.rank, ceil(sparsification_ratio * module.rank * (1.0 - _ROUNDING)))
