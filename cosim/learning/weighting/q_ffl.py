"""By data and loss."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.weighting import Sender, Weighting, shares


class QFfl(Weighting):
    """Each sender counts by its training examples times a power of its loss.

    Attributes
    ----------
    q
        The power; 0 is by data, and the larger it is the more the worst counts.

    Source
    ------
    T. Li, M. Sanjabi, A. Beirami and V. Smith, "Fair resource allocation in federated learning",
    ICLR 2020: the gradient of their objective. Their rule for the step of the server is the aggregator
    ``q_fedavg``.
    """

    kind: Literal["q_ffl"] = "q_ffl"
    needs_losses: ClassVar[bool] = True
    q: float = Field(default=1.0, ge=0.0, le=100.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"q": 3.0})

    def weights(self, senders: Sequence[Sender]) -> list[float]:
        """Return shares; by data where nobody reports a loss, or all have none."""
        losses = [1.0 if one.loss is None else one.loss for one in senders]
        most = max(losses) or 1.0
        amounts = [
            one.num_examples * (loss / most) ** self.q for one, loss in zip(senders, losses, strict=True)
        ]
        return shares(amounts if any(amounts) else [one.num_examples for one in senders])
