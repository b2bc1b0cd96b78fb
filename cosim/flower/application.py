"""A Flower application as a program: its server in a thread that waits while the kernel plays."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import ServerApp
from flwr.supercore.task_identity import TaskIdentity

from cosim.errors import ScenarioError
from cosim.flower.clients import Clients, Seconds, metrics_of, own_chance
from cosim.flower.grid import ClockGrid, legacy_threads_in_step
from cosim.kernel.clock import Steps
from cosim.messaging import Letter, PostOffice, Program, Work
from cosim.record.folder import Record
from cosim.rng import stream
from cosim.runs import run as play
from cosim.scenario.load import change, load
from cosim.scenario.prepared import Prepared
from cosim.scenario.settings import Scenario

RunConfig = Mapping[str, str | int | float | bool]


def run(
    scenario: Scenario | Path | str,
    server_app: ServerApp,
    client_app: ClientApp,
    *,
    out: Path | str,
    name: str = "flower",
    seconds: Seconds | None = None,
    run_config: RunConfig | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Record:
    """Run a Flower application over the air of a scenario, and return its record.

    Messages have the bytes Flower gives them, travel over ``federated_downlink`` and ``federated_uplink``
    and are worked on by the devices of ``[clients]``; what the scenario says about model, data and training
    plays no part. Aggregation by the application takes no simulated time. Ids of nodes and messages, and the
    chance of server and clients, come from the scenario's seed.

    Parameters
    ----------
    scenario
        Of scheme ``federated``: clients, radio and allocator.
    server_app, client_app
        The application. The node of client ``i`` has ``partition-id`` ``i``.
    out
        The run folder.
    name
        Of the application, for the record.
    seconds
        How long a client takes for a message: by type of message (``{"train": 2.5}``), or a function of
        client, message and reply. Without it the FLOP that torch counts are charged, by ``clock_hz`` and
        ``flop_per_cycle``. Seconds are kept as FLOP at the speed of the device: a what-if on it changes them.
    run_config
        What the application reads in ``context.run_config``.
    changes
        Settings of the scenario by path.

    Raises
    ------
    CosimError
        If the scenario cannot run, or not with messages of an application, or the folder exists.
    Exception
        Whatever the ServerApp raises; the folder is then marked ``failed``.
    """
    chosen = load(Path(scenario)) if isinstance(scenario, str | Path) else scenario
    if changes:
        chosen = change(chosen, changes)
    application = Application(name, server_app, client_app, seconds, run_config or {})
    try:
        return Record.open(play(chosen, Path(out), program=application))
    finally:
        application.close()


class Application(Program):
    """A Flower application that acts through a post office."""

    def __init__(
        self,
        name: str,
        server_app: ServerApp,
        client_app: ClientApp,
        seconds: Seconds | None,
        config: RunConfig,
    ) -> None:
        self.name = name
        self._server_app, self._client_app, self._seconds, self._config = (
            server_app,
            client_app,
            seconds,
            config,
        )
        self._grid: ClockGrid | None = None
        self._fault: BaseException | None = None

    def prepare(self, scenario: Scenario) -> Prepared:
        """Return what is to run, and make the nodes."""
        prepared = super().prepare(scenario)
        self._seed = seed = scenario.seed
        self._nodes = [_id(seed, "node", client) for client in range(scenario.num_clients)]
        self._run_id = _id(seed, "run")
        speeds = [device.flop_per_s for device in prepared.clients]
        self._clients = Clients(
            self._client_app, self._nodes, self._run_id, self._config, seed, speeds, self._seconds
        )
        self._num_sent = 0
        self._sent: dict[
            int, Any
        ] = {}  # protobuf of each message, until it was worked on and its reply taken
        self._replies: dict[int, Any] = {}
        self._ids: dict[str, int] = {}
        return prepared

    def act(self, post: PostOffice) -> Steps:
        """Let the application run until it asks for something, and play until there is an answer."""
        grid = self._grid = ClockGrid(
            self._run_id, self._nodes, self._push, self._pull, self._wait, self._sleep, self._now_s
        )
        thread = threading.Thread(target=self._serve, args=[grid], name="ServerApp", daemon=True)
        with own_chance(self._seed, "server"), legacy_threads_in_step(grid):
            thread.start()
            while (request := grid.requests.get()) is not None:
                try:
                    answer = yield from request()
                except (
                    ScenarioError,
                    ValueError,
                ) as fault:  # of what was asked for; the application may go on
                    answer = fault
                grid.answers.put(answer)
            thread.join()
        if self._fault is not None:
            raise self._fault

    def work(self, number: int) -> Work:
        """Return what a client makes of a message, which it runs now."""
        message = message_from_proto(self._sent[number])
        reply, flop = self._clients.answer(self._nodes.index(message.metadata.dst_node_id), message)
        reply.metadata.__dict__["_message_id"] = _message_id(self._seed, "reply", number)
        self._replies[number] = proto = message_to_proto(reply)
        return Work(flop, 8 * proto.ByteSize(), metrics_of(reply))

    def close(self) -> None:
        """End the application's thread, if it still waits."""
        if self._grid is not None:
            self._grid.close()

    def _serve(self, grid: ClockGrid) -> None:
        """Run the ServerApp, in its thread."""
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, self._run_id, SUPERLINK_NODE_ID
        context = Context(self._run_id, SUPERLINK_NODE_ID, {}, RecordDict(), dict(self._config))
        try:
            self._server_app(grid, context)
        except BaseException as fault:  # raised again by the kernel, whose run it ends
            self._fault = fault
        grid.requests.put(None)

    def _push(self, messages: list[Message]) -> Steps:
        letters = []
        for number, message in enumerate(messages, self._num_sent):
            client = self._client_of(message)
            id_ = _message_id(self._seed, "message", number)
            message.metadata.__dict__.update(_message_id=id_, _run_id=self._run_id)
            proto = message_to_proto(message)
            self._sent[number] = proto
            self._ids[id_] = number
            letters.append(
                Letter(client, message.metadata.message_type, 8 * proto.ByteSize(), message.metadata.ttl)
            )
        self._num_sent += len(messages)
        yield from self.post.push(letters)
        return [message.metadata.message_id for message in messages]

    def _pull(self, ids: list[str]) -> Steps:
        there = yield from self.post.pull([self._ids[one] for one in ids if one in self._ids])
        return self._taken(there)

    def _wait(self, ids: list[str], timeout_s: float | None) -> Steps:
        there = yield from self.post.wait([self._ids[one] for one in ids], timeout_s)
        return self._taken(there)

    def _sleep(self, seconds: float) -> Steps:
        yield from self.post.sleep(seconds)

    def _now_s(self) -> Steps:
        return self.post.now_s()
        yield  # steps like the others, though they take no time

    def _taken(self, numbers: list[int]) -> list[Message]:
        """Return replies, each once: Flower forgets a reply that was pulled."""
        replies = []
        for number in numbers:
            if self.post.is_lost(number):
                error = Error(
                    ErrorCode.MESSAGE_UNAVAILABLE, "the message or its reply was lost, or came too late"
                )
                replies.append(Message(error, reply_to=message_from_proto(self._sent[number])))
            else:
                replies.append(message_from_proto(self._replies[number]))
            self._ids.pop(_message_id(self._seed, "message", number))
            if number in self._replies:
                del self._sent[number], self._replies[number]
        return replies

    def _client_of(self, message: Message) -> int:
        node = message.metadata.dst_node_id
        if node not in self._nodes:
            raise ValueError(f"no node {node}; get_node_ids() returns those there are")
        return self._nodes.index(node)


def _id(seed: int, *names: str | int) -> int:
    """Return an id of 62 bits, all of one length on the air."""
    return stream(seed, "flower", *names).torch_seed() % 2**61 + 2**61


def _message_id(seed: int, *names: str | int) -> str:
    """Return an id as long as Flower's are."""
    return "".join(f"{_id(seed, *names, part):016x}" for part in range(4))
