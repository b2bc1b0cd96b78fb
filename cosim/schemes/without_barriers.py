"""What schemes have in common whose clients train, upload and go on by themselves."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from cosim.graph.node import Ref
from cosim.kernel.clock import Steps
from cosim.learning.amounts import whole_amounts
from cosim.learning.local_rule import LocalRule
from cosim.learning.local_rule.none import NO_RULE
from cosim.learning.task import Task
from cosim.parts import OneOf
from cosim.radio.link import Link
from cosim.schemes import FEDERATED_DOWNLINK, FEDERATED_UPLINK
from cosim.schemes.asynchronous_updates import AsynchronousUpdates, Upload
from cosim.schemes.updates import TrainsWhole
from cosim.world import World


class WithoutBarriers(TrainsWhole):
    """A scheme whose clients wait for nobody, and whose server merges what has arrived.

    A client takes ``local_steps`` steps on its own mini-batches from the global adapter it
    downloaded last, uploads its adapter, and downloads the global adapter again once the server
    has taken in the upload. An upload weighs ``mixing * s(staleness)``; its staleness counts the
    merges since its client's download. There is no barrier anywhere: a round is
    one local update, numbered in the order in which they begin; rounds overlap, and may end in
    another order. A run begins ``num_rounds`` of them, and ends when all are merged. Merging and
    the optimiser's own arithmetic are charged nothing; what steps on an update declare is, before
    the upload and before the merge.

    Mini-batches and the learning rate's schedule go by a client's own steps, so what a client
    draws does not depend on the others. Which uploads meet which global adapter does depend on
    times: unlike in synchronous schemes, another channel leads to other values.

    Recorded of each upload: ``staleness`` and ``mixing_weight``.

    Attributes
    ----------
    num_rounds
        Local updates in the run, those of all clients together.
    evaluate_every
        Uploads between two evaluations.
    mixing
        Weight of an upload that is not stale.
    staleness
        ``s`` of a staleness ``n``: ``constant`` 1; ``polynomial`` ``(n + 1) ** -exponent``;
        ``hinge`` 1 up to ``hinge_after``, then ``1 / (exponent * (n - hinge_after) + 1)``.
    exponent
        How fast the weight falls.
    hinge_after
        Merges that may pass before the weight falls.
    local_rule
        What corrects the gradients of local steps by where the update began.
    adapter_codec
        What adapters go up as; both ends have the one the client downloaded, and what a codec
        leaves out counts as unchanged since. Global adapters go down as they are.
    """

    links: ClassVar[tuple[Link, ...]] = (FEDERATED_UPLINK, FEDERATED_DOWNLINK)
    is_synchronous: ClassVar[bool] = False
    turn_of: ClassVar[Literal["client", "all"] | None] = "client"
    mixing: float = Field(default=0.6, gt=0.0, le=1.0)
    staleness: Literal["constant", "polynomial", "hinge"] = "polynomial"
    exponent: float = Field(default=0.5, ge=0.0, le=100.0)
    hinge_after: int = Field(default=4, ge=0)
    local_rule: Annotated[LocalRule, OneOf(LocalRule)] = NO_RULE

    @field_validator("local_rule")
    @classmethod
    def _has_no_variates(cls, rule: LocalRule) -> LocalRule:
        if rule.has_variates:
            raise ValueError(
                f"{rule.kind!r} moves a common control variate by the mean over a round, and nothing is "
                "averaged here; take 'proximal', or the scheme 'federated'"
            )
        return rule

    @property
    @abstractmethod
    def uploads_of_a_merge(self) -> int:
        """How many uploads the server waits for before it merges them."""

    @abstractmethod
    def terms(self, adapter: Ref, uploads: Sequence[Upload]) -> Mapping[Ref, float]:
        """Return the adapters whose weighted sum is the next global one, with their weights."""

    def num_client_steps(self, num_clients: int) -> int:
        """Return the local steps of a client if all take as many local updates."""
        return -(-self.num_rounds // num_clients) * self.local_steps

    def transfers(self, task: Task) -> dict[str, int]:
        """Return the bits of one local update."""
        one = whole_amounts(task, task.trainable.lora_rank)
        return {"federated_uplink": one.adapter_bits, "federated_downlink": one.adapter_download_bits}

    def mixing_weight(self, staleness: int) -> float:
        """Return the weight of an upload after which so many merges came first.

        Examples
        --------
        >>> from cosim.schemes.asynchronous import Asynchronous
        >>> one = Asynchronous(mixing=0.5, staleness="hinge", exponent=1.0, hinge_after=2)
        >>> [one.mixing_weight(n) for n in (0, 2, 3)]
        [0.5, 0.5, 0.25]
        """
        if self.staleness == "polynomial":
            return float(self.mixing * (staleness + 1) ** -self.exponent)
        if self.staleness == "hinge" and staleness > self.hinge_after:
            return self.mixing / (self.exponent * (staleness - self.hinge_after) + 1.0)
        return self.mixing

    def turns(self, world: World) -> AsynchronousUpdates:
        """Return the local updates of a run, to be taken one by one."""
        return AsynchronousUpdates(self, world, world.begin())

    def run(self, world: World) -> Steps:
        """Let every client train by itself until all local updates are merged."""
        play = self.turns(world)
        yield from world.together([play.client(one) for one in range(world.num_clients)], "client")
        play.end()
