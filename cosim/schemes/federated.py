"""Federated LoRA: every client holds the whole model, and only adapters travel."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cosim.control.knobs import (
    ASSIGNMENT_BITS,
    DELIVERY_RATE,
    PARTICIPATION,
    QUANTISATION_BITS,
    SPARSIFICATION_RATIO,
    WEIGHT,
    Knob,
    Setting,
    local_steps_up_to,
)
from cosim.control.reports import LOSS_REPORT_BITS, Report
from cosim.control.stages import Round
from cosim.control.state import Sparsity
from cosim.kernel.clock import Steps
from cosim.learning.amounts import WholeAmounts, aggregate_flop, hand_over_amounts, whole_amounts
from cosim.learning.codec.pairs import PairCodec
from cosim.learning.codec.soft import Soft
from cosim.learning.codec.top_k import TopK
from cosim.learning.local_rule import LocalRule
from cosim.learning.local_rule.none import NO_RULE
from cosim.learning.payload import bits_are_known, upload_layout
from cosim.learning.privacy import Ledger, Privacy
from cosim.learning.regularizer import Regularizer
from cosim.learning.regularizer.none import Unregularized
from cosim.learning.stages import Stage
from cosim.learning.task import Task
from cosim.learning.update import release_of
from cosim.parts import OfPlane, OneOf
from cosim.radio.link import Link
from cosim.schemes import FEDERATED_DOWNLINK, FEDERATED_UPLINK
from cosim.schemes.federated_rounds import FederatedRounds
from cosim.schemes.stages import handed_over, whole_round
from cosim.schemes.updates import Averages, TrainsWhole
from cosim.world import World


class Federated(Averages, TrainsWhole):
    """Local steps on the whole model, upload of the adapters, their average, and its download.

    In a round each client that takes part starts from the global adapter, takes
    ``local_steps`` steps on its own mini-batches and uploads at once, waiting for
    nobody; when all uploads are there the federated server averages them, and
    everybody downloads the average. Sums, local rules and the optimisers' own arithmetic are charged
    nothing, steps on an update and aggregators what they declare.

    With one client this is, bit for bit, what ``centralized`` learns.

    Over a medium that adds what is sent at once, clients wait for each other before
    they upload, and the server has the global adapter plus the weighted, noisy sum of
    their updates; ``air_noise_std`` is recorded, the noise on each number of it. Who
    the medium silences is left out like one whose upload is lost. What must be known
    before a sum is reported by each client, and answered by the server, digitally.

    An upload that the medium loses is left out of the average, the weights of the
    others are renormalised unless a decision says how often each arrives, and
    ``num_delivered`` is recorded; if all are lost the global adapter stays. Nothing
    is sent again, and what a codec held back of a lost upload waits as if it had arrived.

    Where clients weigh by their losses, the mean loss of its local steps is reported by
    each before anything is uploaded, and the uploads wait for all reports; ``weight`` is
    recorded of each client.

    Recorded of every average, unless models are personal: ``coherence``, how far the
    rank pairs of the global adapter are from orthogonal; ``covariance_error``, how
    far the product of averaged factors is from the averaged product, relative to the
    round's step; and ``product_bias``, how far what the aggregator made of it is from the
    averaged product, relative to that. A codec's figures, such as ``dropped_energy``, are recorded of each
    client and as their mean by data.

    Attributes
    ----------
    scored_examples
        Examples by which each client scores all blocks as ``scored_round`` begins; 0 for none. It sends a
        number for each block. What is found is recorded (``block_score_1`` and so on) and decides nothing.
    scored_by
        ``outputs``: how far the outputs of each block of the model as it came differ between examples.
        ``hessian``: what share of the eigenvalues of the loss's Hessian by what is trained of each block is
        above a threshold; that of all blocks together, ``shared_ratio``, says what share of blocks to share.
    scored_round
        Ahead of which round; those before are a warm-up.
    regularizer
        What is added to the loss of every mini-batch; recorded losses are without it.
    local_rule
        What corrects the gradients of local steps by where the round began and by control variates.
    adapter_codec
        What adapters go up as; both ends have the one the round began from. What a
        client holds back waits for its next round. Averages come
        back as they are. Bits that depend on values are found out before the
        round is played; a run that computes no values charges the most they can be.
    stages
        What is trained first, in the first of the rounds, and how ``[lora]`` takes over from it. What is
        trained where some is drawn is announced by a seed, ahead of the stage.
    privacy
        Account of what clients give away; those whose budget is spent take no more part.
        ``epsilon`` is recorded of each client when it has sent.
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
    skips_absent: ClassVar[bool] = True
    links: ClassVar[tuple[Link, ...]] = (
        FEDERATED_UPLINK._replace(takes_sums=True, takes_losses=True),
        FEDERATED_DOWNLINK,
    )
    relays: ClassVar[bool] = True
    reports_losses: ClassVar[bool] = True
    scored_examples: int = Field(default=0, ge=0, le=65_536)
    scored_by: Literal["outputs", "hessian"] = "outputs"
    scored_round: int = Field(default=1, ge=1)
    reportable: ClassVar[frozenset[str]] = frozenset({"energies", "loss", "delay"})
    regularizer: Annotated[Regularizer, OneOf(Regularizer)] = Unregularized.default()
    local_rule: Annotated[LocalRule, OneOf(LocalRule)] = NO_RULE
    stages: tuple[Stage, ...] = ()
    turn_of: ClassVar[Literal["client", "all"] | None] = "all"
    privacy: Privacy | None = None
    downlink: Annotated[Literal["unicast", "multicast"], OfPlane("time")] = "unicast"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"participation": 0.6},
        {"participation": 0.6, "aggregator": {"kind": "fedex"}},
        {"regularizer": {"kind": "orthogonality"}},
        {"participation": 0.6, "local_rule": {"kind": "proximal"}, "server_optimizer": {"kind": "fedadam"}},
        {"participation": 0.6, "adapter_codec": {"kind": "top_k"}},
        {"downlink": "multicast"},
        {"scored_examples": 4},
        {"scored_examples": 2, "scored_by": "hessian"},
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

    @model_validator(mode="after")
    def _scores_are_of_a_round(self) -> Self:
        if self.scored_examples and self.scored_round > self.num_rounds:
            raise ValueError(
                f"scored_round: {self.scored_round} is after the last of num_rounds {self.num_rounds}; "
                "take an earlier one"
            )
        return self

    @model_validator(mode="after")
    def _stages_leave_rounds(self) -> Self:
        before = sum(one.num_rounds for one in self.stages)
        if before >= self.num_rounds:
            raise ValueError(
                f"stages: take {before} rounds, and leave none of num_rounds {self.num_rounds} for what is "
                "trained last; give them fewer, or raise num_rounds"
            )
        return self

    @model_validator(mode="after")
    def _account_is_of_all_that_leaves(self) -> Self:
        open_ = (
            ("aggregator.kind", self.aggregator.wants_losses, "losses", "an aggregator such as 'fedavg'"),
            ("weights.kind", self.weights.needs_losses, "losses", "weights such as 'data'"),
            ("scored_examples", self.scored_examples > 0, "scores of blocks", "0"),
        )
        for setting, is_sent, what, instead in open_:
            if self.privacy is not None and is_sent:
                raise ValueError(
                    f"{setting}: clients send {what} of their examples, which no noise hides and privacy "
                    f"does not count; take {instead}, or leave privacy out"
                )
        return self

    @property
    def is_closed_form(self) -> bool:
        """Rounds last as their stages say while all take part, or a decision says in each who does."""
        return self.participation == 1.0 and self._is_steady

    @property
    def _is_steady(self) -> bool:
        may_stop = self.privacy is not None and self.privacy.epsilon is not None
        return self.aggregator.is_steady and not self.stages and not may_stop

    @property
    def is_staged(self) -> bool:
        """Unless blocks are scored ahead of a round, or what is sent changes from round to round."""
        return self._is_steady and not self.scored_examples

    @property
    def why_times_decide(self) -> str | None:
        """Barriers alone do."""
        return None

    @property
    def earlier_stages(self) -> tuple[Stage, ...]:
        """As set."""
        return self.stages

    @property
    def num_scored(self) -> int:
        """As set."""
        return self.scored_examples

    def multicasts(self, link: str) -> bool:
        """Return whether it is the downlink and set so."""
        return link == "federated_downlink" and self.downlink == "multicast"

    def knobs(self, task: Task) -> tuple[Knob, ...]:
        """Who takes part, local steps, weight, share of the adapter, and bits that announce the decision."""
        steps = local_steps_up_to(self.local_steps)
        knobs: tuple[Knob, ...] = (PARTICIPATION, steps, WEIGHT, SPARSIFICATION_RATIO, ASSIGNMENT_BITS)
        if self.averages_by_sums:
            knobs += (DELIVERY_RATE,)
        return (*knobs, QUANTISATION_BITS) if self.adapter_encoding.takes_bits else knobs

    def phases(self, task: Task, round_: int, setting: Setting, reports: Sequence[Report] = ()) -> Round:
        """Return the round of those who are drawn and chosen for it."""
        clients, num_blocks = range(task.num_clients), task.shape.num_layers
        begun: Round = ()
        if task.begins_stage(round_):
            number = task.stage(round_)
            amounts = hand_over_amounts(task, number, setting.lora_rank)
            begun = handed_over(len(clients), task.by_stage[number].trainable.seed_bits, *amounts)
        task = task.in_round(round_)
        one, codec = whole_amounts(task, setting.lora_rank), self.adapter_encoding
        drawn = self.taking_part(task.seed, task.num_clients, round_)
        each: list[WholeAmounts | None] = [None] * task.num_clients
        reads = {
            "ratio": (SPARSIFICATION_RATIO, codec.obeys_ratio),
            "bits": (QUANTISATION_BITS, codec.takes_bits),
        }
        decided = {what for what, (knob, is_read) in reads.items() if is_read and knob.name in setting.knobs}
        for client in filter(setting.takes_part, drawn):
            each[client] = one
            if decided:
                layout = upload_layout(task, num_blocks, setting.lora_rank, round_)
                ratio = setting.of(SPARSIFICATION_RATIO.name, client, 1.0) if "ratio" in decided else None
                sent_as = codec
                if "bits" in decided:
                    sent_as = codec.with_bits(int(setting.of(QUANTISATION_BITS.name, client, 0.0)))
                each[client] = one._replace(adapter_bits=sent_as.max_bits(layout, ratio))
        steps = [int(setting.of("local_steps", client, self.local_steps)) for client in clients]
        num_senders = sum(one is not None for one in each)
        if self.weights.needs_losses:
            reports = (*reports, Report("loss", LOSS_REPORT_BITS, is_awaited=True))
        return *begun, *whole_round(
            each,
            steps,
            reports,
            is_bound=not bits_are_known(task, num_blocks),
            aggregate_flop=aggregate_flop(task, num_blocks, setting.lora_rank, num_senders),
            assignment_bits=[int(setting.of(ASSIGNMENT_BITS.name, client, 0.0)) for client in clients],
        )

    @property
    def averages_by_sums(self) -> bool:
        """Whether the average needs no more than a weighted sum, whose weights need not add up to one."""
        aggregator = self.aggregator
        has_one_rank = len(set(aggregator.client_ranks or ())) <= 1
        return aggregator.needs == "linear" and has_one_rank and not self.adapter_encoding.has_mask

    def sparsity(self, task: Task, lora_rank: int, round_: int = 1) -> Sparsity | None:
        """Return what a codec of rank pairs, or one that fills a share of the bits, can leave out."""
        if self.why_no_sparsity(task, lora_rank) is not None:
            return None
        task = task.in_round(round_)
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

    def turns(self, world: World) -> FederatedRounds:
        """Return the rounds of a run, to be taken one by one."""
        play = FederatedRounds(self, world, world.begin().of_stage(0))
        play.evaluate()
        world.end_round(0)
        return play

    def run(self, world: World) -> Steps:
        """Play all rounds."""
        play = self.turns(world)
        while play.is_open:
            yield from play.turn()
        play.end()

    def ledger(self, task: Task) -> Ledger | None:
        """Return who keeps account of what clients give away, before anything is."""
        if self.privacy is None:
            return None
        return Ledger(task, self.privacy, release_of(self.update), self.local_steps)
