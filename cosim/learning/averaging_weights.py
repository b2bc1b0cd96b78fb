"""How much each client counts in the averages of a training, as clients report and decisions say."""

from collections.abc import Callable, Collection, Mapping, Sequence
from math import isfinite
from sys import float_info

from cosim.graph.node import Ref
from cosim.learning.weighting import Sender, Weighting


class AveragingWeights:
    """The weights of senders: those a decision sets, else what the weighting makes of their data and losses.

    Parameters
    ----------
    weighting
        How senders count where no decision says it.
    num_examples
        How many training examples each client holds.
    """

    def __init__(self, weighting: Weighting, num_examples: Sequence[int]) -> None:
        self._weighting, self._num_examples = weighting, num_examples
        self._decided: dict[int, float] = {}
        self._delivery_rates: dict[int, float] = {}
        self._losses: Mapping[int, float] = {}
        self._best_losses: dict[int, float] = {}

    def hear(self, losses: Mapping[int, float]) -> None:
        """Take in what clients have reported of this round; what is not finite is as large as can be."""
        self._losses = {client: loss if isfinite(loss) else float_info.max for client, loss in losses.items()}
        for client, loss in self._losses.items():
            self._best_losses[client] = min(loss, self._best_losses.get(client, loss))

    def decide(self, weights: Mapping[int, float], rates: Mapping[int, float] | None = None) -> None:
        """Let clients weigh this much in averages from now on; as set where none weighs anything.

        Parameters
        ----------
        rates
            How often what each sends arrives, in the mean over the channel: the server divides by
            it and does not renormalise over those that arrived. 0 where it does.
        """
        self._decided = dict(weights) if any(weight > 0.0 for weight in weights.values()) else {}
        self._delivery_rates = dict(rates) if rates and any(rates.values()) else {}

    def of(self, clients: Collection[int]) -> list[float]:
        """Return the weights of those who sent, adding up to one."""
        if not self._decided:
            now, best = self._losses, self._best_losses
            return self._weighting.weights(
                [Sender(self._num_examples[one], now.get(one), best.get(one)) for one in clients]
            )
        total = sum(self._decided[client] for client in clients)
        return [self._decided[client] / total for client in clients]

    def terms(self, uploads: Mapping[int, Ref], begin: Callable[[], Ref]) -> tuple[list[Ref], list[float]]:
        """Return what a round's average is the sum of, with weights that add up to one.

        Where the server does not renormalise, what all began from has the weight that is
        missing, or is too much: updates are then summed with the weights they have.

        Parameters
        ----------
        uploads
            What arrived of each who sent.
        begin
            Returns what all began from.
        """
        if not self._delivery_rates:
            return list(uploads.values()), self.of(uploads)
        weights = [self._decided[client] / self._delivery_rates[client] for client in uploads]
        return [*uploads.values(), begin()], [*weights, 1.0 - sum(weights)]
