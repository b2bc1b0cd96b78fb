"""Asynchronous federated LoRA: every upload is merged when it arrives, and nobody waits for anybody."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from cosim.kernel.clock import Steps
from cosim.learning.local_rule import LocalRule
from cosim.learning.local_rule.none import NO_RULE
from cosim.learning.results import export
from cosim.parts import OneOf
from cosim.radio.link import Link
from cosim.schemes import FEDERATED_DOWNLINK, FEDERATED_UPLINK
from cosim.schemes.asynchronous_updates import AsynchronousUpdates
from cosim.schemes.updates import TrainsWhole
from cosim.world import World


class Asynchronous(TrainsWhole):
    """Clients train, upload and go on by themselves; the server merges what arrives, in order of arrival.

    A client takes ``local_steps`` steps on its own mini-batches from the global adapter it
    downloaded last, uploads its adapter, and downloads the global adapter again once the server
    has merged the upload. With the mixing weight ``a = mixing * s(staleness)`` the
    global adapter becomes ``(1 - a) * global + a * upload``, factor by factor. The staleness of
    an upload counts the merges since its client's download. There is no barrier anywhere: a round is
    one local update, numbered in the order in which they begin; rounds overlap, and may end in
    another order. A run begins ``num_rounds`` of them, and ends when all are merged. Merging and
    the optimiser's own arithmetic are charged nothing; what steps on an update declare is, before
    the upload and before the merge.

    Mini-batches and the learning rate's schedule go by a client's own steps, so what a client
    draws does not depend on the others. Which uploads meet which global adapter does depend on
    times: unlike in synchronous schemes, another channel leads to other values.
    With one client and ``mixing = 1`` this is, bit for bit, what ``centralized`` learns.

    Recorded of each merge: ``staleness`` and ``mixing_weight``.

    Attributes
    ----------
    num_rounds
        Local updates in the run, those of all clients together.
    evaluate_every
        Merges between two evaluations.
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

    Source
    ------
    C. Xie, S. Koyejo, I. Gupta, "Asynchronous federated optimization", arXiv 1903.03934
    (FedAsync), from the abstract and our knowledge of the method; the paper itself was not at hand. Its
    proximal term is ``local_rule = { kind = "proximal" }``. We leave out its limit on the staleness, and
    train without pauses where its server triggers clients at random times. Optimiser moments stay with
    the client.
    """

    kind: Literal["asynchronous"] = "asynchronous"
    links: ClassVar[tuple[Link, ...]] = (FEDERATED_UPLINK, FEDERATED_DOWNLINK)
    is_synchronous: ClassVar[bool] = False
    mixing: float = Field(default=0.6, gt=0.0, le=1.0)
    staleness: Literal["constant", "polynomial", "hinge"] = "polynomial"
    exponent: float = Field(default=0.5, ge=0.0, le=100.0)
    hinge_after: int = Field(default=4, ge=0)
    local_rule: Annotated[LocalRule, OneOf(LocalRule)] = NO_RULE
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"staleness": "hinge", "hinge_after": 1, "adapter_codec": {"kind": "top_k"}},
    )

    @field_validator("local_rule")
    @classmethod
    def _has_no_variates(cls, rule: LocalRule) -> LocalRule:
        if rule.has_variates:
            raise ValueError(
                f"{rule.kind!r} moves a common control variate by the mean over a round, and nothing is "
                "averaged here; take 'proximal', or the scheme 'federated'"
            )
        return rule

    def num_client_steps(self, num_clients: int) -> int:
        """Return the local steps of a client if all take as many local updates."""
        return -(-self.num_rounds // num_clients) * self.local_steps

    def mixing_weight(self, staleness: int) -> float:
        """Return the weight of an upload after which so many merges came first.

        Examples
        --------
        >>> one = Asynchronous(mixing=0.5, staleness="hinge", exponent=1.0, hinge_after=2)
        >>> [one.mixing_weight(n) for n in (0, 2, 3)]
        [0.5, 0.5, 0.25]
        """
        if self.staleness == "polynomial":
            return float(self.mixing * (staleness + 1) ** -self.exponent)
        if self.staleness == "hinge" and staleness > self.hinge_after:
            return self.mixing / (self.exponent * (staleness - self.hinge_after) + 1.0)
        return self.mixing

    def run(self, world: World) -> Steps:
        """Let every client train by itself until all local updates are merged."""
        play = AsynchronousUpdates(self, world, world.begin())
        play.evaluate()
        world.report(0)
        yield from world.together([self._client(play, one) for one in range(world.num_clients)], "client")
        world.report(self.num_rounds)
        world.adapter = export(play.training, play.adapter)

    def _client(self, play: AsynchronousUpdates, number: int) -> Steps:
        """Local update after local update of one client, as long as there are any to begin."""
        ready: Sequence[int] = ()
        while (moment := play.begin(number)) is not None:
            ready = yield from play.local_update(number, moment, ready)
            arrived = yield from play.upload(number, moment, ready)
            merged = yield from play.merge(number, moment, arrived)
            ready = yield from play.download(number, moment, merged)
            play.world.close_round(moment.round)
