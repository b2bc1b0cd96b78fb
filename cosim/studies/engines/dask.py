"""Workers of a cluster, by dask.distributed."""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic, sleep
from typing import Any

from cosim.cores import SHARE
from cosim.errors import CosimError, ScenarioError
from cosim.studies.engines import MOST_DEATHS, RequestQueue
from cosim.studies.execute import RunOutcome, RunRequest, perform

_log = logging.getLogger(__name__)

_ANSWER_WITHIN_S = 10.0
_COMES_BACK_WITHIN_S = 60.0
_ASK_EVERY_S = 0.02
_COUNT_EVERY_S = 2.0
_REMIND_EVERY_S = 60.0
_AHEAD = 2  # requests a worker, so that none waits for the next one to arrive


class SchedulerLostError(CosimError):
    """The scheduler went away and did not come back."""

    exit_status = 1


class Dask:
    """Workers that a dask scheduler knows, on any machine that shares the study's folder and store.

    A worker that dies is the scheduler's to notice: its run is made again by
    another. If the scheduler dies and comes back at its address, what had not
    ended is handed to it again.

    Parameters
    ----------
    address
        Of the scheduler, such as ``tcp://login:8786``.

    Raises
    ------
    ScenarioError
        If dask.distributed is not installed, or the scheduler does not answer.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._client: Any = None
        self._seen: tuple[float, int] = (-_COUNT_EVERY_S, 0)
        self._reminded_s = -_REMIND_EVERY_S
        self._connect(_ANSWER_WITHIN_S)

    @property
    def num_workers(self) -> int:
        """Processes the scheduler has at this moment; that there are none is asked again each time."""
        is_old = not self._seen[1] or monotonic() - self._seen[0] > _COUNT_EVERY_S
        if is_old and not self._is_gone():
            with suppress(Exception):  # whatever it is, the connection shows it a moment later
                workers = self._client.scheduler_info(n_workers=-1)["workers"]
                self._seen = monotonic(), len(workers)
        return self._seen[1]

    def perform(self, requests: RequestQueue) -> Iterator[RunOutcome]:
        """Return the outcome of every request, in about the order in which they end."""
        from distributed import CancelledError

        begun: dict[Any, RunRequest] = {}
        while True:
            while len(begun) < _AHEAD * max(1, self.num_workers) and (request := requests.take()) is not None:
                begun[self._submit(request)] = request
            if not begun:
                return
            outcomes = []
            try:
                for future in [one for one in begun if one.done()]:
                    outcomes.append(_outcome(future, begun[future]))
                    del begun[future]
            except (CancelledError, OSError):
                begun = self._begin_again(list(begun.values()))
            yield from outcomes
            if not outcomes:
                if self._is_gone():
                    begun = self._begin_again(list(begun.values()))
                self._remind()
                sleep(_ASK_EVERY_S)

    def close(self) -> None:
        """Take back what still waits, and leave the scheduler."""
        with suppress(Exception):  # it may be gone already, and whatever is left is left as it is
            self._client.close(timeout=1.0)

    def _connect(self, within_s: float) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise ScenarioError(
                "--scheduler: needs dask.distributed: install it by pip install 'cosim-fl[cluster]'."
            ) from None
        import dask

        _refuse_unsafe(self._address)
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what matters is said here
        # a request that was at work on several dead workers killed them
        dask.config.set({"distributed.scheduler.allowed-failures": MOST_DEATHS})
        try:
            self._client = Client(self._address, timeout=within_s, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as fault:
            told = " ".join(str(fault).split())
            raise ScenarioError(
                f"--scheduler {self._address}: does not answer ({told}); start one by `dask scheduler`, "
                "or leave the option out to work on this machine."
            ) from None

    def _remind(self) -> None:
        """Warn, now and then, while there are no workers: runs then wait for some to join."""
        if self.num_workers or monotonic() - self._reminded_s < _REMIND_EVERY_S:
            return
        self._reminded_s = monotonic()
        _log.warning(
            "the scheduler at %s has no workers; the study waits for one: start it by `dask worker %s`",
            self._address,
            self._address,
        )

    def _is_gone(self) -> bool:
        return bool(self._client.status != "running")

    def _submit(self, request: RunRequest) -> Any:
        return self._client.submit(_perform, request, pure=False, retries=0)

    def _begin_again(self, requests: list[RunRequest]) -> dict[Any, RunRequest]:
        """Wait for the scheduler to come back and hand it what had not ended.

        Raises
        ------
        SchedulerLostError
            If it does not.
        """
        self.close()
        until = monotonic() + _COMES_BACK_WITHIN_S
        while True:
            try:
                self._connect(max(0.5, min(2.0, until - monotonic())))
                return {self._submit(request): request for request in requests}
            except ScenarioError:
                if monotonic() > until:
                    raise SchedulerLostError(
                        f"--scheduler {self._address}: has gone away and not come back; nothing is lost: "
                        "the same command goes on where this one stopped."
                    ) from None
                sleep(0.2)


def _perform(request: RunRequest) -> RunOutcome:
    """Make a run on one core: how many workers share a machine is the scheduler's business."""
    os.environ.setdefault(SHARE, "1")
    return perform(request)


def _refuse_unsafe(address: str) -> None:
    """Refuse an address that does not go with dask's settings of TLS; a client would fail of it slowly.

    Raises
    ------
    ScenarioError
        If there is no certificate for an encrypted connection, or encryption is required and not asked for.
    """
    from distributed.security import Security

    try:
        security = Security()
        context = security.get_connection_args("client")["ssl_context"]
    except (OSError, ValueError) as fault:
        raise ScenarioError(
            f"--scheduler {address}: dask's certificates cannot be read: {' '.join(str(fault).split())}."
        ) from None
    is_tls = address.startswith("tls://")
    if is_tls and context is None:
        raise ScenarioError(
            f"--scheduler {address}: an encrypted connection needs certificates; name them in the variables "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ...__CLIENT__CERT and ...__CLIENT__KEY."
        )
    if security.require_encryption and not is_tls:
        raise ScenarioError(
            f"--scheduler {address}: dask's settings require encryption; give an address that begins with tls://."
        )


def _outcome(future: Any, request: RunRequest) -> RunOutcome:
    """Return what a future that is done holds; raises what a lost connection raises."""
    if future.status == "error":
        fault = future.exception()
        told = " ".join(str(fault).split())
        return RunOutcome(request.case, request.replication, reason=f"{type(fault).__name__}: {told}")
    outcome: RunOutcome = future.result()
    return outcome
