"""Yogi at the server."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cosim.learning.server_optimizer.adaptive import Adaptive

if TYPE_CHECKING:
    from torch import Tensor


class FedYogi(Adaptive):
    """The second moment moves by a share of the square: ``v - (1 - beta_2) delta^2 sign(v - delta^2)``.

    Source
    ------
    S. Reddi et al., "Adaptive federated optimization", ICLR 2021, arXiv 2003.00295, algorithm 2.
    """

    kind: Literal["fedyogi"] = "fedyogi"
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"beta_1": 0.0})

    def second_moment(self, before: "Tensor", square: "Tensor") -> "Tensor":
        """Return the moment moved towards the square."""
        return before - (1.0 - self.beta_2) * square * (before - square).sign()
