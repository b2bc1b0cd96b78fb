"""What the clients and the federated server hold from round to round; nothing is computed here."""

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property

from cosim.graph.node import Node, Params, Ref
from cosim.learning.control_variates import ControlVariates
from cosim.learning.operations import rank_pairs
from cosim.learning.operations.average import aggregate, distribute, select
from cosim.learning.operations.evaluate import mean_evaluation
from cosim.learning.operations.server_step import follow_average
from cosim.learning.results import evaluate, export
from cosim.learning.server_optimizer import ServerOptimizer
from cosim.learning.server_optimizer.none import AVERAGE
from cosim.learning.shape import BOTH_FACTORS
from cosim.learning.train_state import Guidance, TrainState
from cosim.learning.training import Training
from cosim.learning.weighting import Sender, Weighting
from cosim.learning.weighting.data import BY_DATA
from cosim.rng import stream


class FederatedState:
    """Clients whose adapters are averaged by the aggregator of the task.

    A round goes ``upload`` of each client that sends, ``average``, ``hand_out``;
    ``refs`` are then to be kept.

    Parameters
    ----------
    training
        Adds the nodes.
    part
        What clients train: ``client``, the blocks before the cut, or ``whole``.
    weighting, server_optimizer
        How senders count, and how the global adapter follows their average.

    Attributes
    ----------
    states
        Each client's train state as it is now.
    starts
        The adapter each client's round began from, which the server knows too, as
        far as it is sent.
    adapter
        The global adapter.
    residual
        What is merged into the base; None before anything is.
    variates
        The control variates; None where the local rule has none.
    """

    def __init__(
        self,
        training: Training,
        part: str,
        weighting: Weighting = BY_DATA,
        server_optimizer: ServerOptimizer = AVERAGE,
    ) -> None:
        self.training = training
        self._weighting, self._server_optimizer = weighting, server_optimizer
        self._server_state: Ref | None = None
        self.variates = ControlVariates(training) if training.task.rule.has_variates else None
        self.aggregator = training.task.aggregator
        start = training.start(part)
        self.adapter = start.adapter
        self.residual: Ref | None = None
        self._weights: dict[int, float] = {}
        self.states = [start] * training.task.num_clients
        if self.aggregator.trained(1) != BOTH_FACTORS or not self._has_one_rank:
            self.states = self._distributed(1, begins_again=True)
        self.starts = [one.adapter for one in self.states]

    def guidance(self, client: int) -> Guidance:
        """Return what corrects the gradients of a client's round."""
        variates = {} if self.variates is None else self.variates.known(client)
        return Guidance(self.training.task.rule, {"start": self.starts[client], **variates})

    def upload(self, client: int, round_: int) -> Ref:
        """Return what a client sends at the end of a round, as it is before any encoding."""
        if self.variates is not None:
            return self.variates.bundles[client]
        return self._sent(self.states[client].adapter, round_)

    def reference(self, client: int, round_: int) -> Ref:
        """Return what server and client both knew of it when the round began."""
        if self.variates is not None:
            return self.variates.beside(self.starts[client])
        return self._sent(self.starts[client], round_)

    def average(
        self,
        uploads: Mapping[int, Ref],
        round_: int,
        masks: Mapping[int, Ref] | None = None,
        senders: Collection[int] | None = None,
    ) -> Node:
        """Return the node of the federated server on what it received from clients, by their numbers.

        Parameters
        ----------
        uploads
            What arrived of each who sent.
        round_
            The round that ends.
        masks
            What of it was really sent, where a codec says so.
        senders
            Who sent, where what arrived is their sum.
        """
        if self.aggregator.is_plain and masks is None:
            node = self.training.mean(uploads, self.weights(uploads))
        else:
            known = [self.adapter] if self.residual is None else [self.adapter, self.residual]
            marks = [] if masks is None else [masks[client] for client in uploads]
            node = self.training.graph.add(
                aggregate,
                [*uploads.values(), *marks, *known],
                weights=self.weights(uploads),
                aggregator=self._aggregator_params,
                scaling=self._scaling,
                round=round_,
                seed=stream(self.training.task.seed, "aggregate", round_).torch_seed(),
                masked=masks is not None,
            )
            if self.aggregator.has_residual:
                self.residual = node.ref("residual")
        if self.variates is not None:
            node = self.variates.take_in(node, uploads if senders is None else senders)
        if not self._server_optimizer.is_none:
            node = self._followed(node, round_)
        self.adapter = node.ref("adapter")
        return node

    def _followed(self, average: Node, round_: int) -> Node:
        """Return the node of the server's own step along an average."""
        state = () if self._server_state is None else (self._server_state,)
        node = self.training.graph.add(
            follow_average,
            (self.adapter, average.ref("adapter"), *state),
            optimizer=self.training.params_of(self._server_optimizer),
            factors=sorted(self.aggregator.sent(round_)),
        )
        self._server_state = node.ref("state")
        return node

    def weigh(self, weights: Mapping[int, float]) -> None:
        """Let clients weigh this much in averages from now on; as set where none weighs anything."""
        self._weights = dict(weights) if any(weight > 0.0 for weight in weights.values()) else {}

    def weights(self, clients: Collection[int]) -> list[float]:
        """Return the weights of those who sent, adding up to one."""
        if not self._weights:
            shares = self.training.task.shares
            return self._weighting.weights([Sender(len(shares[client])) for client in clients])
        total = sum(self._weights[client] for client in clients)
        return [self._weights[client] / total for client in clients]

    def pair_figures(self, uploads: Mapping[int, Ref], before: Ref) -> dict[str, Ref]:
        """Return by name what is to be known of rank pairs after an average.

        Nothing of personal models, and nothing where no rank pairs are trained.

        Parameters
        ----------
        uploads
            What the average was of.
        before
            The global adapter the round began from.
        """
        if self.aggregator.is_personal or not self.training.task.trainable.has_factors:
            return {}
        graph, weights = self.training.graph, self.weights(uploads)
        return {
            "coherence": rank_pairs.coherence(graph, self.adapter),
            "covariance_error": rank_pairs.covariance_error(graph, before, [*uploads.values()], weights),
        }

    def distribute_to_all(self, round_: int) -> None:
        """Let all clients, those too who sent nothing, start a round from the global adapter."""
        if self._is_as_it_comes:
            self.states = [one._replace(adapter=self.adapter, residual=self.residual) for one in self.states]
        else:
            self.states = self._distributed(round_, begins_again=not self.aggregator.keeps_moments)
        self.starts = [one.adapter for one in self.states]

    def evaluate(self, *others: Ref, client: int | None = None) -> Node:
        """Return the evaluation of the model, put together with ``others``; of a personal one, its mean.

        With ``client`` that of the client's model on its own held-out examples.
        """
        if not self.aggregator.is_personal:
            return evaluate(self.training, self.adapter, *others, residual=self.residual, client=client)
        if client is not None:
            return evaluate(self.training, self.states[client].adapter, *others, client=client)
        shares: dict[Ref, float] = {}  # of each model in the data: clients that never trained share one
        for one, weight in zip(self.states, self.training.weights(range(len(self.states))), strict=True):
            shares[one.adapter] = shares.get(one.adapter, 0.0) + weight
        if len(shares) == 1:
            return evaluate(self.training, self.states[0].adapter, *others)
        each = [evaluate(self.training, one, *others) for one in shares]
        figures = [one.ref(name) for one in each for name in ("loss", "accuracy")]
        return self.training.graph.add(mean_evaluation, figures, weights=list(shares.values()))

    def export(self, *others: Ref) -> Ref:
        """Return the files of the global adapter, put together with ``others``."""
        if not self.aggregator.is_personal:
            return export(self.training, self.adapter, *others, residual=self.residual)
        mean = self.training.mean({client: one.adapter for client, one in enumerate(self.states)})
        return export(self.training, mean.ref("adapter"), *others)

    def refs(self) -> Iterator[Ref]:
        """Return what later rounds build on."""
        yield self.adapter
        yield from (ref for ref in (self.residual, self._server_state) if ref is not None)
        yield from () if self.variates is None else self.variates.refs()
        for one in self.states:
            yield one.adapter
            yield one.optimizer
        yield from self.starts  # in the middle of a round other adapters than those states have

    @property
    def _is_as_it_comes(self) -> bool:
        """Whether clients start from the global adapter itself, with the moments they have."""
        aggregator = self.aggregator
        return aggregator.keeps_moments and not aggregator.is_personal and self._has_one_rank

    @property
    def _has_one_rank(self) -> bool:
        return set(self._ranks) == {self.training.lora_rank}

    def _distributed(self, round_: int, *, begins_again: bool) -> list[TrainState]:
        """Return the train states all clients start a round with; those that are alike are one."""
        made: dict[tuple[int, Ref | None], Node] = {}
        states = []
        for one, rank in zip(self.states, self._ranks, strict=True):
            own = one.adapter if self.aggregator.is_personal and round_ > 1 else None
            if (rank, own) not in made:
                made[rank, own] = self._distribute(round_, rank, own, begins_again)
            node = made[rank, own]
            optimizer = node.ref("optimizer") if begins_again else one.optimizer
            states.append(
                TrainState(node.ref("adapter"), optimizer, self.residual, self._params_of(round_, rank))
            )
        return states

    def _distribute(self, round_: int, rank: int, own: Ref | None, begins_again: bool) -> Node:
        """Return the node of what a client of a rank starts a round with."""
        return self.training.graph.add(
            distribute,
            [self.adapter] if own is None else [self.adapter, own],
            rank=rank,
            shared=sorted(self.aggregator.sent(round_)),
            trained=sorted(self.aggregator.trained(round_)),
            optimizer=self.training.optimizer if begins_again else None,
        )

    def _params_of(self, round_: int, rank: int) -> dict[str, object]:
        """Return what a client's passes of a round also get."""
        params: dict[str, object] = {}
        for factor in BOTH_FACTORS - self.aggregator.trained(round_):
            params["frozen"] = factor
        if rank != self.training.lora_rank:
            params["rank"] = rank
        return params

    def _sent(self, adapter: Ref, round_: int) -> Ref:
        """Return what of an adapter is sent in a round."""
        sent = self.aggregator.sent(round_)
        if sent == BOTH_FACTORS:
            return adapter
        return self.training.graph.add(select, [adapter], factors=sorted(sent)).ref("adapter")

    @property
    def _scaling(self) -> float:
        return self.training.task.trainable.of_rank(self.training.lora_rank).scaling

    @cached_property
    def _ranks(self) -> list[int]:
        return [
            self.aggregator.rank(client, self.training.lora_rank)
            for client in range(self.training.task.num_clients)
        ]

    @cached_property
    def _aggregator_params(self) -> Params:
        # ranks of clients are in the nodes of their states
        return Params.of(self.aggregator, frozenset({"client_ranks"}))
