"""Uploads of adapters through the task's codec, with what each client holds back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from cosim.control.knobs import QUANTISATION_BITS
from cosim.graph.node import Node, Ref
from cosim.kernel.clock import Steps
from cosim.learning import air_sums
from cosim.learning.codec import Encoding, Layout
from cosim.learning.federated_state import FederatedState
from cosim.learning.operations import rank_pairs
from cosim.learning.payload import Transmission, upload_layout
from cosim.learning.shape import Factor
from cosim.learning.task import Task
from cosim.radio.medium.delivery import Delivery, Distortion, Payload
from cosim.transmissions import Outgoing, Sent
from cosim.world import Moment, World

if TYPE_CHECKING:
    from cosim.learning.units import Kept


class AdapterUploads:
    """What the clients send to the federated server, round after round.

    Parameters
    ----------
    world
        Where it is sent.
    federation
        What clients have to send.
    num_blocks
        How many blocks each client has.
    overhead_bits
        What each sends beside its adapter.

    Attributes
    ----------
    sent
        The sendings of this round by client.
    kept
        How many units of each block clients keep that do not keep all.
    """

    def __init__(
        self, world: World, federation: FederatedState, num_blocks: Sequence[int], overhead_bits: int = 0
    ) -> None:
        self.world, self.federation = world, federation
        self.codec = world.task.codecs.adapter
        self.sent: dict[int, Transmission] = {}
        # where factors are sent in turn, what is held back of one waits for its turn
        self._memories: dict[tuple[int, frozenset[Factor]], Ref] = {}
        self._before = dict(self._memories)
        self._found: dict[int, int] = {}
        self._summed: Ref | None = None
        self._standard: tuple[float, float] | None = (
            None  # mean and deviation of values that are standardised
        )
        self._was_summed = False
        # as decided when the round began: what is encoded does not change with the air on its way
        self._ratios: dict[int, float | None] = {}
        self._widths: dict[int, int] = {}
        self.kept: dict[int, Kept] = {}
        self._num_blocks, self._overhead_bits = num_blocks, overhead_bits
        self._exact_bits, self._flop = cache(self._bits_of_layout), cache(self._flop_of_layout)
        self._with_bits = cache(self.codec.with_bits)

    def describe(self, round_: int, clients: Iterable[int]) -> None:
        """Describe what these clients send at the end of a round."""
        federation, aggregator = self.federation, self.federation.aggregator
        factors = aggregator.sent(round_)
        self._before = dict(self._memories)
        self._found, self.sent, self._ratios, self._summed = {}, {}, {}, None
        self._was_summed = False
        for client in clients:
            self._ratios[client] = self._decided_ratio(client)
            self._widths[client] = int(self.world.decisions.knob(QUANTISATION_BITS.name, client, 0.0))
            self.sent[client] = one = federation.training.transmit(
                self._encoding(self._widths[client]),
                federation.upload(client, round_),
                "federated_uplink",
                client,
                round_,
                reference=None if self.codec.is_transparent else federation.reference(client, round_),
                memory=self._memories.get((client, factors)),
                sparsification_ratio=self._ratios[client],
            )
            if one.memory is not None:
                self._memories[client, factors] = one.memory

    def energies(self, round_: int, clients: Iterable[int]) -> list[Ref]:
        """Return what each of these clients would lose without each rank pair."""
        federation, factors = self.federation, self.federation.aggregator.sent(round_)
        return [
            rank_pairs.pair_energies(
                federation.training.graph,
                federation.training.params_of(self.codec),
                federation.upload(client, round_),
                federation.reference(client, round_),
                self._memories.get((client, factors)),
            )
            for client in clients
        ]

    def leave_out_lost(self, sent: Iterable[Sent]) -> int:
        """Forget what did not arrive; returns how many did."""
        for one in sent:
            for client, is_delivered in one.delivery.delivered.items():
                if not is_delivered:
                    self.sent.pop(client, None)
        return len(self.sent)

    def forget(self, client: int) -> None:
        """Let a client hold back what it did before this round, as it has lost what it learned in it."""
        kept = {key: ref for key, ref in self._before.items() if key[0] == client}
        others = {key: ref for key, ref in self._memories.items() if key[0] != client}
        self._memories = {**others, **kept}

    @property
    def received(self) -> dict[int, Ref]:
        """What the server has of each client that sent."""
        return {client: one.tensors for client, one in self.sent.items()}

    @property
    def mean_figures(self) -> dict[str, Ref]:
        """What the senders measured, as the mean by their data."""
        training = self.federation.training
        weights = self.federation.weights.of(self.sent)
        names = () if self.codec.is_transparent else self.codec.figure_names
        return {
            name: rank_pairs.weighted_mean(
                training.graph, [one.figures[name] for one in self.sent.values()], weights
            )
            for name in names
        }

    def average(self, round_: int) -> Node:
        """Return the node of the federated server on what arrived, each by itself or as a sum."""
        summed, self._summed = self._summed, None
        if summed is None and self.codec.is_summed:
            self._was_summed = True
            reference = self.federation.reference(next(iter(self.sent)), round_)
            numbers = {client: one.numbers for client, one in self.sent.items()}
            weights = self.federation.weights.of(self.sent)
            summed = self.federation.training.rebuild(reference, numbers, weights, self.codec, round_)
        if summed is not None:  # of one, so with a weight of one
            return self.federation.average({next(iter(self.sent)): summed}, round_, senders=self.sent)
        masks = {client: one.mask for client, one in self.sent.items() if one.mask is not None}
        return self.federation.average(self.received, round_, masks or None)

    def hang_on_values(self, round_: int) -> bool:
        """Return whether the bits of this round are known only when it has been computed."""
        return self.world.computes and any(self._exact(client, round_) is None for client in self.sent)

    def find_bits(self) -> None:
        """Find out bits that depend on values; no simulated time passes."""
        bits = self.world.ask([one.others["bits"] for one in self.sent.values()], keep=self._described())
        self._found = dict(zip(self.sent, map(int, bits), strict=True))

    def send(self, client: int, moment: Moment, after: Sequence[int]) -> Steps:
        """Upload what was described; returns what became of it."""
        self._measure(client, moment)
        bits = self._bits(client, moment.round)
        ready = yield from self._encode(client, moment, after)
        return (
            yield from self.world.send(
                "federated_uplink", client, "adapter_upload", moment, bits, self.sent[client].node, ready
            )
        )

    def _encode(self, client: int, moment: Moment, after: Sequence[int]) -> Steps:
        """Let a client encode what it sends, where that is charged; returns what its upload waits for."""
        flop, _ = self._coding_flop(client, moment.round)
        if not flop:
            return after
        name, node = self.world.client_names[client], self.sent[client].node
        return [(yield from self.world.compute(name, "encode_update", moment, flop, node, after))]

    def server_flop(self, round_: int) -> int:
        """Return the FLOP of the server to decode what arrived, each or their sum once, and to average it."""
        each = [self._coding_flop(client, round_)[1] for client in self.sent]
        averaging = self.federation.training.amounts.aggregate_flop(min(self._num_blocks), len(each))
        return sum(each[:1] if self._was_summed else each) + averaging

    def rebuild_flop(self, round_: int) -> int:
        """Return the FLOP of a client to restore the average of what arrived, where it is not sent itself."""
        return self.codec.rebuild_flop(self._layout(next(iter(self.sent)), round_), len(self.sent))

    def _coding_flop(self, client: int, round_: int) -> tuple[int, int]:
        """Return the FLOP to encode and to decode what a client sends."""
        kind = self.world.task.kind(round_)
        return self._flop(self._num_blocks[client], self._rank(client), kind, self.kept.get(client))

    def _flop_of_layout(
        self, num_blocks: int, client_rank: int, round_: int, kept: "Kept | None"
    ) -> tuple[int, int]:
        layout = upload_layout(self._task(kept), num_blocks, client_rank, round_)
        return self.codec.encode_flop(layout), self.codec.decode_flop(layout)

    def send_at_once(self, moment: Moment, after: Mapping[int, Sequence[int]]) -> Steps:
        """Upload what was described of all clients in one transmission; returns what became of it."""
        clients = list(self.sent)
        encoding = [self._encode(client, moment, after[client]) for client in clients]
        encoded = yield from self.world.together(encoding, "encoding of client")
        ready = dict(zip(clients, encoded, strict=True))
        weights = dict(zip(clients, self.federation.weights.of(clients), strict=True))
        self._standard = self._standardised(weights, moment.round)
        outgoing = {}
        for client, one in self.sent.items():
            self._measure(client, moment)
            layout = self._layout(client, moment.round)
            num_numbers = self.codec.air_layout(layout).num_numbers
            max_rms = None if self._standard is None else self._standard[1]
            payload = Payload(self._bits(client, moment.round), num_numbers, weights[client], max_rms)
            outgoing[client] = Outgoing(payload, one.node, ready[client])
        arriving = partial(self._arriving, moment.round)
        return (
            yield from self.world.send_at_once(
                "federated_uplink", "adapter_upload", moment, outgoing, arriving
            )
        )

    def _standardised(self, weights: Mapping[int, float], round_: int) -> tuple[float, float] | None:
        """Return the mean of all that is sent by weight, and the largest deviation of a sender from it.

        Both are known from the scalars that senders have reported; None where nothing is
        standardised, or computed.
        """
        if not (self.world.signalling("federated_uplink").is_standardised and self.world.computes):
            return None
        training, sent = self.federation.training, self.sent.items()
        each = [
            air_sums.moments(training, self.federation.reference(client, round_), one.numbers, self.codec)
            for client, one in sent
        ]
        found = np.array(self.world.ask([ref for pair in each for ref in pair], keep=self._described()))
        means, variances = found.reshape(-1, 2).T
        mean = float(np.array(list(weights.values())) @ means)
        return mean, float(np.sqrt((variances + (means - mean) ** 2).max()))

    def _arriving(self, round_: int, delivery: Delivery) -> tuple[Node | None, Delivery]:
        """Describe the sum that arrives, and what was radiated for it; no node if nothing arrives."""
        distortion = delivery.distortion
        if distortion is None or not distortion.weights:
            return None, delivery
        self._was_summed = True
        heard = list(distortion.weights)
        reference = self.federation.reference(heard[0], round_)
        self._summed = air_sums.superpose(
            self.federation.training,
            reference,
            [self.sent[client].numbers for client in heard],
            list(distortion.weights.values()),
            distortion.noise_std,
            distortion.max_rms,
            distortion.stream,
            self.codec,
            round_,
            None if distortion.uneven is None else distortion.uneven.params(),
            None if self._standard is None else self._standard[0],
        )
        shares = self._sent_powers(reference, heard, distortion)
        radiated = {}
        for client, energy_j in delivery.energy_j.items():
            pilots_j = delivery.pilot_energy_j.get(client, 0.0)
            radiated[client] = pilots_j + (energy_j - pilots_j) * shares.get(client, 1.0)
        return self._summed.node, delivery._replace(energy_j=radiated)

    def _sent_powers(
        self, reference: Ref, clients: Sequence[int], distortion: Distortion
    ) -> dict[int, float]:
        """Return what each radiated as a share of the most it may be; empty where nothing is computed."""
        if not self.world.computes:
            return {}
        training, numbers = self.federation.training, [self.sent[client].numbers for client in clients]
        mean = None if self._standard is None else self._standard[0]
        shares = [
            air_sums.sent_power(training, reference, one, distortion.max_rms, self.codec, mean)
            for one in numbers
        ]
        assert self._summed is not None
        found = self.world.ask(shares, keep=[self._summed, *self._described()])
        return {client: distortion.filled * share for client, share in zip(clients, found, strict=True)}

    def _described(self) -> Iterator[Ref]:
        """Return what may still be asked for of what was sent."""
        return (ref for one in self.sent.values() for ref in (one.tensors, *one.others.values()))

    def _measure(self, client: int, moment: Moment) -> None:
        for name, figure in self.sent[client].figures.items():
            self.world.measure(moment, self.world.client_names[client], name, figure)

    def _layout(self, client: int, round_: int) -> Layout:
        task = self._task(self.kept.get(client))
        return upload_layout(task, self._num_blocks[client], self._rank(client), round_)

    def _task(self, kept: "Kept | None") -> Task:
        """Return the task of who keeps so many units."""
        return self.world.task if kept is None else self.world.task.narrowed(kept)

    def _bits(self, client: int, round_: int) -> int:
        """Return how much a client sends, as the allocator is informed."""
        bits = self._found.get(client, self._exact(client, round_))
        if bits is None:  # nothing is computed
            encoding = self._encoding(self._widths[client])
            bits = encoding.max_bits(self._layout(client, round_), self._ratios[client])
        return bits + self._overhead_bits

    def refs(self) -> Iterator[Ref]:
        """Return what later rounds build on."""
        yield from self._memories.values()
        if self.codec.is_summed:
            yield from (one.numbers for one in self.sent.values())

    def _exact(self, client: int, round_: int) -> int | None:
        """Return the bits a client sends, where no value decides them."""
        kind = self.world.task.kind(round_)
        num_blocks = self._num_blocks[client]
        decided = self._ratios[client], self._widths[client], self.kept.get(client)
        return self._exact_bits(num_blocks, self._rank(client), kind, *decided)

    def _bits_of_layout(
        self,
        num_blocks: int,
        client_rank: int,
        round_: int,
        sparsification_ratio: float | None,
        width: int,
        kept: "Kept | None",
    ) -> int | None:
        layout = upload_layout(self._task(kept), num_blocks, client_rank, round_)
        return self._encoding(width).bits(layout, sparsification_ratio)

    def _encoding(self, width: int) -> Encoding:
        """Return what a client encodes by whose numbers have a width that was decided; 0 where none was."""
        return self._with_bits(width) if width else self.codec

    def _rank(self, client: int) -> int:
        return self.federation.aggregator.rank(client, self.federation.training.lora_rank)

    def _decided_ratio(self, client: int) -> float | None:
        """Return what the allocator decided for a client, where codec and allocator know of it."""
        decided = self.world.decisions.current
        if not self.codec.obeys_ratio or decided is None or decided.sparsification_ratios is None:
            return None
        return decided.sparsification_ratios[client]
