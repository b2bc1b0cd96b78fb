"""Adam at the server."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cosim.learning.server_optimizer.adaptive import Adaptive

if TYPE_CHECKING:
    from torch import Tensor


class FedAdam(Adaptive):
    """The second moment keeps a share of itself: ``v = beta_2 v + (1 - beta_2) delta^2``.

    Source
    ------
    S. Reddi et al., "Adaptive federated optimization", ICLR 2021, arXiv 2003.00295, algorithm 2.
    """

    kind: Literal["fedadam"] = "fedadam"
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"beta_1": 0.0})

    def second_moment(self, before: "Tensor", square: "Tensor") -> "Tensor":
        """Return the mixture."""
        return self.beta_2 * before + (1.0 - self.beta_2) * square
