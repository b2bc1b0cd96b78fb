"""Biased weights: who is hard to hear counts less, so that a sum over the air is less noisy."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.control.allocators import Allocator
from cosim.control.allocators.equal import equal_shares, even_powers
from cosim.control.decision import Allocation
from cosim.control.knobs import WEIGHT
from cosim.control.solvers.biased import Bound, Front
from cosim.control.state import CellState, LinkState
from cosim.errors import AllocationError
from cosim.units import db_to_linear


class Weighing(Allocator):
    """Weights that stay the same over all rounds, worked out once from the mean gains.

    Attributes
    ----------
    theta
        Place between no bias (0: weights by data) and least noise (1). Left out, the design of
        the least bound.
    dissimilarity, convexity, learning_rate
        Of the bound, where theta is left out: how far gradients of clients are apart at the
        optimum, in norms of the clip; strong convexity; step. A guess: no training tells them.
    """

    theta: float | None = Field(default=None, ge=0.0, le=1.0)
    dissimilarity: float = Field(default=1.0, ge=0.0)
    convexity: float = Field(default=1.0, gt=0.0)
    learning_rate: float = Field(default=1.0, gt=0.0)

    @model_validator(mode="after")
    def _steps_converge(self) -> Self:
        if not self.learning_rate * self.convexity < 2.0:
            raise ValueError(
                f"learning_rate {self.learning_rate:g} times convexity {self.convexity:g} must be below 2, "
                "or the bound does not hold"
            )
        return self

    def bound_factors(self, num_clients: int) -> tuple[float, float]:
        """Return what bias and variance are multiplied by in the bound."""
        noise = self.learning_rate / (self.convexity * (2.0 - self.learning_rate * self.convexity))
        return num_clients * self.dissimilarity**2 / self.convexity**2, noise

    def uplink(self, state: CellState) -> LinkState:
        """Return the link that updates go over.

        Raises
        ------
        AllocationError
            If the scheme reads no weights, or sends no adapters.
        """
        link = state.links.get("federated_uplink")
        if link is None or WEIGHT not in state.knobs:
            raise AllocationError(
                f"allocator.kind: {self.kind!r} weighs what clients upload, and the scheme reads no weights; "
                "take the scheme 'federated'."
            )
        return link


class Biased(Weighing):
    """Weights of a sum over the air that are worked out once from the mean gains; grants as ``equal``.

    For the medium ``over_the_air`` with the precoding ``truncated_inversion``, under Rayleigh
    fading with one gain for what is silent at once. There the weakest client for its weight
    sets how loud all are. To let it count less makes the sum less noisy, and biased. At
    ``theta = 1`` all are as loud as can be.

    Attributes
    ----------
    truncation_db
        As that of the medium; up to -3.0103, where a client is as loud as it can be in the mean.
    numbers_per_element
        As the mapping of the medium: 2 where it is ``complex``, 1 where it is ``real``.

    Source
    ------
    M. Faraz Ul Abrar and N. Michelusi, arXiv 2503.06078 and its successor 2510.26722 (method
    card 1). Their successive convex approximation is replaced by a search along the exact front
    and a local search from there; their digital counterpart is ``biased_digital``.
    """

    kind: Literal["biased"] = "biased"
    sets_knobs: ClassVar[frozenset[str]] = frozenset({WEIGHT.name})
    truncation_db: float = Field(default=-3.0103, ge=-400.0, le=-3.0103)
    numbers_per_element: Literal[1, 2] = 2
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"theta": 0.5})

    def allocate(self, state: CellState) -> Allocation:
        """Return equal grants and weights.

        Raises
        ------
        AllocationError
            If the scheme reads no weights, or sends no adapters.
        """
        link = self.uplink(state)
        takes_part = state.weights > 0.0
        noise_w = link.noise_psd_w_per_hz * float(link.bandwidths_hz.sum()) * self.numbers_per_element / 2.0
        snr = even_powers(link) * link.mean_gains.mean(axis=1) / noise_w
        front = Front(snr[takes_part], state.weights[takes_part], db_to_linear(self.truncation_db))
        bound = Bound(front, *self.bound_factors(int(takes_part.sum())))
        amplitudes = bound.optimum() if self.theta is None else front.at(self.theta)
        bias, fading, noise = (float(one) for one in bound.terms(amplitudes))
        weights = np.zeros(state.num_clients)
        weights[takes_part] = amplitudes / amplitudes.sum()
        grants = {name: equal_shares(one) for name, one in state.links.items()}
        return Allocation(
            grants,
            state.cut_layer,
            state.lora_rank,
            knobs={WEIGHT.name: tuple(weights.tolist())},
            figures={"design_bias": bias, "design_fading": fading, "design_noise": noise},
        )
