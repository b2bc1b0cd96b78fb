"""A mean in which clients with a larger loss count more."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.aggregator import Aggregator, Average, Server, Tensors
from cosim.learning.aggregator.sums import weighted_sum

_LEAST_LOSS = 1e-10


class QFedAvg(Aggregator):
    """q-FedAvg: minimises the sum of ``F_k ** (q + 1) / (q + 1)`` rather than of the losses ``F_k``.

    With ``d_k = L (w - w_k)``, what client k went in a round times a guess ``L`` of the Lipschitz constant
    of the gradients, the global adapter ``w`` moves by
    ``- sum p_k F_k^q d_k / sum p_k (q F_k^(q - 1) |d_k|^2 + L F_k^q)``, which adapts the step to q. With
    ``q = 0`` this is ``fedavg``. Each client sends the loss of its first mini-batch in a round beside its
    adapter, behind a cut as the main server has told it.

    Attributes
    ----------
    q
        How much more a larger loss counts.
    lipschitz
        The guess ``L``; the source takes one over the learning rate of plain gradient descent.

    Source
    ------
    T. Li, M. Sanjabi, A. Beirami, V. Smith, "Fair resource allocation in federated learning", ICLR
    2020, arXiv 1905.10497, algorithm 2, from our knowledge of the method; seen in Flower's
    implementation, which has one loss for all. There ``F_k`` is the loss on all of a client's data, and
    clients are drawn by their data; here it is that of one mini-batch, at the same adapter, and clients
    weigh by ``scheme.weights``, where kind ``q_ffl`` is weights by a power of the loss alone.
    """

    kind: Literal["q_fedavg"] = "q_fedavg"
    former_kinds: ClassVar[tuple[str, ...]] = ("qffl",)
    needs_factors: ClassVar[bool] = False
    wants_losses: ClassVar[bool] = True
    q: float = Field(default=1.0, ge=0.0, le=100.0)
    lipschitz: float = Field(default=1.0, gt=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"q": 2.0, "lipschitz": 0.5},)

    @property
    def needs(self) -> Literal["linear", "individual"]:
        """How far each client went decides how far all go."""
        return "individual"

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return the adapter after the step; without losses all count as if they had the same."""
        losses = server.losses or [1.0] * len(uploads)
        shares, curvature = [], 0.0
        for upload, weight, loss in zip(uploads, weights, losses, strict=True):
            power = max(loss, _LEAST_LOSS) ** self.q
            away = sum(float((upload[name] - server.adapter[name]).square().sum()) for name in upload)
            slope = self.q * power / max(loss, _LEAST_LOSS) * self.lipschitz**2 * away
            shares.append(weight * power * self.lipschitz)
            curvature += weight * (slope + self.lipschitz * power)
        found = [share / curvature for share in shares]
        kept = {name: server.adapter[name] for name in uploads[0]}
        return Average(server.adapter | weighted_sum([kept, *uploads], [1.0 - sum(found), *found]), {})
