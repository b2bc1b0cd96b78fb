"""What the clients and the federated server hold from round to round; nothing is computed here."""

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from cosim.graph.node import Node, Params, Ref
from cosim.learning.averaging_weights import AveragingWeights
from cosim.learning.control_variates import ControlVariates
from cosim.learning.operations import rank_pairs
from cosim.learning.operations.average import aggregate, distribute, select, with_loss
from cosim.learning.operations.pruning import choose_units, narrow, widen, widen_upload
from cosim.learning.operations.server_step import follow_average
from cosim.learning.results import evaluate, evaluate_each, export
from cosim.learning.server_optimizer import ServerOptimizer
from cosim.learning.server_optimizer.none import AVERAGE
from cosim.learning.shape import BOTH_FACTORS
from cosim.learning.train_state import Guidance, TrainState
from cosim.learning.training import Training
from cosim.learning.weighting import Weighting
from cosim.learning.weighting.data import BY_DATA
from cosim.rng import stream

if TYPE_CHECKING:
    from cosim.learning.units import Kept


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
    start, first_round
        What all begin from, and in which round, where it is not as the training itself has it.

    Attributes
    ----------
    states
        Each client's train state as it is now.
    starts
        The adapter each client's round began from, which the server knows too, as
        far as it is sent.
    weights
        How much each sender counts.
    adapter
        The global adapter.
    residual
        What is merged into the base; None before anything is.
    variates
        The control variates; None where the local rule has none.
    losses
        What each client found its loss to be in this round, where the aggregator wants it.
    learning_rates
        The sum of the learning rates of each client's last local steps.
    narrowed
        What clients train in this round that keep only some units of the model.
    """

    def __init__(
        self,
        training: Training,
        part: str,
        weighting: Weighting = BY_DATA,
        server_optimizer: ServerOptimizer = AVERAGE,
        start: TrainState | None = None,
        first_round: int = 1,
    ) -> None:
        self.training = training
        self.weights = AveragingWeights(weighting, [len(share) for share in training.task.shares])
        self._server_optimizer = server_optimizer
        self._server_state: Ref | None = None
        self.variates = ControlVariates(training) if training.task.rule.has_variates else None
        self.aggregator = training.task.aggregator
        # where numbers are few that give all averages again, the store keeps these alone
        self._is_rebuilt = training.task.codecs.adapter.is_summed
        start = training.start(part) if start is None else start
        start.adapter.node.is_rebuilt = self._is_rebuilt
        self.adapter = start.adapter
        self.residual = start.residual
        self._averaged = start.adapter
        self._merged: tuple[Ref, ...] = ()
        self.losses: dict[int, Ref] = {}
        self.learning_rates: dict[int, float] = {}
        self.states = [start] * training.task.num_clients
        if self.aggregator.trained(first_round) != BOTH_FACTORS or not self._has_one_rank:
            self.states = self._distributed(first_round, begins_again=True, is_first=True)
        self.starts = [one.adapter for one in self.states]
        self.narrowed: dict[int, TrainState] = {}

    def narrow(self, client: int, kept: "Kept", *, by_own: bool, batch: Params | None = None) -> TrainState:
        """Let a client's round begin with so many units of the model; returns what it trains.

        Parameters
        ----------
        kept
            How many units of each block remain.
        by_own
            Whether they are chosen by the client's own weights; else by those of the global adapter.
        batch
            Of which mini-batch the gradients are, where weights count times their gradients.
        """
        graph, side = self.training.graph, self.states[client]
        judged = side.adapter if by_own else self.adapter
        by = {} if batch is None else {"batch": batch}
        units = graph.add(choose_units, [judged], kept=[list(one) for one in kept], **by).ref("units")
        node = graph.add(narrow, [side.adapter, side.optimizer, units])
        self.narrowed[client] = begin = side._replace(units=units).stepped(node)
        self.starts[client] = begin.adapter
        return begin

    def widen(self, client: int, after: TrainState) -> None:
        """Put back what a client trained of the units that remained; others are as they were."""
        whole, units = self.states[client], self.narrowed[client].units
        assert units is not None
        inputs = (whole.adapter, whole.optimizer, after.adapter, after.optimizer, units)
        self.states[client] = whole.stepped(self.training.graph.add(widen, inputs))
        self.narrowed[client] = after

    def guidance(self, client: int) -> Guidance:
        """Return what corrects the gradients of a client's round."""
        variates = {} if self.variates is None else self.variates.known(client)
        return Guidance(self.training.task.rule, {"start": self.starts[client], **variates})

    def upload(self, client: int, round_: int) -> Ref:
        """Return what a client sends at the end of a round, as it is before any encoding."""
        if self.variates is not None:
            return self.variates.bundles[client]
        sent = self._sent(self.narrowed.get(client, self.states[client]).adapter, round_)
        return self._beside(sent, self.losses[client]) if self.aggregator.wants_losses else sent

    def reference(self, client: int, round_: int) -> Ref:
        """Return what server and client both knew of it when the round began."""
        if self.variates is not None:
            return self.variates.beside(self.starts[client])
        known = self._sent(self.starts[client], round_)
        return self._beside(known) if self.aggregator.wants_losses else known

    def _beside(self, adapter: Ref, *loss: Ref) -> Ref:
        """Return an adapter with a loss beside it."""
        return self.training.graph.add(with_loss, (adapter, *loss)).ref("bundle")

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
        if self.narrowed:
            uploads, masks = self._widened(uploads)
        terms, weights = self._terms(uploads, round_)
        if self.aggregator.is_plain and masks is None:
            node = self.training.mean(dict(enumerate(terms)), weights)
        else:
            known = [self.adapter] if self.residual is None else [self.adapter, self.residual]
            marks = [] if masks is None else [masks[client] for client in uploads]
            node = self.training.graph.add(
                aggregate,
                [*terms, *marks, *known],
                weights=weights,
                aggregator=self._aggregator_params,
                scaling=self._scaling,
                round=round_,
                seed=stream(self.training.task.seed, "aggregate", round_).torch_seed(),
                masked=masks is not None,
                **({"losses": True} if self.aggregator.wants_losses else {}),
            )
            if self.aggregator.has_residual:
                before = () if self.residual is None else (self.residual,)
                self.residual = node.ref("residual")
                self._merged = (self.residual, *before)
        if self.variates is not None:
            node = self.variates.take_in(node, uploads if senders is None else senders)
        self._averaged = node.ref("adapter")
        if not self._server_optimizer.is_none:
            node = self._followed(node, round_, uploads)
        node.is_rebuilt = self._is_rebuilt
        self.adapter = node.ref("adapter")
        return node

    def _widened(self, uploads: Mapping[int, Ref]) -> tuple[dict[int, Ref], dict[int, Ref]]:
        """Return uploads in the places of the global adapter, and where each has anything."""
        wide = {}
        for client, upload in uploads.items():
            units = self.narrowed[client].units
            assert units is not None
            wide[client] = self.training.graph.add(widen_upload, [self.adapter, upload, units])
        adapters, masks = (
            {client: one.ref(name) for client, one in wide.items()} for name in ("adapter", "mask")
        )
        return adapters, masks

    def _followed(self, average: Node, round_: int, uploads: Mapping[int, Ref]) -> Node:
        """Return the node of the server's own step along an average."""
        state = () if self._server_state is None else (self._server_state,)
        told: dict[str, object] = {}
        if self._server_optimizer.needs_each:
            weights, data = self.weights.of(uploads), self.training.task.weights
            part = len(uploads) / self.training.task.num_clients
            told["senders"] = [
                (client, weight, data[client], part, self.learning_rates[client])
                for client, weight in zip(uploads, weights, strict=True)
            ]
        node = self.training.graph.add(
            follow_average,
            (self.adapter, average.ref("adapter"), *state, *(uploads.values() if told else ())),
            optimizer=self.training.params_of(self._server_optimizer),
            factors=sorted(self.aggregator.sent(round_)),
            **told,
        )
        self._server_state = node.ref("state")
        return node

    def _terms(self, uploads: Mapping[int, Ref], round_: int) -> tuple[list[Ref], list[float]]:
        """Return what a round's average is the sum of, with weights that add up to one."""
        return self.weights.terms(uploads, lambda: self.reference(next(iter(uploads)), round_))

    def pair_figures(self, uploads: Mapping[int, Ref], before: Ref, round_: int) -> dict[str, Ref]:
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
        graph, (terms, weights) = self.training.graph, self._terms(uploads, round_)
        return {
            "coherence": rank_pairs.coherence(graph, self.adapter),
            "covariance_error": rank_pairs.covariance_error(graph, before, terms, weights),
            "product_bias": rank_pairs.product_bias(
                graph, self._averaged, before, terms, weights, self._merged, self._scaling
            ),
        }

    def distribute_to_all(self, round_: int) -> None:
        """Let all clients, those too who sent nothing, start a round from the global adapter."""
        self.narrowed = {}
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
        return evaluate_each(self.training, [one.adapter for one in self.states], *others, client=client)

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
        yield from self.losses.values()
        yield from () if self.variates is None else self.variates.refs()
        for one in self.states:
            yield one.adapter
            yield one.optimizer
        for side in self.narrowed.values():
            yield from (*side.model, side.optimizer)
        yield from self.starts  # in the middle of a round other adapters than those states have

    @property
    def _is_as_it_comes(self) -> bool:
        """Whether clients start from the global adapter itself, with the moments they have."""
        aggregator = self.aggregator
        return aggregator.keeps_moments and not aggregator.is_personal and self._has_one_rank

    @property
    def _has_one_rank(self) -> bool:
        return set(self._ranks) == {self.training.lora_rank}

    def _distributed(self, round_: int, *, begins_again: bool, is_first: bool = False) -> list[TrainState]:
        """Return the train states all clients start a round with; those that are alike are one."""
        made: dict[tuple[int, Ref | None], Node] = {}
        states = []
        for one, rank in zip(self.states, self._ranks, strict=True):
            own = one.adapter if self.aggregator.is_personal and not is_first else None
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
            **self._private,
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
        if sent == BOTH_FACTORS and not self._private:
            return adapter
        node = self.training.graph.add(select, [adapter], factors=sorted(sent), **self._private)
        return node.ref("adapter")

    @property
    def _private(self) -> dict[str, list[str]]:
        """What a node must know of what is private; nothing where nothing is."""
        private = self.training.task.private
        return {"private": sorted(private)} if private else {}

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
