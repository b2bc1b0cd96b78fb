"""Local rules: how a client's gradients are corrected by what the server sent it and by its own state.

A regulariser is a term that an adapter alone decides; a rule also knows where the client's round
began and, if it has control variates, the common one and the client's own. A client with control
variates sends a second sum beside its update, and is sent the common variate beside the global
adapter. A rule works in closed form, before the optimiser's step; recorded losses are without it.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from cosim.learning.optimizer import Optimizer
from cosim.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]


class LocalRule(Part):
    """What corrects the gradients of a client's local steps.

    Attributes
    ----------
    has_variates
        Whether clients and server have control variates: a tensor for each trained one,
        zero at the beginning.
    num_held
        Numbers a client holds for it of each trained one, beside what it trains.
    """

    has_variates: ClassVar[bool] = False
    num_held: ClassVar[int] = 0

    @property
    def is_none(self) -> bool:
        """Whether nothing is corrected, and nothing need be computed."""
        return False

    def why_unfit(self, optimizer: Optimizer) -> str | None:
        """Return why it does not go with an optimiser of the clients, with a way out; None if it does."""
        return None

    @abstractmethod
    def corrected(
        self, adapter: Tensors, gradients: Tensors, start: Tensors, common: Tensors, own: Tensors
    ) -> Tensors:
        """Return corrected gradients by the same names; nothing given is written to.

        Parameters
        ----------
        adapter, gradients
            What is trained as it is now, and the gradients of a mini-batch.
        start
            What the client's round began from.
        common, own
            The control variates, empty while they are zero.
        """

    def ended(
        self, start: Tensors, after: Tensors, rates: float, common: Tensors, own: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Return a client's own variate after a round, and what it sends of it.

        The server moves the common variate towards the mean of what is sent, by the share of the
        senders in all data.

        Parameters
        ----------
        start, after
            What is trained before and after the client's local steps.
        rates
            The sum of the learning rates of these steps.
        common, own
            As for :meth:`corrected`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no control variates")
