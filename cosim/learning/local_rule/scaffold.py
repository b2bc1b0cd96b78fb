"""Control variates against the drift of clients."""

from typing import ClassVar, Literal

from cosim.learning.local_rule import LocalRule, Tensors
from cosim.learning.optimizer import Optimizer
from cosim.learning.optimizer.sgd import Sgd


class Scaffold(LocalRule):
    """A client steps along ``g - c_i + c``: its gradient less its own control variate, plus the common one.

    After a round in which a client went from ``x`` to ``y`` with learning rates that add up to
    ``r``, its own variate becomes ``c_i - c + (x - y) / r``, and the common one moves by the mean
    change of the senders times their share in all data. What a client sends of it is ``c`` plus its
    change: the numbers of an upload and of a download double. It takes plain gradient descent, for
    whose steps alone ``(x - y) / r`` is a mean gradient.

    Source
    ------
    S. P. Karimireddy et al., "SCAFFOLD: stochastic controlled averaging for federated
    learning", ICML 2020, arXiv 1910.06378, algorithm 1, option II. There clients weigh the same; ours by
    their data, in the mean of the variates too.
    """

    kind: Literal["scaffold"] = "scaffold"
    has_variates: ClassVar[bool] = True
    num_held: ClassVar[int] = 3  # both variates, and where the round began

    def why_unfit(self, optimizer: Optimizer) -> str | None:
        """Refuse all but plain gradient descent."""
        if (
            isinstance(optimizer, Sgd)
            and not (optimizer.momentum or optimizer.weight_decay or optimizer.warmup_steps)
            and optimizer.max_grad_norm is None
        ):
            return None
        return (
            f"{self.kind!r} takes the way of a client for the sum of its gradients, which it is of plain "
            f"gradient descent alone, and training.optimizer is {optimizer.kind!r}; take 'sgd' without "
            "momentum, weight_decay, warmup_steps and max_grad_norm"
        )

    def corrected(
        self, adapter: Tensors, gradients: Tensors, start: Tensors, common: Tensors, own: Tensors
    ) -> Tensors:
        """Return the gradients less the own variate plus the common one."""
        found = {name: one - own[name] if own else one for name, one in gradients.items()}
        return {name: one + common[name] if common else one for name, one in found.items()}

    def ended(
        self, start: Tensors, after: Tensors, rates: float, common: Tensors, own: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Return the own variate, and the mean of the corrected gradients, which is ``c`` plus its change."""
        mean = {name: (start[name] - one) / rates for name, one in after.items()}
        kept = {name: one - common[name] if common else one for name, one in mean.items()}
        return {name: one + own[name] if own else one for name, one in kept.items()}, mean
