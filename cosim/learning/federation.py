"""What the clients and the federated server hold from round to round, described and not computed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property

from cosim.learning import pair_works
from cosim.learning.shape import BOTH_FACTORS
from cosim.learning.sides import Side
from cosim.learning.training import Training
from cosim.learning.work import Output, Told, Work
from cosim.rng import stream


class Federation:
    """Clients whose adapters are averaged by the aggregator of the lesson.

    A round goes ``upload`` of whoever has something to send, ``average``,
    ``hand_out``; ``settle`` at its end.

    Parameters
    ----------
    training
        Describes the works.
    part
        What clients train: ``client``, the blocks before the cut, or ``whole``.

    Attributes
    ----------
    sides
        Each client's side as it is now.
    starts
        The adapter each client's round began from, which the server knows too, as
        far as it is sent.
    adapter
        The global adapter.
    residual
        What is merged into the base; None before anything is.
    """

    def __init__(self, training: Training, part: str) -> None:
        self.training = training
        self.aggregator = training.lesson.aggregator
        start = training.start(part)
        self.adapter = start.adapter
        self.residual: Output | None = None
        self._weights: dict[int, float] = {}
        self.sides = [start] * training.lesson.num_clients
        if self.aggregator.trained(1) != BOTH_FACTORS or not self._has_one_rank:
            self.sides = self._distributed(1, begins_anew=True)
        self.starts = [side.adapter for side in self.sides]

    def upload(self, client: int, round_: int) -> Output:
        """Return what a client sends at the end of a round, as it is before any encoding."""
        return self._sent(self.sides[client].adapter, round_)

    def reference(self, client: int, round_: int) -> Output:
        """Return what server and client both knew of it when the round began."""
        return self._sent(self.starts[client], round_)

    def average(
        self, uploads: Mapping[int, Output], round_: int, masks: Mapping[int, Output] | None = None
    ) -> Work:
        """Return the work of the federated server on what it received from clients, by their numbers.

        Parameters
        ----------
        uploads
            What arrived of each who sent.
        round_
            The round that ends.
        masks
            What of it was really sent, where a codec says so.
        """
        if self.aggregator.is_plain and masks is None:
            work = self.training.mean(uploads, self.weights(uploads))
        else:
            known = [self.adapter] if self.residual is None else [self.adapter, self.residual]
            marks = [] if masks is None else [masks[client] for client in uploads]
            work = self.training.describe(
                "aggregate",
                [*uploads.values(), *marks, *known],
                weights=self.weights(uploads),
                aggregator=self._told,
                scaling=self._scaling,
                round=round_,
                seed=stream(self.training.lesson.seed, "aggregate", round_).torch_seed(),
                masked=masks is not None,
            )
            if self.aggregator.has_residual:
                self.residual = work.out("residual")
        self.adapter = work.out("adapter")
        return work

    def weigh(self, weights: Mapping[int, float]) -> None:
        """Let clients weigh this much in averages from now on; by their data where none weighs anything."""
        self._weights = dict(weights) if any(weight > 0.0 for weight in weights.values()) else {}

    def weights(self, clients: Collection[int]) -> list[float]:
        """Return the weights of those who sent, adding up to one."""
        if not self._weights:
            return self.training.weights(clients)
        total = sum(self._weights[client] for client in clients)
        return [self._weights[client] / total for client in clients]

    def pair_figures(self, uploads: Mapping[int, Output], before: Output) -> dict[str, Output]:
        """Return by name what is to be known of rank pairs after an average; nothing of personal models.

        Parameters
        ----------
        uploads
            What the average was of.
        before
            The global adapter the round began from.
        """
        if self.aggregator.is_personal:
            return {}
        describe, weights = self.training.describe, self.weights(uploads)
        return {
            "coherence": pair_works.coherence(describe, self.adapter),
            "covariance_error": pair_works.covariance_error(describe, before, [*uploads.values()], weights),
        }

    def hand_out(self, round_: int) -> None:
        """Let all clients, those too who sent nothing, start a round from the global adapter."""
        if self._is_as_it_comes:
            self.sides = [side._replace(adapter=self.adapter, residual=self.residual) for side in self.sides]
        else:
            self.sides = self._distributed(round_, begins_anew=not self.aggregator.keeps_moments)
        self.starts = [side.adapter for side in self.sides]

    def evaluate(self, *others: Output) -> Work:
        """Return the evaluation of the model, put together with ``others``; of a personal one, its mean."""
        if not self.aggregator.is_personal:
            return self.training.evaluate(self.adapter, *others, residual=self.residual)
        shares: dict[Output, float] = {}  # of each model in the data: clients that never trained share one
        for side, weight in zip(self.sides, self.training.weights(range(len(self.sides))), strict=True):
            shares[side.adapter] = shares.get(side.adapter, 0.0) + weight
        if len(shares) == 1:
            return self.training.evaluate(self.sides[0].adapter, *others)
        each = [self.training.evaluate(one, *others) for one in shares]
        figures = [one.out(name) for one in each for name in ("loss", "accuracy")]
        return self.training.describe("mean_evaluation", figures, weights=list(shares.values()))

    def export(self, *others: Output) -> Output:
        """Return the files of the global adapter, put together with ``others``."""
        if not self.aggregator.is_personal:
            return self.training.export(self.adapter, *others, residual=self.residual)
        mean = self.training.mean({client: side.adapter for client, side in enumerate(self.sides)})
        return self.training.export(mean.out("adapter"), *others)

    def settle(
        self, settle: Callable[[list[Output]], list[Output]], others: Sequence[Output] = ()
    ) -> list[Output]:
        """Let go of how everything came to be.

        Parameters
        ----------
        settle
            Returns outputs to go on with, in the place of those it is given.
        others
            What else is to be kept.

        Returns
        -------
        list
            ``others`` as outputs to go on with.
        """
        held = [self.adapter, *others, *(() if self.residual is None else (self.residual,))]
        held += [one for side in self.sides for one in (side.adapter, side.optimizer)]
        held += self.starts  # in the middle of a round other adapters than those of the sides
        kept = list(dict.fromkeys(held))
        after = dict(zip(kept, settle(kept), strict=True))
        self.adapter = after[self.adapter]
        self.residual = None if self.residual is None else after[self.residual]
        self.sides = [
            side._replace(
                adapter=after[side.adapter],
                optimizer=after[side.optimizer],
                residual=self.residual,
            )
            for side in self.sides
        ]
        self.starts = [after[one] for one in self.starts]
        return [after[one] for one in others]

    @property
    def _is_as_it_comes(self) -> bool:
        """Whether clients start from the global adapter itself, with the moments they have."""
        aggregator = self.aggregator
        return aggregator.keeps_moments and not aggregator.is_personal and self._has_one_rank

    @property
    def _has_one_rank(self) -> bool:
        return set(self._ranks) == {self.training.lora_rank}

    def _distributed(self, round_: int, *, begins_anew: bool) -> list[Side]:
        """Return the sides all clients start a round with; those that are alike are one."""
        made: dict[tuple[int, Output | None], Work] = {}
        sides = []
        for side, rank in zip(self.sides, self._ranks, strict=True):
            own = side.adapter if self.aggregator.is_personal and round_ > 1 else None
            if (rank, own) not in made:
                made[rank, own] = self._distribute(round_, rank, own, begins_anew)
            work = made[rank, own]
            optimizer = work.out("optimizer") if begins_anew else side.optimizer
            sides.append(Side(work.out("adapter"), optimizer, self.residual, self._told_to(round_, rank)))
        return sides

    def _distribute(self, round_: int, rank: int, own: Output | None, begins_anew: bool) -> Work:
        """Return the work of what a client of a rank starts a round with."""
        return self.training.describe(
            "distribute",
            [self.adapter] if own is None else [self.adapter, own],
            rank=rank,
            shared=sorted(self.aggregator.sent(round_)),
            trained=sorted(self.aggregator.trained(round_)),
            optimizer=self.training.optimizer if begins_anew else None,
        )

    def _told_to(self, round_: int, rank: int) -> dict[str, object]:
        """Return what a client's passes of a round are told besides."""
        told: dict[str, object] = {}
        for factor in BOTH_FACTORS - self.aggregator.trained(round_):
            told["frozen"] = factor
        if rank != self.training.lora_rank:
            told["rank"] = rank
        return told

    def _sent(self, adapter: Output, round_: int) -> Output:
        """Return what of an adapter is sent in a round."""
        sent = self.aggregator.sent(round_)
        if sent == BOTH_FACTORS:
            return adapter
        return self.training.describe("select", [adapter], factors=sorted(sent)).out("adapter")

    @property
    def _scaling(self) -> float:
        lora = self.training.lesson.lora.model_copy(update={"rank": self.training.lora_rank})
        return lora.scaling_alpha / lora.rank

    @cached_property
    def _ranks(self) -> list[int]:
        return [
            self.aggregator.rank(client, self.training.lora_rank)
            for client in range(self.training.lesson.num_clients)
        ]

    @cached_property
    def _told(self) -> Told:
        # ranks of clients are in the works of their sides
        return Told.of(self.aggregator, frozenset({"client_ranks"}))
