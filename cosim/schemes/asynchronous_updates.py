"""The updates of asynchronous training: each is taken, uploaded, merged and downloaded by itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from cosim.graph.node import Ref
from cosim.kernel.clock import Steps
from cosim.learning.operations.average import mean
from cosim.learning.payload import Transmission, upload_layout
from cosim.learning.results import evaluate, export
from cosim.learning.train_state import Guidance, TrainState
from cosim.learning.training import Training
from cosim.learning.whole_nodes import local_round
from cosim.schemes import measure_evaluation
from cosim.schemes.turns import Cost, Turns
from cosim.schemes.vocabulary import local_update
from cosim.world import FEDERATED_SERVER, Moment, World

if TYPE_CHECKING:
    from cosim.schemes.without_barriers import WithoutBarriers


class Upload(NamedTuple):
    """What the server has of an upload: the adapter, the one its client began from, and its weight."""

    received: Ref
    start: Ref
    weight: float


@dataclass
class _Client:
    """What a client holds.

    Attributes
    ----------
    side
        Its adapter and optimiser.
    start, version
        The global adapter it downloaded last, and how many merges had made that one.
    num_steps
        Local steps it has begun so far.
    memory
        What it holds back of its uploads.
    in_flight
        What the server will receive of the upload under way.
    """

    side: TrainState
    start: Ref
    version: int = 0
    num_steps: int = 0
    memory: Ref | None = None
    in_flight: Ref | None = None


class AsynchronousUpdates(Turns):
    """One training under way; a turn is one local update.

    Attributes
    ----------
    adapter
        The global adapter.
    version
        How many merges made it.
    num_taken
        Uploads the server has taken in.
    """

    def __init__(self, scheme: "WithoutBarriers", world: World, training: Training) -> None:
        super().__init__(world, training)
        self.scheme = scheme
        start = training.start("whole")
        self.adapter, self.version, self.num_taken = start.adapter, 0, 0
        self._clients = [_Client(start, start.adapter) for _ in range(world.num_clients)]
        self._buffer: list[tuple[Upload, int]] = []
        self._evaluated = 0
        layout = upload_layout(world.task, world.task.shape.num_layers, training.lora_rank, 1)
        self.codec = scheme.adapter_encoding
        self._bits, self._most_bits = self.codec.bits(layout), self.codec.max_bits(layout)
        self._encode_flop, self._decode_flop = self.codec.encode_flop(layout), self.codec.decode_flop(layout)
        world.hold(self._refs)
        self.evaluate()
        world.report(0)

    def _refs(self) -> Iterator[Ref]:
        """Return what later updates build on."""
        yield self.adapter
        for upload, _ in self._buffer:
            yield from (upload.received, upload.start)
        for one in self._clients:
            yield from (one.side.adapter, one.side.optimizer, one.start)
            yield from (ref for ref in (one.memory, one.in_flight) if ref is not None)

    @property
    def is_open(self) -> bool:
        """Whether there are local updates left to begin."""
        return self.num_begun < self.scheme.num_rounds

    def client(self, number: int) -> Steps:
        """Local update after local update of one client, as long as there are any to begin."""
        ready: Sequence[int] = ()
        while self.is_open:
            moment, known = yield from self._begin(number)
            taken_in = yield from self._update(number, moment, (*ready, *known))
            ready = yield from self.download(number, moment, taken_in)
            self.world.close_round(moment.round)

    def turn(self, client: int, ready: Sequence[int]) -> Steps:
        """One local update, ahead of which the client downloads what it has not got yet."""
        moment, known = yield from self._begin(client)
        ready = (*ready, *known)
        if self._clients[client].version != self.version:
            ready = yield from self.download(client, moment, ready)
        taken_in = yield from self._update(client, moment, ready)
        self._evaluate_if_due()
        self.world.close_round(moment.round)
        return taken_in

    def cost(self, client: int) -> Cost:
        """Return what a local update is expected to take of a client."""
        return self.cost_of_update(client, self.scheme.local_steps)

    def end(self) -> None:
        """Merge what waits in the buffer, and leave the adapter."""
        if self._buffer:
            self._merge_buffer()
        if self._evaluated < self.num_taken:
            self.evaluate()
        self.world.report(self.num_taken)
        self.world.adapter = export(self.training, self.adapter)

    def _begin(self, number: int) -> Steps:
        """Begin a round, which is one local update of this client; returns it, and what it waits for."""
        self.num_begun += 1
        moment = Moment(self.num_begun)
        self.world.begin_round(moment.round, [number])
        return moment, (yield from self.world.consult(moment.round))

    def _update(self, number: int, moment: Moment, ready: Sequence[int]) -> Steps:
        """Local steps, upload, and the server that takes it in."""
        ready = yield from self.local_update(number, moment, ready)
        arrived = yield from self.upload(number, moment, ready)
        return (yield from self.merge(number, moment, arrived))

    def local_update(self, number: int, moment: Moment, ready: Sequence[int]) -> Steps:
        """Local steps from the global adapter downloaded last; the learning rate goes by its own steps."""
        client, flop = self._clients[number], self.training.amounts.whole(number, moment.round).flop
        steps = range(client.num_steps, client.num_steps + self.scheme.local_steps)
        guidance = Guidance(self.scheme.local_rule, {"start": client.start})
        learned = local_round(self.training, number, client.side, steps, guidance=guidance)
        client.side, client.num_steps = learned.after, steps.stop
        return (yield from local_update(self.world, learned, moment.round, flop, ready))

    def upload(self, number: int, moment: Moment, ready: Sequence[int]) -> Steps:
        """Upload of its adapter; what a codec holds back waits for its next one."""
        world, client, name = self.world, self._clients[number], self.world.client_names[number]
        sent = self.training.transmit(
            *(self.codec, client.side.adapter, "federated_uplink", number, client.num_steps),
            reference=client.start,
            memory=client.memory,
        )
        client.memory, client.in_flight = sent.memory or client.memory, sent.tensors
        for figure, value in sent.figures.items():
            world.measure(moment, name, figure, value)
        if self._encode_flop:
            encoding = world.compute(name, "encode_update", moment, self._encode_flop, sent.node, ready)
            ready = [(yield from encoding)]
        upload = (self._bits_of(sent), sent.node, ready)
        arrived = yield from world.send("federated_uplink", number, "adapter_upload", moment, *upload)
        if not self._decode_flop:
            return arrived.span
        # before it can be merged: another may be merged meanwhile
        decoding = self._decode_flop, sent.node, [arrived.span], number
        return (yield from world.compute(FEDERATED_SERVER, "decode_update", moment, *decoding))

    def merge(self, number: int, moment: Moment, arrived: int) -> Steps:
        """Take in an upload that arrives now, and merge what is there once it is enough."""
        world, client = self.world, self._clients[number]
        received, client.in_flight = client.in_flight, None
        assert received is not None
        staleness = self.version - client.version
        weight = self.scheme.mixing_weight(staleness)
        world.note(moment, "staleness", staleness)
        world.note(moment, "mixing_weight", weight)
        self._buffer.append((Upload(received, client.start, weight), arrived))
        self.num_taken += 1
        if len(self._buffer) < self.scheme.uploads_of_a_merge and self.num_taken < self.scheme.num_rounds:
            return [arrived]
        causes = [span for _, span in self._buffer]
        self._merge_buffer()
        merging = 0, self.adapter.node, causes, number
        return [(yield from world.compute(FEDERATED_SERVER, "aggregate", moment, *merging))]

    def _merge_buffer(self) -> None:
        """Let the next global adapter be made of what the buffer holds."""
        terms = self.scheme.terms(self.adapter, [upload for upload, _ in self._buffer])
        shares = {ref: share for ref, share in terms.items() if share != 0.0}
        node = self.training.graph.add(mean, list(shares), weights=list(shares.values()))
        self.adapter, self.version = node.ref("adapter"), self.version + 1
        self._buffer.clear()

    def download(self, number: int, moment: Moment, ready: Sequence[int]) -> Steps:
        """Download of the global adapter as it is now; everything that follows starts from it."""
        self._evaluate_if_due()
        client, adapter = self._clients[number], self.adapter
        client.start, client.version = adapter, self.version
        client.side = client.side._replace(adapter=adapter)
        bits = self.training.amounts.whole(number, moment.round).adapter_download_bits
        download = (bits, adapter.node, ready)
        sent = yield from self.world.send("federated_downlink", number, "adapter_download", moment, *download)
        return [sent.span]

    def _bits_of(self, sent: Transmission) -> int:
        """Return the bits of an upload; those that depend on values are found out, at no simulated time."""
        if self._bits is not None:
            return self._bits
        if not self.world.computes:
            return self._most_bits
        (bits,) = self.world.ask([sent.others["bits"]], keep=sent.others.values())
        return int(bits)

    def _evaluate_if_due(self) -> None:
        """Record how good the model is, under the number of uploads; all values so far are computed."""
        if self.scheme.is_evaluated(self.num_taken) and self.num_taken > self._evaluated:
            self.evaluate()
            self.world.report(self.num_taken)

    def evaluate(self) -> None:
        """Record how good the global adapter is."""
        self._evaluated = self.num_taken
        measure_evaluation(self.world, Moment(self.num_taken), partial(evaluate, self.training, self.adapter))
