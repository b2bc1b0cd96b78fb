"""Split federated LoRA: first blocks on clients, the rest on a main server, adapters averaged."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from cosim.kernel.clock import Steps
from cosim.learning.lesson import Lesson
from cosim.learning.training import Exchange, Side, Training
from cosim.learning.work import Output
from cosim.radio.settings import LINKS
from cosim.schemes import Scheme, measure_evaluation
from cosim.world import FEDERATED_SERVER, MAIN_SERVER, Moment, World


class SplitFederated(Scheme):
    """The workflow of FedsLLM: split steps behind barriers, then one averaging of the client adapters.

    Each local step is three phases, each a barrier: all clients forward and
    upload; the main server computes forward and backward of all mini-batches
    and takes one step on the weighted sum of their losses; all clients receive
    the gradient of their own loss and step. After ``local_steps`` of them the
    client adapters are averaged, weighted by data. Labels travel with the
    activations and are not charged; neither are averaging and the optimiser's
    own arithmetic.

    Attributes
    ----------
    server_batch
        ``joint``: the main server begins when all activations are there and
        works on them as one job, as in the paper. ``per_client``: it serves
        each client's activations as they arrive, through its queue, and returns
        each gradient at once. What is learned is the same.

    Source
    ------
    FedsLLM, arXiv 2504.14667, workflow and delay model; the loss of each client
    is differentiated by itself, which returns the unweighted gradient to the
    client and needs no rescaling. Optimiser moments stay with the client over
    an averaging (our choice, the paper is silent).
    """

    kind: Literal["split_federated"] = "split_federated"
    links: ClassVar[frozenset[str]] = frozenset(LINKS)
    server_batch: Literal["joint", "per_client"] = "joint"

    def memory_bytes(self, lesson: Lesson, cut_layer: int, lora_rank: int) -> dict[str, int]:
        """Return the needs of both sides; a joint batch is held whole by the main server."""
        batches = lesson.num_clients if self.server_batch == "joint" else 1
        return {
            "client": lesson.client_memory_bytes(cut_layer, lora_rank),
            MAIN_SERVER: lesson.server_memory_bytes(cut_layer, lora_rank, batches),
        }

    def run(self, world: World) -> Steps:
        """Play all rounds."""
        training = world.begin()
        clients = [training.start("client")] * world.num_clients
        server = training.start("server")
        self._evaluate(world, training, 0, clients[0], server)
        adapter, *memory = world.settle(0, _outputs(clients[0], clients, server))
        clients, server = _sides(adapter, memory)
        ready: Sequence[int] = ()
        for round_ in range(1, self.num_rounds + 1):
            for local_step in range(1, self.local_steps + 1):
                moment = Moment(round_, local_step)
                step = (round_ - 1) * self.local_steps + local_step - 1
                exchanges = [
                    training.exchange(client, side, server, step) for client, side in enumerate(clients)
                ]
                server = training.server_update(server, exchanges, step)
                phase = self._joint_step if self.server_batch == "joint" else self._per_client_step
                ready = yield from phase(world, training, moment, exchanges, server, ready)
                clients = [exchange.after for exchange in exchanges]
            average = training.aggregate(clients)
            ready = yield from self._average(world, training, Moment(round_), clients, average, ready)
            if self.is_evaluated(round_):
                self._evaluate(world, training, round_, Side(average, clients[0].optimizer), server)
            adapter, *memory = world.settle(round_, [average, *_outputs(clients[0], clients, server)[1:]])
            clients, server = _sides(adapter, memory)
        world.adapter = training.export(clients[0].adapter, server.adapter)

    def _joint_step(
        self,
        world: World,
        training: Training,
        moment: Moment,
        exchanges: Sequence[Exchange],
        server: Side,
        ready: Sequence[int],
    ) -> Steps:
        """One split step with the three barriers of the paper; returns the spans the next one waits for."""
        arrived = yield from world.together(
            [self._forward(world, training, moment, exchange, ready) for exchange in exchanges],
            "forward and upload of client",
        )
        flop = training.amounts.server_flop * len(exchanges)
        work = server.adapter.work
        served = yield from world.compute(MAIN_SERVER, "server_forward_backward", moment, flop, work, arrived)
        for exchange in exchanges:
            world.measure(moment, f"client-{exchange.client}", "train_loss", exchange.loss)
        return (
            yield from world.together(
                [self._backward(world, training, moment, exchange, served) for exchange in exchanges],
                "download and backward of client",
            )
        )

    def _per_client_step(
        self,
        world: World,
        training: Training,
        moment: Moment,
        exchanges: Sequence[Exchange],
        server: Side,
        ready: Sequence[int],
    ) -> Steps:
        """One split step in which the main server serves clients as they arrive."""
        return (
            yield from world.together(
                [self._exchange(world, training, moment, exchange, ready) for exchange in exchanges],
                "exchange of client",
            )
        )

    def _exchange(
        self, world: World, training: Training, moment: Moment, exchange: Exchange, ready: Sequence[int]
    ) -> Steps:
        arrived = yield from self._forward(world, training, moment, exchange, ready)
        served = yield from world.compute(
            MAIN_SERVER,
            "server_forward_backward",
            moment,
            training.amounts.server_flop,
            exchange.server,
            [arrived],
        )
        world.measure(moment, f"client-{exchange.client}", "train_loss", exchange.loss)
        return (yield from self._backward(world, training, moment, exchange, served))

    def _forward(
        self, world: World, training: Training, moment: Moment, exchange: Exchange, ready: Sequence[int]
    ) -> Steps:
        """Forward pass of one client, then the upload of its activations."""
        amounts, client = training.amounts, exchange.client
        span = yield from world.compute(
            f"client-{client}",
            "client_forward",
            moment,
            amounts.client_forward_flop,
            exchange.forward,
            ready,
        )
        return (
            yield from world.send(
                "main_uplink",
                client,
                "activation_upload",
                moment,
                amounts.activation_bits,
                exchange.forward,
                [span],
            )
        )

    def _backward(
        self, world: World, training: Training, moment: Moment, exchange: Exchange, served: int
    ) -> Steps:
        """Download of one client's gradient, then its backward pass and step."""
        amounts, client = training.amounts, exchange.client
        span = yield from world.send(
            "main_downlink",
            client,
            "gradient_download",
            moment,
            amounts.activation_bits,
            exchange.server,
            [served],
        )
        return (
            yield from world.compute(
                f"client-{client}",
                "client_backward",
                moment,
                amounts.client_backward_flop,
                exchange.backward,
                [span],
            )
        )

    def _average(
        self,
        world: World,
        training: Training,
        moment: Moment,
        clients: Sequence[Side],
        average: Output,
        ready: Sequence[int],
    ) -> Steps:
        """Upload of all client adapters, their average, and its download."""
        bits = training.amounts.adapter_bits
        uploads = [
            world.send(
                "federated_uplink", client, "adapter_upload", moment, bits, side.adapter.work, [ready[client]]
            )
            for client, side in enumerate(clients)
        ]
        arrived = yield from world.together(uploads, "adapter upload of client")
        averaged = yield from world.compute(FEDERATED_SERVER, "aggregate", moment, 0, average.work, arrived)
        downloads = [
            world.send(
                "federated_downlink", client, "adapter_download", moment, bits, average.work, [averaged]
            )
            for client in range(len(clients))
        ]
        return (yield from world.together(downloads, "adapter download of client"))

    @staticmethod
    def _evaluate(world: World, training: Training, round_: int, client: Side, server: Side) -> None:
        measure_evaluation(world, Moment(round_), training.evaluate(client.adapter, server.adapter))


def _outputs(first: Side, clients: Sequence[Side], server: Side) -> list[Output]:
    """Return what one round hands to the next: client adapter, server, the optimisers' memories."""
    return [first.adapter, server.adapter, server.optimizer, *(side.optimizer for side in clients)]


def _sides(adapter: Output, memory: Sequence[Output]) -> tuple[list[Side], Side]:
    """Put together what :func:`_outputs` took apart."""
    server_adapter, server_optimizer, *optimizers = memory
    return [Side(adapter, optimizer) for optimizer in optimizers], Side(server_adapter, server_optimizer)
