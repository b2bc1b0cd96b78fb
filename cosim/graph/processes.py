"""Forked processes that compute nodes: they share the frozen base with the process they come from."""

import io
import logging
import os
import pickle
import signal
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from typing import Any
from warnings import catch_warnings, simplefilter

from cosim.graph.executor import Computing, Key
from cosim.graph.finite import NotFiniteError
from cosim.graph.lanes import Segment
from cosim.graph.node import Node, Ref
from cosim.graph.operation import Operation, registered


class WorkerDiedError(Exception):
    """A worker ended before it had answered; the message says how."""


@dataclass(frozen=True)
class Outcome:
    """What came of a segment.

    Attributes
    ----------
    values
        What was to be read, in that order; None where there is a fault.
    scalars, not_finite
        Numbers, and the fields that are not finite.
    fault
        What the computation ended with; of a :class:`NotFiniteError` the fields, and why.
    num_done
        How many nodes were computed.
    """

    values: list[Any] | None
    scalars: dict[Key, Any]
    not_finite: list[Key]
    fault: Exception | tuple[list[Key], str] | None
    num_done: int


class Worker:
    """A forked process that computes segments with an executor of its own, one after the other.

    It ends when the process it was forked from does, however that ends, and takes no Ctrl-C. Nothing
    but the connection is shared: values go through it, so that none is left behind anywhere.

    Parameters
    ----------
    computing
        Who computes there; it has what the bodies of operations compute with.

    Attributes
    ----------
    connection
        There is something to read where its segment has an outcome, or it has died.
    segment
        What it computes; None where it has nothing to do.
    has
        Values of the call under way that it was given to keep.
    end
        Ends it.
    """

    def __init__(self, computing: Computing) -> None:
        self.connection, theirs = Pipe()
        life = _life()
        with catch_warnings():
            simplefilter("ignore", DeprecationWarning)  # of threads: none of them is needed over there
            try:
                self.pid = os.fork()
            except OSError as fault:
                raise WorkerDiedError(f"could not be forked ({fault.strerror})") from None
        if not self.pid:
            _work(computing, theirs, life)
        theirs.close()
        self.has: set[Key] = set()
        self.segment: Segment | None = None
        self.end = weakref.finalize(self, _end, os.getpid(), self.pid, self.connection)

    def give(self, segment: Segment, given: Sequence[tuple[Key, Any, bool]], call: int) -> None:
        """Let it compute a segment; values of ``given`` that are marked are kept until another call.

        Raises
        ------
        WorkerDiedError
            If it has died.
        """
        self.segment = segment
        described = [
            (one.key, one.operation, one.params, one.order, one.context, [ref.key for ref in one.inputs])
            for one in segment.nodes
        ]
        asked = [[ref.key for ref in refs] for refs in (segment.keep, segment.read)]
        try:
            self.connection.send_bytes(
                _pickled((call, segment.lane.number, described, given, *asked, segment.release))
            )
        except OSError:
            raise self._died() from None

    def outcome(self) -> Outcome:
        """Wait for the outcome of its segment.

        Raises
        ------
        WorkerDiedError
            If it has died.
        """
        try:
            found: Outcome = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            raise self._died() from None
        return found

    def _died(self) -> WorkerDiedError:
        status = self.end() or 0
        return WorkerDiedError(f"was killed by signal {-status}" if status < 0 else f"ended with {status}")


def can_fork() -> bool:
    """Return whether workers can be forked; elsewhere than on Linux libraries do not outlive it."""
    return sys.platform.startswith("linux")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads for a while: with others some sums have other last bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_LIFE: dict[int, tuple[int, int]] = {}


def _life() -> tuple[int, int]:
    """Return a pipe whose writing end no other process has, so that reading ends with this one."""
    if os.getpid() not in _LIFE:
        _LIFE[os.getpid()] = os.pipe()
    return _LIFE[os.getpid()]


def _end(owner: int, pid: int, connection: Connection) -> int:
    """End a worker; return its exit status, that of a signal negative."""
    if os.getpid() != owner:  # in a worker, which has a copy of everything
        return 0
    connection.close()
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # somebody else has waited for it
        return -signal.SIGKILL


def _work(computing: Computing, connection: Connection, life: tuple[int, int]) -> None:
    """Compute segments until the connection ends; never returns."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        logging.disable()  # a handler's lock may be held by a thread that is not here
        _let_go_all_but(connection.fileno(), life[0])
        threading.Thread(target=_end_with, args=(life[0],), daemon=True).start()
        import torch

        torch.set_num_threads(1)
        desk = _Desk(computing)
        while True:
            outcome = desk.compute(*pickle.loads(connection.recv_bytes()))
            try:
                message = _pickled(outcome)
            except Exception as fault:  # a field of a part of others may be anything
                message = _pickled(Outcome(None, {}, [], _plain(fault), outcome.num_done))
            connection.send_bytes(message)
    except BaseException:
        os._exit(1)  # nothing of the process it was forked from is to be ended or flushed


def _let_go_all_but(*kept: int) -> None:
    """Let go of what was open in the process it was forked from: others may wait for its end.

    The numbers stay taken, as there are still objects that would close them.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in (1, 2, nothing, *kept):
            os.dup2(nothing, int(name))


def _end_with(life: int) -> None:
    os.read(life, 1)
    os._exit(1)


class _Desk:
    """What a worker has before it: fields of its lanes, values from elsewhere, and who computes."""

    def __init__(self, computing: Computing) -> None:
        self._computing = computing
        computing.serve(self._fetch)
        self._call = 0
        self._kept: dict[tuple[int, Key], Node] = {}
        self._spread: dict[Key, Any] = {}
        self._given: dict[Key, Any] = {}

    def _fetch(self, ref: Ref) -> Any:
        return self._given[ref.key] if ref.key in self._given else self._spread[ref.key]

    def compute(
        self,
        call: int,
        lane: int,
        described: Sequence[tuple[str, Operation, dict[str, Any], int, int, list[Key]]],
        given: Sequence[tuple[Key, Any, bool]],
        keep: Sequence[Key],
        read: Sequence[Key],
        release: Sequence[Key],
    ) -> Outcome:
        """Compute a segment; as for :meth:`Worker.give`."""
        if call != self._call:
            self._call = call
            self._kept.clear()
            self._spread.clear()
        self._spread |= {key: value for key, value, is_spread in given if is_spread}
        self._given = {key: value for key, value, is_spread in given if not is_spread}
        built: dict[str, Node] = {}

        def ref(key: Key) -> Ref:
            node = built.get(key[0]) or self._kept.get((lane, key))
            if node is None:
                node = Node(_ELSEWHERE, (), {}, key[0], -1)
                node.is_materialised = True
            return Ref(node, key[1])

        for key, operation, params, order, context, inputs in described:
            built[key] = Node(operation, tuple(map(ref, inputs)), params, key, order, context)
        kept = list(map(ref, keep))
        outcome = self._materialise(kept, list(map(ref, read)))
        self._kept |= {(lane, one.key): one.node for one in kept}
        for released in release:
            values = self._kept.pop((lane, released)).values
            if values is not None:
                values.pop(released[1], None)
        self._given = {}
        return outcome

    def _materialise(self, keep: Sequence[Ref], read: Sequence[Ref]) -> Outcome:
        computing = self._computing
        before = computing.num_computed
        values: list[Any] | None = None
        fault: Exception | tuple[list[Key], str] | None = None
        try:
            values = computing.materialise(keep, read)
        except NotFiniteError as found:
            fault = [one.key for one in found.refs], found.fault
        except Exception as other:  # whatever a body raises is raised again where the segment came from
            fault = _plain(other)
        not_finite = [one.key for one in computing.not_finite]
        num_done = computing.num_computed - before
        return Outcome(values, computing.scalars, not_finite, fault, num_done)


_ELSEWHERE = Operation("elsewhere", lambda: {}, None, None, (), ())


def _plain(fault: Exception) -> Exception:
    """Return a fault as it can be handed on."""
    try:
        return fault if type(pickle.loads(_pickled(fault))) is type(fault) else RuntimeError(str(fault))
    except Exception:  # some need more to be made again than they say
        return RuntimeError(f"{type(fault).__name__}: {fault}")


def _pickled(message: object) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(message)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Writes tensors as their bytes, and operations by where they are registered."""

    def reducer_override(self, value: Any) -> Any:
        """Return how a value is written; most are as they always are."""
        if isinstance(value, Operation):
            return _operation, (value.module, value.name)
        torch = sys.modules["torch"]
        if type(value) in (torch.Tensor, torch.nn.Parameter):
            # strides stay as they are: kernels may take sums in another order for others
            dense = torch.empty_like(value, memory_format=torch.preserve_format, requires_grad=False)
            flat = dense.as_strided((dense.numel(),), (1,))
            dense.copy_(value.detach())
            content = flat.view(torch.uint8).numpy().tobytes() if dense.numel() else b""
            return _tensor, (content, value.dtype, tuple(dense.shape), dense.stride(), value.requires_grad)
        return NotImplemented


def _operation(module: str, name: str) -> Operation:
    import_module(module)
    return registered()[name]


def _tensor(
    content: bytes, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], requires_grad: bool
) -> Any:
    import torch

    made = torch.empty_strided(shape, strides, dtype=dtype)
    if content:
        made.as_strided((made.numel(),), (1,)).view(torch.uint8).copy_(
            torch.frombuffer(bytearray(content), dtype=torch.uint8)
        )
    return made.requires_grad_(requires_grad)
