"""A Grid of Flower whose messages travel through simulated time."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any

import flwr.server.server as legacy_server
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from cosim.kernel.clock import Steps

Request = Callable[[], Steps]


class ClosedError(RuntimeError):
    """The run has ended while the application went on."""


class _Gathered:
    """Messages that several threads of a legacy server send, to be sent as one, in the order of the nodes."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.messages: list[Message] = []
        self.replies: dict[str, Message] | None = None
        self.fault: BaseException | None = None
        self.changed = threading.Condition()


class ClockGrid(Grid):  # type: ignore[misc, unused-ignore]  # Any where Flower is not installed
    """What a ServerApp is given: it blocks while simulated time passes.

    Parameters
    ----------
    run_id
        Of the run.
    nodes
        The nodes, in the order of the clients.
    push, pull, wait, sleep
        Return what the kernel does for the application, as steps.
    now_s
        The simulated time.

    Attributes
    ----------
    requests, answers
        Between the thread of the application and the kernel: one of the two runs at a time.
    """

    def __init__(
        self,
        run_id: int,
        nodes: Sequence[int],
        push: Callable[[list[Message]], Steps],
        pull: Callable[[list[str]], Steps],
        wait: Callable[[list[str], float | None], Steps],
        sleep: Callable[[float], Steps],
        now_s: Callable[[], Steps],
    ) -> None:
        self._run, self._nodes = Run.create_empty(run_id), tuple(nodes)
        self._push, self._pull, self._wait, self._sleep, self._now_s = push, pull, wait, sleep, now_s
        self.requests: SimpleQueue[Request | None] = SimpleQueue()
        self.answers: SimpleQueue[Any] = SimpleQueue()
        self._one_at_a_time = threading.Lock()
        self._is_closed = False
        self._gathered: _Gathered | None = None

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message; kept by Flower for applications of before."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes, in the order of the clients."""
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages, and return their ids at once."""
        ids: list[str] = self._ask(partial(self._push, list(messages)))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there, in the order asked for; if none is, wait for the first."""
        replies: list[Message] = self._ask(partial(self._pull, list(message_ids)))
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and wait for their replies, at most ``timeout`` simulated seconds.

        Replies are in the order of the messages, not of arrival, so that no sum depends on the air.
        """
        messages = list(messages)
        if self._gathered is not None:
            return self._with_others(self._gathered, messages)
        return self._exchange(messages, timeout)

    def now_s(self) -> float:
        """Return the simulated time, s."""
        now: float = self._ask(self._now_s)
        return now

    def sleep(self, seconds: float) -> None:
        """Let simulated time pass."""
        self._ask(partial(self._sleep, seconds))

    def close(self) -> None:
        """Have whatever the application still asks for fail."""
        self._is_closed = True
        self.answers.put(ClosedError("the run has ended"))

    @contextmanager
    def gathering(self, count: int) -> Iterator[None]:
        """Wait until so many threads have sent a message, and send them at one instant."""
        self._gathered = _Gathered(count) if count else None
        try:
            yield
        finally:
            self._gathered = None

    def _exchange(self, messages: list[Message], timeout: float | None) -> list[Message]:
        ids = list(self.push_messages(messages))
        replies: list[Message] = self._ask(partial(self._wait, ids, timeout))
        return replies

    def _with_others(self, gathered: _Gathered, messages: list[Message]) -> list[Message]:
        with gathered.changed:
            gathered.messages += messages
            if len(gathered.messages) == gathered.count:
                in_order = sorted(
                    gathered.messages, key=lambda one: self._nodes.index(one.metadata.dst_node_id)
                )
                try:
                    replies = self._exchange(in_order, None)
                    gathered.replies = {one.metadata.reply_to_message_id: one for one in replies}
                except BaseException as fault:  # raised in every thread that waits
                    gathered.fault = fault
                gathered.changed.notify_all()
            gathered.changed.wait_for(lambda: gathered.replies is not None or gathered.fault is not None)
        if gathered.fault is not None:
            raise gathered.fault
        assert gathered.replies is not None
        ids = [one.metadata.message_id for one in messages]
        return [gathered.replies[one] for one in ids if one in gathered.replies]

    def _ask(self, request: Request) -> Any:
        """Hand the turn to the kernel until it has an answer."""
        with self._one_at_a_time:
            if self._is_closed:
                raise ClosedError("the run has ended")
            self.requests.put(request)
            answer = self.answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer


@contextmanager
def legacy_threads_in_step(grid: ClockGrid) -> Iterator[None]:
    """Let the threads of ``flwr.server.Server`` send at one instant, and give results in the order of nodes.

    A legacy server sends each message from a thread of its own, in whatever order the threads run, and sums
    results in the order of a set.
    """
    names = "fit_clients", "evaluate_clients"
    before = {name: getattr(legacy_server, name) for name in names}

    def in_step(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(
            client_instructions: list[Any], max_workers: int | None, timeout: float | None, group_id: int
        ) -> Any:
            count = len(client_instructions)
            with grid.gathering(count):
                results, failures = original(client_instructions, count or None, timeout, group_id)
            nodes = list(grid.get_node_ids())
            return sorted(results, key=lambda one: nodes.index(one[0].node_id)), failures

        return call

    for name, original in before.items():
        setattr(legacy_server, name, in_step(original))
    try:
        yield
    finally:
        for name, original in before.items():
            setattr(legacy_server, name, original)
