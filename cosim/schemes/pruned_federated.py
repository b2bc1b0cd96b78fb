"""Federated learning in which each client trains a part of the model: heads and MLP columns are left out."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cosim.control.knobs import (
    PARTICIPATION,
    PRUNING_RATIO,
    WEIGHT,
    Knob,
    Setting,
    local_steps_up_to,
    pruning_ratio,
)
from cosim.control.reports import Report
from cosim.control.stages import CLIENT, Barrier, Compute, Round, Transfer
from cosim.errors import ScenarioError
from cosim.graph.node import Node, Ref
from cosim.kernel.clock import Steps
from cosim.learning.aggregator import Aggregator
from cosim.learning.amounts import WholeAmounts, whole_amounts
from cosim.learning.architectures import OURS
from cosim.learning.chain import codec_of
from cosim.learning.federated_state import FederatedState
from cosim.learning.flop import whole_flop
from cosim.learning.payload import adapter_layout, bits_are_known, held_bytes
from cosim.learning.shape import ModelShape
from cosim.learning.task import Task
from cosim.learning.train_state import LocalRound
from cosim.learning.trainable.full import Full
from cosim.learning.training import Training
from cosim.learning.units import UNIT_KINDS, Kept, UnitKind, can_narrow, kept_units, prunable, units_of
from cosim.learning.whole_nodes import local_round
from cosim.parts import OfPlane, family
from cosim.radio.link import Link
from cosim.schemes import FEDERATED_DOWNLINK, FEDERATED_UPLINK, measure_evaluation
from cosim.schemes.stages import averaged, download
from cosim.schemes.updates import Averages, HoldsWhole
from cosim.schemes.uploads import AdapterUploads
from cosim.schemes.vocabulary import collect, local_update
from cosim.transmissions import Sent
from cosim.world import Moment, World

_DOWN = "federated_downlink"
_MATRICES = Full(only=("attention", "mlp"))
"""What importance is of: the linear layers of the blocks."""


class PrunedFederated(Averages, HoldsWhole):
    """Each client downloads what it keeps of the shared part, trains it, and uploads it.

    In a round each client leaves out a share of the attention heads and of the MLP columns of every
    block. Its matrices are really smaller: what is left out is not computed, sent, or held while it trains.
    The server averages each number over those who trained it, ``u + sum m d / sum m`` with weights in
    both sums; a number nobody trained stays. What the aggregator ``personal`` keeps private never leaves,
    and units of which only private weights are trained are not left out. Moments of an optimiser, and
    private numbers, of units that are left out wait for a round that has them.

    Evaluated is the whole model. ``memory_bytes`` is recorded of each client and round: what it holds.

    Attributes
    ----------
    ratio
        Share of the units that every client leaves out, rounded up to whole ones; a decision may
        say more.
    max_ratio
        The most that a decision may leave out; without it, all but one unit of each kind.
    units
        What is left out: ``heads``, attention heads with keys and values of their own; ``columns``.
    mask
        Which units of a client remain, by the size of their weights. ``common``: by those of the global
        model, as many for all; ``by_ratio``: by those, as many as each client has decided for it;
        ``own``: by the client's own, private ones too. Only its own mask travels, one bit for a unit, and
        the server, which hears of it too late, sends the whole shared part then.
    importance
        ``magnitude``: that size. ``gradient``: that of each weight times its gradient, which a client finds
        by its whole model and the first mini-batch of the round (``score_units``). The server has no gradient
        of what was left out, so the mask must be the client's ``own``.

    Source
    ------
    Liu et al., IEEE TSP 2024, arXiv 2309.01816 (method card 6: abstract seen, equations re-derived). Its
    latency is linear in the ratio; here it is that of the matrices that remain.
    """

    kind: Literal["pruned_federated"] = "pruned_federated"
    links: ClassVar[tuple[Link, ...]] = (
        FEDERATED_UPLINK._replace(takes_sums=True, takes_losses=True),
        FEDERATED_DOWNLINK,
    )
    ratio: float = Field(default=0.5, ge=0.0, lt=1.0)
    max_ratio: Annotated[float | None, OfPlane("time")] = Field(default=None, ge=0.0, lt=1.0)
    units: tuple[UnitKind, ...] = Field(default=UNIT_KINDS, min_length=1)
    mask: Literal["common", "by_ratio", "own"] = "by_ratio"
    importance: Literal["magnitude", "gradient"] = "magnitude"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"mask": "own", "aggregator": {"kind": "personal"}},
        {"mask": "own", "importance": "gradient"},
        {"ratio": 0.0, "mask": "common", "units": ["columns"]},
    )

    @property
    def is_closed_form(self) -> bool:
        """Rounds last as their stages say while all take part, or a decision says who does."""
        return self.participation == 1.0

    @property
    def why_no_sums(self) -> str | None:
        """Only numbers of the same places can be added."""
        if self.mask == "common":
            return None
        return (
            f"scheme.mask = {self.mask!r} lets clients send numbers of different places, and a sum of those "
            "means nothing; take mask = 'common'"
        )

    def check(self, task: Task) -> None:
        """Refuse what cannot be pruned, and a ratio that leaves a block without a head or a column."""
        most = self._most(task.shape)
        for name, ratio in (("ratio", self.ratio), ("max_ratio", self.max_ratio)):
            if ratio is not None and ratio > most + 1e-9:
                counts = " and ".join(f"{units_of(task.shape, kind)} {kind}" for kind in self.units)
                raise ScenarioError(
                    f"scheme.{name}: {ratio:g} leaves none of the {counts} of a block; {most:g} leaves one."
                )
        if self.max_ratio is not None and self.max_ratio < self.ratio:
            raise ScenarioError(
                f"scheme.max_ratio: {self.max_ratio:g} is less than the ratio {self.ratio:g} that every "
                "client leaves out at least; raise the one or lower the other."
            )
        if self.importance == "gradient" and self.mask != "own":
            raise ScenarioError(
                f"scheme.importance: 'gradient' with mask = {self.mask!r} lets the server choose by "
                "gradients that it does not have; take mask = 'own', or importance = 'magnitude'."
            )
        if not any(map(any, self._free(task))):
            raise ScenarioError(
                f"scheme.units: what is trained of the {' and '.join(self.units)} is private, and only what "
                "is shared is pruned; let a part of it be shared, or take the scheme 'federated'."
            )
        if not task.aggregator.takes_masks:
            able = ", ".join(repr(kind) for kind, part in family(Aggregator).items() if _takes_masks(part))
            raise ScenarioError(
                f"scheme.aggregator: {task.aggregator.kind!r} cannot leave out of its average what a client "
                f"did not train; take one of {able}."
            )
        codec = self.adapter_encoding
        if codec.keeps_memory or codec_of(codec).has_mask or codec_of(codec).obeys_ratio:
            raise ScenarioError(
                f"scheme.adapter_codec: {codec_of(codec).kind!r} as it is set, or a step of scheme.update, "
                "holds back or chooses what is sent, and a pruned client has other numbers in other rounds; "
                "take an adapter_codec such as 'none' or 'float16', and no 'residual' in scheme.update."
            )
        if not task.training.gradients.is_mean:
            raise ScenarioError(
                f"training.gradients: {task.training.gradients.kind!r} is for whole models; take 'mean'."
            )
        if not task.shape.names.has_blocks_of_ours:
            raise ScenarioError(
                f"model: blocks of a {task.shape.family} model are called as transformers has them and "
                f"cannot be narrowed; take one of {OURS}."
            )
        if task.trainable.has_factors and not task.trainable.adds_products:
            raise ScenarioError(
                "lora.use_dora: the norms of a pruned layer are of fewer weights than those its magnitudes "
                "were trained with; leave it out."
            )
        if not can_narrow(task.shape, task.trainable.parameters, self.kept(task, most)):
            raise ScenarioError(
                f"trainable.kind: {task.trainable.kind!r} trains tensors whose heads and columns no name "
                "tells; train [lora], or take trainable.kind = 'full'."
            )

    def knobs(self, task: Task) -> tuple[Knob, ...]:
        """Who takes part, with how many local steps and what weight, and how much it leaves out."""
        most = self._most(task.shape) if self.max_ratio is None else self.max_ratio
        ratio = pruning_ratio(self.ratio, max(most, self.ratio), per_client=self.mask != "common")
        return (PARTICIPATION, local_steps_up_to(self.local_steps), WEIGHT, ratio)

    def phases(self, task: Task, round_: int, setting: Setting, reports: Sequence[Report] = ()) -> Round:
        """Return the round: one barrier, behind which the server averages."""
        drawn = self.taking_part(task.seed, task.num_clients, round_)
        each = [
            self.amounts(task, setting.lora_rank, setting.of(PRUNING_RATIO, client, self.ratio))
            if client in drawn and setting.takes_part(client)
            else None
            for client in range(task.num_clients)
        ]
        up, *_ = averaged(each, is_bound=not bits_are_known(task, task.shape.num_layers))
        assert isinstance(up, Barrier)
        chains, flop = [], self.scoring_flop(task)
        for client, (one, sent) in enumerate(zip(each, up.chains, strict=True)):
            steps = int(setting.of("local_steps", client, self.local_steps))
            chains.append(() if one is None else (*_trains(one, steps, flop), *sent))
        return (up._replace(chains=tuple(chains)),)

    def amounts(self, task: Task, lora_rank: int, ratio: float) -> WholeAmounts:
        """Return what a client computes and sends that leaves out a share of the units; 1 leaves none."""
        one = whole_amounts(task.narrowed(self.kept(task, ratio)), lora_rank)
        if self.mask != "own":
            return one
        whole = whole_amounts(task, lora_rank)
        bits = one.adapter_bits + self.mask_bits(task.shape)
        return one._replace(adapter_bits=bits, adapter_download_bits=whole.adapter_download_bits)

    def scoring_flop(self, task: Task) -> int:
        """Return the FLOP of the gradients by which a client chooses its units; 0 where it needs none."""
        if self.importance == "magnitude":
            return 0
        one = whole_flop(task.shape, _MATRICES, task.training.batch_size, task.data.sequence_length)
        return one.forward + one.backward

    def mask_bits(self, shape: ModelShape) -> int:
        """Return the bits that say which units a client kept; a rule that both ends know takes none."""
        if self.mask != "own":
            return 0
        return shape.num_layers * sum(units_of(shape, kind) for kind in self.units)

    def memory_bytes(self, task: Task, cut_layer: int, lora_rank: int) -> dict[str, int]:
        """Return what a client needs that leaves out no more than all do."""
        return {"client": self.client_bytes(task, lora_rank, self.ratio)}

    def client_bytes(self, task: Task, lora_rank: int, ratio: float) -> int:
        """Return what a client holds that leaves out a share of the units, bytes."""
        narrow = task.narrowed(self.kept(task, ratio))
        trains = narrow.whole_memory_bytes(lora_rank) + held_bytes(narrow, task.shape.num_layers, lora_rank)
        if self.importance == "magnitude":
            return trains
        adapter = adapter_layout(task, task.shape.num_layers, lora_rank).num_numbers  # merged, and kept
        per_number = task.model.bits_per_trained_number // 8
        return max(trains, task.whole_gradient_bytes(_MATRICES) + adapter * per_number)

    def kept(self, task: Task, ratio: float) -> Kept:
        """Return how many units of each block a client keeps."""
        return kept_units(task.shape, ratio, self._free(task))

    def _free(self, task: Task) -> tuple[tuple[bool, bool], ...]:
        """Return which units of each block are of the shared part, and so may be left out."""
        names = [one.name for one in task.trainable.parameters(task.shape)]
        return prunable(task.shape, names, task.private, self.units)

    def _most(self, shape: ModelShape) -> float:
        """Return the largest ratio that leaves every block a unit of each kind."""
        return 1.0 - 1.0 / min(units_of(shape, kind) for kind in self.units)

    def run(self, world: World) -> Steps:
        """Play all rounds."""
        play = _Rounds(self, world, world.begin())
        play.evaluate(0)
        world.end_round(0)
        last = evaluated = 0
        for round_ in range(1, self.num_rounds + 1):
            yield from world.wait_for_power()
            drawn = list(filter(world.let_in, self.taking_part(world.task.seed, world.num_clients, round_)))
            if not drawn:
                continue
            last = round_
            play.ready = (*play.ready, *(yield from world.start_round(round_, drawn)))
            chosen = list(filter(world.decisions.takes_part, drawn))
            yield from play.round(Moment(round_), chosen)
            if self.is_evaluated(round_):
                play.evaluate(round_)
                evaluated = round_
            world.end_round(round_)
        if evaluated < last:
            play.evaluate(last)
            world.report(last)
        world.adapter = play.federation.export()


class _Rounds:
    """One training under way."""

    def __init__(self, scheme: PrunedFederated, world: World, training: Training) -> None:
        self.scheme, self.world, self.training = scheme, world, training
        self.federation = FederatedState(training, "whole", scheme.weights, scheme.server_optimizer)
        shape = world.task.shape
        num_blocks = [shape.num_layers] * world.num_clients
        self.uploads = AdapterUploads(world, self.federation, num_blocks, scheme.mask_bits(shape))
        self._amounts = cache(lambda ratio: scheme.amounts(world.task, training.lora_rank, ratio))
        self._bytes = cache(lambda ratio: scheme.client_bytes(world.task, training.lora_rank, ratio))
        self._ratios: dict[int, float] = {}
        self._scoring_flop = scheme.scoring_flop(world.task)
        self.ready: Sequence[int] = ()
        world.hold(self._refs)

    def _refs(self) -> Iterator[Ref]:
        """Return what later rounds build on."""
        yield from self.federation.refs()
        yield from self.uploads.refs()

    def round(self, moment: Moment, clients: Sequence[int]) -> Steps:
        """Play one round of these clients."""
        world, uploads, knob = self.world, self.uploads, self.world.decisions.knob
        self._ratios = {client: knob(PRUNING_RATIO, client, self.scheme.ratio) for client in clients}
        learned = [self._learn(client, moment.round) for client in clients]
        self.federation.weights.decide({client: knob("weight", client, 0.0) for client in clients})
        uploads.describe(moment.round, clients)
        if uploads.hang_on_values(moment.round):
            uploads.find_bits()

        def average(sent: Sequence[Sent]) -> tuple[Node, int]:
            return self._average(moment, sent), uploads.server_flop(moment.round)

        updates = self._updates(moment, learned)
        averaged_ = yield from collect(world, moment, updates, average, self.ready)
        self.ready = averaged_.spans
        self.federation.distribute_to_all(moment.round + 1)

    def _learn(self, client: int, round_: int) -> LocalRound:
        """Describe what a client learns with the units it keeps."""
        scheme, federation = self.scheme, self.federation
        first = (round_ - 1) * scheme.local_steps
        count = int(self.world.decisions.knob("local_steps", client, scheme.local_steps))
        kept = scheme.kept(self.world.task, self._ratios[client])
        self.uploads.kept[client] = kept
        batch = self.training.batch(client, first) if self._scoring_flop else None
        begin = federation.narrow(client, kept, by_own=scheme.mask == "own", batch=batch)
        learned = local_round(self.training, client, begin, range(first, first + count))
        federation.widen(client, learned.after)
        self.world.note(
            Moment(round_), "memory_bytes", self._bytes(self._ratios[client]), self.world.client_names[client]
        )
        return learned

    def _updates(self, moment: Moment, learned: Sequence[LocalRound]) -> Steps:
        """Let all download, take their steps and upload; returns what became of what was sent."""
        world = self.world
        if not world.sums("federated_uplink"):
            return (
                yield from world.together([self._client(moment, one) for one in learned], "round of client")
            )
        trained = yield from world.together([self._train(moment, one) for one in learned], "round of client")
        ready = dict(zip([one.client for one in learned], trained, strict=True))
        return [(yield from self.uploads.send_at_once(moment, ready))]

    def _client(self, moment: Moment, learned: LocalRound) -> Steps:
        ready: Sequence[int] = yield from self._train(moment, learned)
        return (yield from self.uploads.send(learned.client, moment, ready))

    def _train(self, moment: Moment, learned: LocalRound) -> Steps:
        """One client's download and local steps; returns what its upload waits for."""
        client, one = learned.client, self._amounts(self._ratios[learned.client])
        begin, bits = self.federation.starts[client].node, one.adapter_download_bits
        sent: Sent = yield from self.world.send(
            _DOWN, client, "adapter_download", moment, bits, begin, self.ready
        )
        ready = [sent.span]
        if self._scoring_flop:
            units, name = self.federation.narrowed[client].units, self.world.client_names[client]
            assert units is not None
            flop = self._scoring_flop
            ready = [(yield from self.world.compute(name, "score_units", moment, flop, units.node, ready))]
        return (yield from local_update(self.world, learned, moment.round, one.flop, ready))

    def _average(self, moment: Moment, sent: Sequence[Sent]) -> Node:
        """Return the average of what arrived; if nothing did, the global adapter stays."""
        world, distortion = self.world, sent[0].delivery.distortion
        arrived = self.uploads.leave_out_lost(sent)
        if world.loses("federated_uplink") or world.sums("federated_uplink"):
            world.note(moment, "num_delivered", arrived)
        if distortion is not None:
            world.note(moment, "air_noise_std", distortion.noise_std)
        return self.uploads.average(moment.round) if arrived else self.federation.adapter.node

    def evaluate(self, round_: int) -> None:
        """Record how good the model is."""
        measure_evaluation(self.world, Moment(round_), self.federation.evaluate)


def _trains(one: WholeAmounts, steps: int, scoring_flop: int) -> tuple[Transfer | Compute, ...]:
    """Return the stages of a client ahead of its upload."""
    sent = download("adapter_download", _DOWN, one.adapter_download_bits)
    scored = (Compute("score_units", CLIENT, scoring_flop, 1),) if scoring_flop else ()
    return sent, *scored, Compute("client_forward_backward", CLIENT, one.flop, steps)


def _takes_masks(part: Any) -> bool:
    takes: bool = part.takes_masks
    return takes
