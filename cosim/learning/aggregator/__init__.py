"""Aggregators: what clients send at the end of a round, and what they start the next one from.

Each says what travels and how many numbers that is, before anything is
computed; which factors are trained; what becomes of an optimiser's moments; and
whether it must see every upload or only their weighted sum, which is all that
an over-the-air or a secure sum gives. Tensors that are no factors (a
classifier's head) are always trained, sent and averaged. Names hold no torch
until something is averaged.

W is the frozen base, s the scaling of the adapters, B_k A_k the product of one
client's factors of one matrix and p_k its weight; p_k add up to one.
"""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from cosim.errors import ScenarioError
from cosim.learning.parameters import Parameter
from cosim.learning.shape import BOTH_FACTORS, Factor, Linear
from cosim.parts import Part, Plane, kinds_that

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]
"""An adapter, or a part of one, by the names PEFT saves it under."""

Rank = Annotated[int, Field(gt=0)]


class Server(NamedTuple):
    """What the federated server knows beside the uploads of a round.

    Attributes
    ----------
    adapter
        The global adapter the round began from.
    residual
        What was merged into the base so far: one matrix of shape (outputs, inputs)
        for each adapted matrix, by the name of its A; empty before anything was.
    scaling
        The s in ``W + s B A``.
    round
        The round that ends, from 1.
    seed
        Chance of this round, known to all.
    masks
        For each upload where it was really sent (1) and where it only repeats
        what the server knew (0), by name, in shapes that broadcast to its
        tensors'; None where everything was sent.
    losses
        For each upload the loss its client sent beside it; None where none is sent.
    """

    adapter: Tensors
    residual: Tensors
    scaling: float
    round: int = 1
    seed: int = 0
    masks: Sequence[Tensors] | None = None
    losses: Sequence[float] | None = None


class Average(NamedTuple):
    """What a round ends with: the new global adapter, and all that is merged into the base so far."""

    adapter: Tensors
    residual: Tensors


class Aggregator(Part):
    """How the adapters of a round become the next global one.

    Attributes
    ----------
    client_ranks
        Rank of each client's adapter, again from the beginning where there are more
        clients; without it all have ``lora.rank``, and with an aggregator that
        does not take ranks that differ they must.
    needs_factors
        Whether it is about the factors of LoRA adapters, and means nothing for other tensors.
    takes_ranks
        Whether ranks of clients may differ.
    takes_masks
        Whether it can leave out of its mean what a client did not send.
    keeps_factors
        Whether clients go on with the mean of the factors they had: what is held
        back of an update, and an optimiser's moments, belong to none other.
    keeps_moments
        Whether moments are kept over an average.
    averages_products
        Whether the model after a round is of the mean product, whatever factors each client has of its own.
    is_personal
        Whether each client has a model of its own.
    has_residual
        Whether something is merged into the base.
    wants_losses
        Whether each client sends a loss beside its adapter.
    period
        Rounds after which trained and sent factors repeat.
    """

    needs_factors: ClassVar[bool] = True
    takes_ranks: ClassVar[bool] = False
    takes_masks: ClassVar[bool] = False
    keeps_factors: ClassVar[bool] = True
    keeps_moments: ClassVar[bool] = True
    averages_products: ClassVar[bool] = False
    is_personal: ClassVar[bool] = False
    has_residual: ClassVar[bool] = False
    wants_losses: ClassVar[bool] = False
    period: ClassVar[int] = 1

    client_ranks: tuple[Rank, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _ranks_agree_where_they_must(self) -> Self:
        ranks = self.client_ranks or ()
        if len(set(ranks)) > 1 and not self.takes_ranks:
            able = kinds_that(Aggregator, lambda part: part.takes_ranks)
            raise ValueError(
                f"client_ranks {', '.join(map(str, ranks))} differ, and {self.kind!r} averages factors "
                f"number by number; give all clients one rank by lora.rank, or take one of {able}"
            )
        return self

    @property
    @abstractmethod
    def needs(self) -> Literal["linear", "individual"]:
        """Whether the server works on the weighted sum of the uploads, or must see each."""

    @abstractmethod
    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return what the uploads of a round come to; nothing given is written to.

        Parameters
        ----------
        uploads
            Each sender's tensors of the factors that are :meth:`sent`, and what is no factor.
        weights
            The senders' shares in their data, adding up to one.
        server
            What else is known.
        """

    @property
    def is_plain(self) -> bool:
        """Whether all start from the mean of everything that is trained, and no more is to be said."""
        return False

    @property
    def is_steady(self) -> bool:
        """Whether all clients compute and send the same in every round."""
        return self.period == 1 and len(set(self.client_ranks or ())) <= 1

    @classmethod
    def plane_of(cls, name: str) -> Plane:
        """Return the plane of a setting; where all must have the model's rank, ranks decide nothing."""
        return "time" if name == "client_ranks" and not cls.takes_ranks else super().plane_of(name)

    def trained(self, round_: int) -> frozenset[Factor]:
        """Return the factors clients train in a round."""
        return BOTH_FACTORS

    def sent(self, round_: int) -> frozenset[Factor]:
        """Return the factors clients send at the end of a round."""
        return self.trained(round_)

    def private_of(self, parameters: Collection[Parameter], num_layers: int) -> frozenset[str]:
        """Return the names of what no client ever sends of what is trained, beside factors that are not sent.

        Parameters
        ----------
        parameters, num_layers
            What is trained; blocks of the model.

        Raises
        ------
        ScenarioError
            If it is nothing or everything, where something is to be private, or the model has no such block.
        """
        return frozenset()

    def rank(self, client: int, lora_rank: int) -> int:
        """Return the rank of a client's adapter, never above that of the model."""
        if self.client_ranks is None or not self.takes_ranks:
            return lora_rank
        return min(self.client_ranks[client % len(self.client_ranks)], lora_rank)

    def check_ranks(self, lora_rank: int) -> None:
        """Refuse ranks that do not go with the model's.

        Raises
        ------
        ScenarioError
            If a client's adapter would not fit into the global one, or is not as
            large as the others' where it must be.
        """
        highest = max(self.client_ranks or (0,))
        if highest not in (0, lora_rank) and not self.takes_ranks:
            raise ScenarioError(
                f"scheme.aggregator.client_ranks: {highest} is not lora.rank {lora_rank}, the one rank all "
                f"clients have under {self.kind!r}; set lora.rank to {highest} and leave client_ranks out."
            )
        if highest > lora_rank:
            raise ScenarioError(
                f"scheme.aggregator.client_ranks: {highest} is more than lora.rank {lora_rank}, the rank of "
                f"the global adapter; raise lora.rank to {highest}, or lower the clients'."
            )

    def download_numbers(
        self, matrices: Collection[Linear], rank: int, sender_ranks: Sequence[int], round_: int
    ) -> int:
        """Return how many numbers a client of a rank must be sent to start the next round.

        Parameters
        ----------
        matrices
            The adapted matrices.
        rank
            The receiver's.
        sender_ranks
            Rank of each client whose upload is in the average.
        round_
            The round that ends.
        """
        return factor_numbers(matrices, rank, self.sent(round_))

    def flop(self, matrices: Collection[Linear], rank: int, num_senders: int) -> int:
        """Return the FLOP that the federated server is charged to average these matrices' factors.

        Sums, and products of factors that are sums too, are neglected, as in the papers.
        """
        return 0


def factor_numbers(matrices: Collection[Linear], rank: int, factors: Collection[Factor]) -> int:
    """Return how many numbers these factors of these matrices hold at a rank.

    Examples
    --------
    >>> c_attn = Linear("attn.c_attn", d_in=64, d_out=192, has_bias=True)
    >>> factor_numbers([c_attn], 4, {"A"}), factor_numbers([c_attn], 4, {"A", "B"})
    (256, 1024)
    """
    return rank * sum(one.d_in * ("A" in factors) + one.d_out * ("B" in factors) for one in matrices)


def stack_or_dense(matrix: Linear, rank: int) -> int:
    """Return the numbers of a product of two factors of this rank, or of the matrix, whichever are fewer.

    Examples
    --------
    >>> c_attn = Linear("attn.c_attn", d_in=64, d_out=192, has_bias=True)
    >>> [stack_or_dense(c_attn, rank) for rank in (4, 400)]
    [1024, 12288]
    """
    return min(rank * (matrix.d_in + matrix.d_out), matrix.d_in * matrix.d_out)
