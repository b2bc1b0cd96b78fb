"""Federated LoRA: every client holds the whole model, and only adapters travel."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.control.knobs import PARTICIPATION, SPARSIFICATION_RATIO, WEIGHT, Knob, Setting, local_steps_up_to
from cosim.control.reports import Report
from cosim.control.stages import Round
from cosim.control.state import Sparsity
from cosim.kernel.clock import Steps
from cosim.learning.amounts import WholeAmounts, whole_amounts
from cosim.learning.codec.pairs import PairCodec
from cosim.learning.codec.soft import Soft
from cosim.learning.codec.top_k import TopK
from cosim.learning.local_rule import LocalRule
from cosim.learning.local_rule.none import NO_RULE
from cosim.learning.payload import bits_are_known, upload_layout
from cosim.learning.regularizer import Regularizer
from cosim.learning.regularizer.none import Unregularized
from cosim.learning.task import Task
from cosim.parts import OfPlane, OneOf
from cosim.radio.link import Link
from cosim.rng import stream
from cosim.schemes import FEDERATED_DOWNLINK, FEDERATED_UPLINK
from cosim.schemes.federated_rounds import FederatedRounds
from cosim.schemes.stages import whole_round
from cosim.schemes.updates import Averages, TrainsWhole
from cosim.world import Moment, World


class Federated(Averages, TrainsWhole):
    """Local steps on the whole model, upload of the adapters, their average, and its download.

    In a round each client that takes part starts from the global adapter, takes
    ``local_steps`` steps on its own mini-batches and uploads at once, waiting for
    nobody; when all uploads are there the federated server averages them, and
    everybody downloads the average. Averaging, local rules and the
    optimisers' own arithmetic are charged nothing, steps on an update what they declare.

    With one client this is, bit for bit, what ``centralized`` learns.

    Over a medium that adds what is sent at once, clients wait for each other before
    they upload, and the server has the global adapter plus the weighted, noisy sum of
    their updates; ``air_noise_std`` is recorded, the noise on each number of it. Who
    the medium silences is left out like one whose upload is lost.

    An upload that the medium loses is left out of the average, the weights of the
    others are renormalised, and ``num_delivered`` is recorded; if all are lost the
    global adapter stays. Nothing is sent again, and what a codec held back of a
    lost upload waits as if it had arrived.

    Recorded of every average, unless models are personal: ``coherence``, how far the
    rank pairs of the global adapter are from orthogonal, and ``covariance_error``, how
    far the product of averaged factors is from the averaged product, relative to the
    round's step. A codec's figures, such as ``dropped_energy``, are recorded of each
    client and as their mean by data.

    Attributes
    ----------
    participation
        Share of the clients drawn for a round, rounded up; each set is as likely as any other.
    regularizer
        What is added to the loss of every mini-batch; recorded losses are without it.
    local_rule
        What corrects the gradients of local steps by where the round began and by control variates.
    adapter_codec
        What adapters go up as; both ends have the one the round began from. What a
        client holds back waits for its next round. Averages come
        back as they are. Bits that depend on values are found out before the
        round is played; a run that computes no values charges the most they can be.
    downlink
        How the average comes back: ``unicast``, to each client on its own subchannels;
        ``multicast``, to all at once on the subchannels of all, at the rate of the
        weakest in every block, its energy charged once.

    Source
    ------
    H. B. McMahan et al., "Communication-efficient learning of deep networks from
    decentralized data", AISTATS 2017 (FedAvg), with LoRA factors as the weights;
    the wireless round is that of arXiv 2505.00333. Optimiser moments stay with
    the client over an averaging (our choice, the papers are silent).
    """

    kind: Literal["federated"] = "federated"
    links: ClassVar[tuple[Link, ...]] = (
        replace(FEDERATED_UPLINK, takes_sums=True, takes_losses=True),
        FEDERATED_DOWNLINK,
    )
    reportable: ClassVar[frozenset[str]] = frozenset({"energies", "loss", "delay"})
    participation: float = Field(default=1.0, gt=0.0, le=1.0)
    regularizer: Annotated[Regularizer, OneOf(Regularizer)] = Unregularized()
    local_rule: Annotated[LocalRule, OneOf(LocalRule)] = NO_RULE
    downlink: Annotated[Literal["unicast", "multicast"], OfPlane("time")] = "unicast"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"participation": 0.6},
        {"participation": 0.6, "aggregator": {"kind": "fedex"}},
        {"regularizer": {"kind": "orthogonality"}},
        {"participation": 0.6, "local_rule": {"kind": "proximal"}, "server_optimizer": {"kind": "fedadam"}},
        {"participation": 0.6, "adapter_codec": {"kind": "top_k"}},
        {"downlink": "multicast"},
    )

    @model_validator(mode="after")
    def _pairs_can_be_told_apart(self) -> Self:
        codec, regularizer = self.adapter_codec, self.regularizer
        if isinstance(codec, Soft) and codec.ranks_by_norm and regularizer.equalises_norms:
            raise ValueError(
                "regularizer.form = 'id' makes all rank pairs equally long, and adapter_codec.importance = "
                "'norm' tells them apart by length; take form = 'cos', or importance = 'delta'"
            )
        return self

    @property
    def is_closed_form(self) -> bool:
        """Rounds last as their stages say while all take part, or a decision says in each who does."""
        return self.participation == 1.0 and self.aggregator.is_steady

    def multicasts(self, link: str) -> bool:
        """Return whether it is the downlink and set so."""
        return link == "federated_downlink" and self.downlink == "multicast"

    def knobs(self, task: Task) -> tuple[Knob, ...]:
        """Who takes part, with how many of the local steps, what weight, and how much of its adapter."""
        return (PARTICIPATION, local_steps_up_to(self.local_steps), WEIGHT, SPARSIFICATION_RATIO)

    def phases(self, task: Task, round_: int, setting: Setting, reports: Sequence[Report] = ()) -> Round:
        """Return the round of those who are drawn and chosen for it."""
        clients, num_blocks = range(task.num_clients), task.shape.num_layers
        one, codec = whole_amounts(task, setting.lora_rank), self.adapter_encoding
        drawn = self.taking_part(task.seed, task.num_clients, round_)
        each: list[WholeAmounts | None] = [None] * task.num_clients
        for client in filter(setting.takes_part, drawn):
            each[client] = one
            if SPARSIFICATION_RATIO.name in setting.knobs and codec.obeys_ratio:
                layout = upload_layout(task, num_blocks, setting.lora_rank, round_)
                bits = codec.max_bits(layout, setting.of(SPARSIFICATION_RATIO.name, client, 1.0))
                each[client] = replace(one, adapter_bits=bits)
        steps = [int(setting.of("local_steps", client, self.local_steps)) for client in clients]
        return whole_round(each, steps, reports, is_bound=not bits_are_known(task, num_blocks))

    def sparsity(self, task: Task, lora_rank: int, round_: int = 1) -> Sparsity | None:
        """Return what a codec of rank pairs, or one that fills a share of the bits, can leave out."""
        if self.why_no_sparsity(task, lora_rank) is not None:
            return None
        codec, (client_rank,) = self.adapter_codec, self._client_ranks(task, lora_rank)
        layout = upload_layout(task, task.shape.num_layers, client_rank, round_)
        if isinstance(codec, PairCodec):
            pair_bits = codec.pair_bits(layout)
            return Sparsity(int(pair_bits.sum()), codec.overhead_bits(layout), pair_bits)
        return Sparsity(layout.dense_bits, 0, np.zeros(0, dtype=np.int64))

    def why_no_sparsity(self, task: Task, lora_rank: int) -> str | None:
        """Return what about codec or ranks keeps an allocator from saying how much is left out."""
        codec, ranks = self.adapter_codec, self._client_ranks(task, lora_rank)
        if self.update:
            return (
                f"scheme.update changes what is left out once {self.update[0].kind!r} has worked on it; "
                "leave scheme.update out, or take the allocator 'equal'"
            )
        if len(ranks) > 1:
            return (
                f"one share is not the same bits of clients whose ranks are {', '.join(map(str, ranks))}; "
                "give scheme.aggregator.client_ranks one rank for all, or take the allocator 'equal'"
            )
        if isinstance(codec, PairCodec):
            if codec.scope == "global":
                return None
            return (
                "scheme.adapter_codec.scope = 'module' rounds the share up in every matrix; take 'global', "
                "or the allocator 'equal'"
            )
        if isinstance(codec, TopK):
            if codec.ratio_of == "bits":
                return None
            return (
                "scheme.adapter_codec.ratio_of = 'numbers' is a share without the places of what is sent; "
                "take ratio_of = 'bits'"
            )
        return (
            f"the adapter_codec {codec.kind!r} leaves nothing out; take one that can, such as "
            "adapter_codec = { kind = 'soft' }"
        )

    def _client_ranks(self, task: Task, lora_rank: int) -> list[int]:
        """Return the ranks there are among the clients, ascending."""
        return sorted({self.aggregator.rank(client, lora_rank) for client in range(task.num_clients)})

    def taking_part(self, seed: int, num_clients: int, round_: int) -> list[int]:
        """Return the clients of a round, ascending."""
        count = ceil(self.participation * num_clients)
        if count == num_clients:
            return list(range(num_clients))
        drawn = stream(seed, "participation", round_).generator().permutation(num_clients)[:count]
        return sorted(drawn.tolist())

    def run(self, world: World) -> Steps:
        """Play all rounds."""
        play = FederatedRounds(self, world, world.begin())
        play.evaluate(0)
        world.end_round(0)
        for round_ in range(1, self.num_rounds + 1):
            drawn = self.taking_part(world.task.seed, world.num_clients, round_)
            world.start_round(round_, drawn)
            chosen = list(filter(world.decisions.takes_part, drawn))
            average = yield from play.collect(Moment(round_), chosen)
            yield from play.broadcast(Moment(round_), average)
            if self.is_evaluated(round_):
                play.evaluate(round_)
            world.end_round(round_)
        world.adapter = play.federation.export()
