"""What schemes have in common whose clients send updates of what they trained."""

from math import ceil
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, model_validator

from cosim.learning.aggregator import Aggregator
from cosim.learning.aggregator.fedavg import FEDAVG
from cosim.learning.chain import encoding, why_unfit
from cosim.learning.codec import Codec, Encoding
from cosim.learning.codec.none import Plain
from cosim.learning.codecs import Codecs
from cosim.learning.local_rule import LocalRule
from cosim.learning.payload import held_bytes
from cosim.learning.server_optimizer import ServerOptimizer
from cosim.learning.server_optimizer.none import AVERAGE
from cosim.learning.shape import ModelShape
from cosim.learning.task import Task
from cosim.learning.update import UpdateStep
from cosim.learning.weighting import Weighting
from cosim.learning.weighting.data import BY_DATA
from cosim.parts import OneOf
from cosim.rng import stream
from cosim.schemes import Scheme


class SendsUpdates(Scheme):
    """A scheme whose clients send what they trained.

    Attributes
    ----------
    relays
        Whether the server may hand on what it received, from which clients restore the average.
    update
        What happens to a client's update before it leaves, in this order, ahead of the codec. What
        comes after a step that changes the layout works on that layout's numbers.
    adapter_codec
        What adapters go up as.
    """

    relays: ClassVar[bool] = False
    update: Annotated[tuple[UpdateStep, ...], OneOf(UpdateStep)] = ()
    adapter_codec: Annotated[Codec, OneOf(Codec)] = Plain.default()

    @model_validator(mode="after")
    def _steps_and_codec_go_together(self) -> Self:
        why = why_unfit(self.update, self.adapter_codec)
        if why is not None:
            raise ValueError(f"update: {why}")
        if self.adapter_encoding.is_relayed and not self.relays:
            kind = next(step.kind for step in self.update if step.is_relayed)
            raise ValueError(
                f"update: the server of the scheme {self.kind!r} hands on no coordinates of {kind!r}; set "
                "relayed = false, or take the scheme 'federated'"
            )
        return self

    @property
    def adapter_encoding(self) -> Encoding:
        """What adapters go up as: the codec, with what happens before it."""
        return encoding(self.update, self.adapter_codec)


class HoldsWhole(SendsUpdates):
    """A scheme whose clients hold the whole model, and send nothing but what they trained of it."""

    @property
    def codecs(self) -> Codecs:
        """The adapter's; nothing else travels."""
        return Codecs(adapter=self.adapter_encoding)

    def cut_layers(self, shape: ModelShape) -> tuple[int, ...]:
        """Return the number of blocks: all of them stay on the client."""
        return (shape.num_layers,)


class TrainsWhole(HoldsWhole):
    """A scheme whose clients hold and train the whole model, by a local rule."""

    if TYPE_CHECKING:
        local_rule: LocalRule

    @property
    def rule(self) -> LocalRule:
        """The local rule."""
        return self.local_rule

    def memory_bytes(self, task: Task, cut_layer: int, lora_rank: int) -> dict[str, int]:
        """Return the whole model's need on every client."""
        held = held_bytes(task, task.shape.num_layers, lora_rank)
        return {"client": task.whole_memory_bytes(lora_rank) + held}


class Averages(SendsUpdates):
    """A scheme whose federated server averages what clients send, round by round.

    Attributes
    ----------
    participation
        Share of the clients drawn for a round, rounded up; each set is as likely as any other.
    aggregator
        What is trained and sent, and how the adapters of a round are averaged.
    weights
        How much each sender counts, where no decision says so.
    server_optimizer
        How the global adapter follows the average of a round. Not with an aggregator after which
        factors are others, or something joins the base.
    reports_losses
        Whether clients report their losses ahead of their uploads where weights go by them.
    """

    reports_losses: ClassVar[bool] = False
    participation: float = Field(default=1.0, gt=0.0, le=1.0)
    aggregator: Annotated[Aggregator, OneOf(Aggregator)] = FEDAVG
    weights: Annotated[Weighting, OneOf(Weighting)] = BY_DATA
    server_optimizer: Annotated[ServerOptimizer, OneOf(ServerOptimizer)] = AVERAGE

    @model_validator(mode="after")
    def _weights_need_no_reports(self) -> Self:
        if self.weights.needs_losses and not self.reports_losses:
            raise ValueError(
                f"weights: {self.weights.kind!r} goes by losses that clients report ahead of their uploads, "
                "and here they report nothing; take the scheme 'federated', or weights such as 'equal'"
            )
        return self

    @model_validator(mode="after")
    def _server_can_follow(self) -> Self:
        one = self.aggregator
        if not self.server_optimizer.is_none and (one.has_residual or not one.keeps_factors):
            raise ValueError(
                f"server_optimizer: {self.server_optimizer.kind!r} follows the mean of what was trained, and "
                f"the aggregator {one.kind!r} makes something else of it; take an aggregator such as 'fedavg'"
            )
        if self.server_optimizer.needs_each and (not self.relays or self.adapter_encoding.is_summed):
            raise ValueError(
                f"server_optimizer: {self.server_optimizer.kind!r} needs the update of each client, and the "
                f"server of the scheme {self.kind!r} has their sum alone as it is set; take the scheme "
                "'federated', without steps on updates whose sum is handed on (relayed = false)"
            )
        return self

    @property
    def needs_each(self) -> bool:
        """Whether the aggregator or the server's optimiser must see the update of each client."""
        return self.aggregator.needs == "individual" or self.server_optimizer.needs_each

    @property
    def averaging(self) -> Aggregator:
        """The aggregator."""
        return self.aggregator

    def taking_part(self, seed: int, num_clients: int, round_: int) -> list[int]:
        """Return the clients of a round, ascending."""
        count = ceil(self.participation * num_clients)
        if count == num_clients:
            return list(range(num_clients))
        drawn = stream(seed, "participation", round_).generator().permutation(num_clients)[:count]
        return sorted(drawn.tolist())
