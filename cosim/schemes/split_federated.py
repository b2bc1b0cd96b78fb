"""Split federated LoRA: first blocks on clients, the rest on a main server, adapters averaged."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cosim.control.knobs import PARTICIPATION, Knob, Setting
from cosim.control.reports import Report
from cosim.control.stages import Cutoff, Round
from cosim.kernel.clock import Steps
from cosim.learning.amounts import SplitAmounts, aggregate_flop, split_amounts
from cosim.learning.codecs import Codecs
from cosim.learning.payload import bits_are_known, held_bytes
from cosim.learning.task import Task
from cosim.parts import OfPlane
from cosim.radio.link import Link
from cosim.schemes import (
    FEDERATED_DOWNLINK,
    FEDERATED_UPLINK,
    MAIN_DOWNLINK,
    MAIN_UPLINK,
)
from cosim.schemes.split_rounds import SplitRounds
from cosim.schemes.splits import Splits
from cosim.schemes.stages import split_round
from cosim.schemes.updates import Averages
from cosim.world import MAIN_SERVER, Moment, World


class SplitFederated(Averages, Splits):
    """The workflow of FedsLLM: split steps behind barriers, then one averaging of the client adapters.

    Each local step is three phases, each a barrier: all clients that are drawn forward and
    upload; the main server computes forward and backward of all mini-batches
    and takes one step on the weighted sum of their losses; all clients receive
    the gradient of their own loss and step. After ``local_steps`` of them the
    client adapters are averaged; the main server's blocks have one copy, which
    needs no averaging. Labels travel with the
    activations and are not charged; neither are averaging and the optimisers'
    own arithmetic; steps on an update are, as they declare. Where clients have no adapter
    (``lora.blocks``) they only forward and upload: nothing comes back to them and nothing is averaged.

    Where clients are cut at different blocks (``clients.cut_layer``, or an allocator with
    ``cut_per_client``; beyond the paper) the main server holds all blocks behind the
    smallest cut, computes each mini-batch from its client's cut on, and steps a
    block along the mean over the clients it computes it for. At the end of a round
    every block is averaged over all clients by their data, the server's version
    standing for those who do not keep it; what the servers tell each other for
    that stays at the base station and is not charged.

    Attributes
    ----------
    server_batch
        ``joint``: the main server begins when all activations are there and
        works on them as one job, as in the paper. ``per_client``: it serves
        each client's activations as they arrive, through its queue, and returns
        each gradient at once. What is learned is the same.
    deadline_s
        Seconds from the beginning of a local step before which activations must be
        with the main server. A client that is late is out for the rest of the
        round: it ends what it is doing, unheard, and is back with the next
        average. Weights are renormalised over those who stay; if all are late,
        the first one to arrive stays. Beyond the paper.
    aggregator
        What is trained of the client adapters and sent, and how they are averaged;
        ``fedavg`` is the paper's.
    adapter_codec
        What the clients' adapters go up as; both ends have the one the round
        began from. Averages come back as they are. Bits that depend on values are
        found out when they are sent; a run that computes no values charges the
        most they can be.

    Source
    ------
    FedsLLM, arXiv 2504.14667, workflow and delay model; the loss of each client
    is differentiated by itself, which returns the unweighted gradient to the
    client and needs no rescaling. Optimiser moments stay with the client over
    an averaging (our choice, the paper is silent).
    """

    kind: Literal["split_federated"] = "split_federated"
    skips_absent: ClassVar[bool] = True
    links: ClassVar[tuple[Link, ...]] = (MAIN_UPLINK, FEDERATED_UPLINK, MAIN_DOWNLINK, FEDERATED_DOWNLINK)
    server_batch: Annotated[Literal["joint", "per_client"], OfPlane("time")] = "joint"
    deadline_s: float | None = Field(default=None, gt=0.0, le=1e9)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"aggregator": {"kind": "flora"}, "participation": 0.6},
    )

    @model_validator(mode="after")
    def _deadline_is_of_a_joint_batch(self) -> Self:
        if self.deadline_s is not None and self.server_batch != "joint":
            raise ValueError(
                "deadline_s needs server_batch = 'joint': a server that waits for nobody drops nobody"
            )
        return self

    @property
    def is_closed_form(self) -> bool:
        """The barriers of the paper hold while they wait for everybody, and rounds are alike."""
        return self.is_staged and self.participation == 1.0

    @property
    def is_staged(self) -> bool:
        """Without a deadline, where all send the same in every round."""
        return self.deadline_s is None and self.aggregator.is_steady

    @property
    def why_times_decide(self) -> str | None:
        """With a deadline they do where clients or rounds differ in what they send."""
        if self.deadline_s is None or self.aggregator.is_steady:
            return None
        return "scheme.deadline_s: the channel decides who is late, and clients or rounds send other amounts"

    @property
    def cutoff(self) -> Cutoff | None:
        """As set; everybody downloads the average."""
        if self.deadline_s is None:
            return None
        names = "server_forward_backward", "adapter_download", "num_clients_in_time"
        return Cutoff(self.deadline_s, "main_uplink", *names)

    @property
    def patient(self) -> "SplitFederated":
        """The same without a deadline."""
        return self.model_copy(update={"deadline_s": None})

    @property
    def codecs(self) -> Codecs:
        """As the settings say."""
        return Codecs(self.activation_codec, self.gradient_codec, self.adapter_encoding)

    @property
    def may_cut_apart(self) -> bool:
        """Clients may be cut at different blocks if what arrives of their adapters is simply averaged."""
        is_plain = self.aggregator.is_plain and self.weights.is_by_data and self.server_optimizer.is_none
        return is_plain and not self.adapter_codec.has_mask

    def knobs(self, task: Task) -> tuple[Knob, ...]:
        """Who takes part in a round; cut layers and rank are a decision's own."""
        return (PARTICIPATION,)

    def phases(self, task: Task, round_: int, setting: Setting, reports: Sequence[Report] = ()) -> Round:
        """Return the barriers of a round; each client at its cut, and those who do not take part idle."""
        cuts = setting.cuts(task.num_clients)
        at = {cut: split_amounts(task, cut, setting.lora_rank) for cut in set(cuts)}
        drawn = filter(setting.takes_part, self.taking_part(task.seed, task.num_clients, round_))
        each: list[SplitAmounts | None] = [None] * task.num_clients
        for client in drawn:
            each[client] = at[cuts[client]]
        is_bound = not all(bits_are_known(task, cut) for cut in at)
        num_senders = sum(one is not None for one in each)
        return split_round(
            each,
            self.local_steps,
            is_joint=self.server_batch == "joint",
            is_bound=is_bound,
            aggregate_flop=aggregate_flop(task, min(cuts), setting.lora_rank, num_senders),
        )

    def memory_bytes(self, task: Task, cut_layer: int, lora_rank: int) -> dict[str, int]:
        """Return the needs of both sides; a joint batch is held whole by the main server."""
        batches = task.num_clients if self.server_batch == "joint" else 1
        return {
            "client": task.client_memory_bytes(cut_layer, lora_rank) + held_bytes(task, cut_layer, lora_rank),
            MAIN_SERVER: task.server_memory_bytes(cut_layer, lora_rank, batches),
        }

    def memory_bytes_apart(
        self, task: Task, client_cut_layers: Sequence[int], lora_rank: int
    ) -> dict[str, int]:
        """Return the need of each client, and of a main server that holds all behind the smallest cut."""
        names = (f"client-{client}" for client in range(task.num_clients))
        needs = [
            task.client_memory_bytes(cut, lora_rank) + held_bytes(task, cut, lora_rank)
            for cut in client_cut_layers
        ]
        batches = [task.server_batch_bytes(cut, lora_rank) for cut in client_cut_layers]
        at_once = sum(batches) if self.server_batch == "joint" else max(batches)
        idle = task.server_memory_bytes(min(client_cut_layers), lora_rank, 0)
        return {**dict(zip(names, needs, strict=True)), MAIN_SERVER: idle + at_once}

    def run(self, world: World) -> Steps:
        """Play all rounds."""
        play = SplitRounds(self, world, world.begin())
        play.evaluate(0)
        world.end_round(0)
        for round_ in range(1, self.num_rounds + 1):
            drawn = self.taking_part(world.task.seed, world.num_clients, round_)
            drawn = yield from world.attendance.present(drawn)
            play.ready = (*play.ready, *(yield from world.start_round(round_, drawn)))
            play.taking_part = list(filter(world.decisions.takes_part, drawn))
            for local_step in range(1, self.local_steps + 1):
                yield from play.split_step(Moment(round_, local_step), play.taking_part)
            if play.averages:
                average = yield from play.collect(Moment(round_))
                yield from play.broadcast(Moment(round_), average)
            if self.cutoff is not None:
                world.note(Moment(round_), self.cutoff.counted, len(play.taking_part))
            if self.is_evaluated(round_):
                play.evaluate(round_)
            world.end_round(round_)
        world.adapter = play.federation.export(play.server.adapter)
