"""Uploads of adapters through the lesson's codec, with what each client holds back."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import numpy as np

from cosim.kernel.clock import Steps
from cosim.learning import pair_works
from cosim.learning.codec import Layout
from cosim.learning.federation import Federation
from cosim.learning.payload import Transmission, upload_layout
from cosim.learning.shape import Factor
from cosim.learning.work import Output, Work
from cosim.radio.medium import Distortion, Payload
from cosim.units import Floats
from cosim.world import Moment, Outgoing, Sent, World

REPORT_BITS = 64
"""What a client tells an allocator of its energies: the two numbers of a fitted curve."""


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

    Attributes
    ----------
    sent
        The sendings of this round by client.
    reported
        What each client was found to lose without each rank pair, shape
        (num_pairs,); zeros for clients that were not asked.
    """

    def __init__(self, world: World, federation: Federation, num_blocks: Sequence[int]) -> None:
        self.world, self.federation = world, federation
        self.codec = world.lesson.codecs.adapter
        self.sent: dict[int, Transmission] = {}
        self.reported: list[Floats] = []
        # where factors are sent in turn, what is held back of one waits for its turn
        self._memories: dict[tuple[int, frozenset[Factor]], Output] = {}
        self._found: dict[int, int] = {}
        # as told when the round began: what is encoded does not change with the air on its way
        self._ratios: dict[int, float | None] = {}
        self._num_blocks = num_blocks
        self._exact_bits = cache(self._bits_of_layout)

    def describe(self, round_: int, clients: Iterable[int]) -> None:
        """Describe what these clients send at the end of a round."""
        federation, aggregator = self.federation, self.federation.aggregator
        factors = aggregator.sent(round_)
        self._found, self.sent, self._ratios = {}, {}, {}
        for client in clients:
            self._ratios[client] = self._decided_ratio(client)
            self.sent[client] = one = federation.training.transmit(
                self.codec,
                federation.upload(client, round_),
                "federated_uplink",
                client,
                round_,
                reference=None if self.codec.is_transparent else federation.reference(client, round_),
                memory=self._memories.get((client, factors)),
                keep_ratio=self._ratios[client],
            )
            if one.memory is not None:
                self._memories[client, factors] = one.memory

    def energies(self, round_: int, clients: Iterable[int], others: Sequence[Output]) -> list[Output]:
        """Find out what these clients would lose without each rank pair; no simulated time passes.

        It is left in :attr:`reported`. Returns ``others``, what else is to be
        built on, as outputs to go on with, so that nothing is computed twice.
        """
        federation, factors = self.federation, self.federation.aggregator.sent(round_)
        asked = {
            client: pair_works.pair_energies(
                federation.training.describe,
                federation.training.told(self.codec),
                federation.upload(client, round_),
                federation.reference(client, round_),
                self._memories.get((client, factors)),
            )
            for client in clients
        }
        found: list[Floats] = []

        def ask(keep: list[Output]) -> list[Output]:
            kept, values = self.world.ask(keep, list(asked.values()))
            found.extend(np.asarray(value["energies"]) for value in values)
            return kept

        kept = federation.settle(ask, [*others, *self.held])
        self.go_on(kept[len(others) :])
        known = dict(zip(asked, found, strict=True))
        nothing = np.zeros_like(found[0])
        self.reported = [known.get(client, nothing) for client in range(self.world.num_clients)]
        return kept[: len(others)]

    def leave_out_lost(self, sent: Iterable[Sent]) -> int:
        """Forget what did not arrive; returns how many did."""
        for one in sent:
            for client, is_delivered in one.delivery.delivered.items():
                if not is_delivered:
                    self.sent.pop(client, None)
        return len(self.sent)

    @property
    def received(self) -> dict[int, Output]:
        """What the server has of each client that sent."""
        return {client: one.tensors for client, one in self.sent.items()}

    @property
    def mean_figures(self) -> dict[str, Output]:
        """What the senders measured, as the mean by their data."""
        training = self.federation.training
        weights = training.weights(self.sent)
        names = () if self.codec.is_transparent else self.codec.figure_names
        return {
            name: pair_works.weighted_mean(
                training.describe, [one.figures[name] for one in self.sent.values()], weights
            )
            for name in names
        }

    def average(self, round_: int, distortion: Distortion | None = None) -> Work:
        """Return the work of the federated server on what arrived, each by itself or as a sum."""
        if distortion is not None:
            first = next(iter(distortion.weights))
            summed = self.federation.training.superpose(
                self.federation.reference(first, round_),
                [self.sent[client].tensors for client in distortion.weights],
                list(distortion.weights.values()),
                distortion.noise_std,
                distortion.max_rms,
                distortion.stream,
            )
            return self.federation.average({first: summed}, round_)  # of one, so with a weight of one
        masks = {client: one.mask for client, one in self.sent.items() if one.mask is not None}
        return self.federation.average(self.received, round_, masks or None)

    def hang_on_values(self, round_: int) -> bool:
        """Return whether the bits of this round are known only when it has been computed."""
        return self.world.computes and any(self._exact(client, round_) is None for client in self.sent)

    def find_bits(self, round_: int, others: Sequence[Output]) -> list[Output]:
        """Find out bits that hang on values; no simulated time passes.

        Returns ``others``, what else is to be built on, as outputs to
        go on with, so that nothing is computed twice.
        """
        mine = [output for one in self.sent.values() for output in (one.tensors, *one.others.values())]
        bits = [one.others["bits"] for one in self.sent.values()]
        found: list[int] = []

        def ask(keep: list[Output]) -> list[Output]:
            kept, values = self.world.ask(keep, bits)
            found.extend(map(int, values))
            return kept

        kept = self.federation.settle(ask, [*others, *mine])
        self._found = dict(zip(self.sent, found, strict=True))
        after, factors = iter(kept[len(others) :]), self.federation.aggregator.sent(round_)
        for client, one in self.sent.items():
            tensors = next(after)
            one = Transmission(one.work, tensors, dict(zip(one.others, after, strict=False)))
            self.sent[client] = one
            if one.memory is not None:
                self._memories[client, factors] = one.memory
        return kept[: len(others)]

    def send(self, client: int, moment: Moment, after: Sequence[int]) -> Steps:
        """Upload what was described, and what the allocator was told; returns what became of it."""
        self._measure(client, moment)
        bits = self._bits(client, moment.round)
        return (
            yield from self.world.send(
                "federated_uplink", client, "adapter_upload", moment, bits, self.sent[client].work, after
            )
        )

    def send_at_once(self, moment: Moment, after: Mapping[int, Sequence[int]]) -> Steps:
        """Upload what was described of all clients in one transmission; returns what became of each."""
        clients = list(self.sent)
        weights = dict(zip(clients, self.federation.training.weights(clients), strict=True))
        outgoing = {}
        for client, one in self.sent.items():
            self._measure(client, moment)
            layout = self._layout(client, moment.round)
            payload = Payload(self._bits(client, moment.round), layout.num_numbers, weights[client])
            outgoing[client] = Outgoing(payload, one.work, after[client])
        return (yield from self.world.send_at_once("federated_uplink", "adapter_upload", moment, outgoing))

    def _measure(self, client: int, moment: Moment) -> None:
        for name, figure in self.sent[client].figures.items():
            self.world.measure(moment, self.world.client_names[client], name, figure)

    def _layout(self, client: int, round_: int) -> Layout:
        return upload_layout(self.world.lesson, self._num_blocks[client], self._rank(client), round_)

    def _bits(self, client: int, round_: int) -> int:
        """Return how much a client sends, with what the allocator is told."""
        bits = self._found.get(client, self._exact(client, round_))
        if bits is None:  # nothing is computed
            bits = self.codec.max_bits(self._layout(client, round_), self._ratios[client])
        return bits + (REPORT_BITS if self.world.decisions.needs_energies else 0)

    @property
    def held(self) -> list[Output]:
        """What later rounds build on."""
        return list(self._memories.values())

    def go_on(self, kept: Iterable[Output]) -> None:
        """Take the outputs that :attr:`held` has become."""
        self._memories = dict(zip(self._memories, kept, strict=True))

    def _exact(self, client: int, round_: int) -> int | None:
        """Return the bits a client sends, where no value decides them."""
        kind = (round_ - 1) % self.federation.aggregator.period + 1
        num_blocks = self._num_blocks[client]
        return self._exact_bits(num_blocks, self._rank(client), kind, self._ratios[client])

    def _bits_of_layout(
        self, num_blocks: int, client_rank: int, round_: int, keep_ratio: float | None
    ) -> int | None:
        layout = upload_layout(self.world.lesson, num_blocks, client_rank, round_)
        return self.codec.bits(layout, keep_ratio)

    def _rank(self, client: int) -> int:
        return self.federation.aggregator.rank(client, self.federation.training.lora_rank)

    def _decided_ratio(self, client: int) -> float | None:
        """Return what the allocator decided for a client, where codec and allocator know of it."""
        decided = self.world.decisions.current
        if not self.codec.keeps_ratio or decided is None or decided.keep_ratios is None:
            return None
        return decided.keep_ratios[client]
