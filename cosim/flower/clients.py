"""The clients of a Flower application: what each of them makes of a message, and what that costs it."""

import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from cosim.rng import stream

_log = logging.getLogger(__name__)

Seconds: TypeAlias = Mapping[str, float] | Callable[[int, Message, Message], float]
"""Seconds of a call by the type of the message, or a function of client, message and reply."""

SERVER_ROUND = "server-round"


@contextmanager
def own_chance(seed: int, *names: str | int) -> Iterator[None]:
    """Let global generators (Python's, numpy's, torch's) draw by a name, and leave them as they were."""
    import torch

    start = stream(seed, "flower", *names).torch_seed()
    # numpy's former generator, as applications use it
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(start)
    np.random.seed(start % 2**32)  # noqa: NPY002
    torch.manual_seed(start)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


class Clients:
    """One ClientApp on every client, with a context of its own that lasts for the run.

    Parameters
    ----------
    client_app
        What they run.
    nodes
        The node of each client.
    run_id, run_config, seed
        Of the run.
    speeds
        Of the clients, FLOP/s.
    seconds
        How long calls take; without it they are charged by the FLOP torch counts. They are counted in the
        first call of a client with a type of message and a configuration (but for ``server-round``), and
        taken to be the same in the others, as counting makes a step of a small model several times slower.
    """

    def __init__(
        self,
        client_app: ClientApp,
        nodes: Sequence[int],
        run_id: int,
        run_config: Mapping[str, str | int | float | bool],
        seed: int,
        speeds: Sequence[float],
        seconds: Seconds | None,
    ) -> None:
        self._app, self._seed, self._speeds, self._seconds = client_app, seed, speeds, seconds
        self._contexts = [
            Context(
                run_id=run_id,
                node_id=node,
                node_config={"partition-id": number, "num-partitions": len(nodes)},
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for number, node in enumerate(nodes)
        ]
        self._num_calls = [0] * len(nodes)
        self._flop: dict[str, int] = {}

    def answer(self, client: int, message: Message) -> tuple[Message, int]:
        """Return the reply of a client, and its FLOP; an exception is an error reply, as in Flower."""
        self._num_calls[client] += 1
        with own_chance(self._seed, client, self._num_calls[client]):
            if self._seconds is not None:
                reply = self._call(client, message)
                return reply, round(self._seconds_of(client, message, reply) * self._speeds[client])
            return self._counted(client, message)

    def _call(self, client: int, message: Message) -> Message:
        try:
            return self._app(message, self._contexts[client])
        except Exception as fault:  # whatever an application raises is its reply, as in Flower
            _log.warning("client-%d: the ClientApp raised %s: %s", client, type(fault).__name__, fault)
            reason = f"{type(fault)}:<'{fault}'>"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)

    def _counted(self, client: int, message: Message) -> tuple[Message, int]:
        from cosim.learning.torch_flop import TorchFlop

        settings = [
            (name, key, value)
            for name, record in message.content.config_records.items()
            for key, value in record.items()
            if key != SERVER_ROUND
        ]
        like = repr((client, message.metadata.message_type, settings))
        if like in self._flop:
            return self._call(client, message), self._flop[like]
        with TorchFlop() as counter:
            reply = self._call(client, message)
        if not reply.has_error():
            self._flop[like] = counter.total
        return reply, counter.total

    def _seconds_of(self, client: int, message: Message, reply: Message) -> float:
        if callable(self._seconds):
            return self._seconds(client, message, reply)
        assert self._seconds is not None
        type_ = message.metadata.message_type
        return self._seconds.get(type_, self._seconds.get(type_.split(".")[0], 0.0))


def metrics_of(reply: Message) -> dict[str, float]:
    """Return the numbers of a reply by name, with ``train_`` or ``eval_`` before it where it is not there."""
    if reply.has_error():
        return {}
    category = reply.metadata.message_type.split(".")[0]
    prefix = {"train": "train_", "evaluate": "eval_"}.get(category, "")
    return {
        key if key.startswith(prefix) else prefix + key: float(value)
        for record in reply.content.metric_records.values()
        for key, value in record.items()
        if isinstance(value, int | float)
    }
