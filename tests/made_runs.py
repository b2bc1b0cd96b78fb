"""Runs that no scheme plays yet, written through the real folder and log: rounds that overlap, or none."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from cosim.record.folder import Record, RunFolder
from cosim.record.log import Log
from cosim.scenario.load import change, run_hash, to_toml
from cosim.scenario.settings import Scenario
from cosim.units import NS_PER_S

MS = 1_000_000
CLIENTS = ("client-0", "client-1", "client-2")
SERVER = "federated-server"
NUM_UPDATES, LAST_ROUND = 3, 10

Made = Literal["overlapping", "no rounds", "two tasks", "going on"]


def write_run(folder: Path, made: Made, slower: int = 1) -> Record:
    """Write a run of three clients that train when they are ready, and return its record.

    Each local update is a round of one client: three begin at once, and clients are not equally
    fast, so rounds overlap and end out of their order. One upload is lost and its bits sent again;
    at the end all clients send at once, and are sent the sum at once.

    Parameters
    ----------
    made
        ``no rounds`` has the same spans and not one round; ``two tasks`` has two tasks that number
        their rounds from 1; the last round of ``going on`` has not ended.
    slower
        How many times as long everything takes.
    """
    run = _Made(made, slower)
    ends = [run.update(client, number) for number in range(NUM_UPDATES) for client in range(3)]
    end_ns = run.together(max(ends))
    run.play()
    tasks = {"tasks.speech": {}, "tasks.text": {}} if made == "two tasks" else {}
    changes = {"clients.count": 3, "scheme.kind": "federated", **tasks}
    scenario = change(Scenario(name=made.replace(" ", "_")), changes)
    made_of = {"name": scenario.name, "seed": 0, "timing_only": True, "scenario": run_hash(scenario)}
    written = RunFolder.create(folder, to_toml(scenario), {**made_of, "versions": {"cosim": "0.9.9"}})
    status: Literal["complete", "failed"] = "failed" if made == "going on" else "complete"
    works = {"computed": 0, "recalled": 0}
    written.finish(run.log, status, simulated_s=end_ns / NS_PER_S, works=works)
    return Record.open(folder)


class _Made:
    """What happens in a run, put into its log in the order of time."""

    def __init__(self, made: Made, slower: int) -> None:
        self.log = Log()
        self.made, self.slower = made, slower
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._spans: dict[str, int] = {}
        for row, client in enumerate(CLIENTS):
            self.log.grants.add(
                0, 1, "federated_uplink", client, np.array([row]), np.array([0.1]), np.array([1e-9])
            )

    def update(self, client: int, number: int) -> int:
        """Add the local update of a client: it computes and uploads, the server merges; returns its end."""
        name, lasts = CLIENTS[client], (10 + 3 * client) * MS * self.slower
        task, round_ = "", NUM_UPDATES * number + client + 1
        if self.made == "two tasks":
            task, round_ = ("speech", number + 1) if client == 1 else ("text", 2 * number + client // 2 + 1)
        begin, sent, end = number * lasts, number * lasts + lasts // 2, (number + 1) * lasts
        is_lost = (client, number) == (1, 1)
        before = [f"merge {client} {number - 1}"] if number else []
        self._round(begin, end, round_, [name], task)
        self._span(
            f"update {client} {number}", before, "local_update", (name, ""), round_, (begin, sent), task=task
        )
        self._span(
            f"upload {client} {number}",
            [f"update {client} {number}"],
            "adapter_upload",
            (name, SERVER),
            round_,
            (sent, end),
            task=task,
            delivered=not is_lost,
            resent_bits=2500.0 if is_lost else 0.0,
        )
        uploaded = [f"upload {client} {number}"]
        self._span(f"merge {client} {number}", uploaded, "merge", (SERVER, ""), round_, (end, end), task=task)
        for actor, what, value in ((name, "train_loss", 3.0), ("main-server", "eval_loss", 3.1)):
            measured = (end, self._number(round_), 1, actor, what, value / (number + 1))
            self._at(end, partial(self.log.metrics.add, *measured, task=task))
        return end

    def together(self, begin: int) -> int:
        """Add what all clients send at once, and the sum that is sent to all at once; returns its end."""
        middle, end = begin + 3 * MS * self.slower, begin + 4 * MS * self.slower
        task = "text" if self.made == "two tasks" else ""
        merged = [f"merge {client} {NUM_UPDATES - 1}" for client in range(3)]
        self._round(begin, None if self.made == "going on" else end, LAST_ROUND, CLIENTS, task)
        for after, name, ends, times in (
            (merged, "superposed_upload", ("", SERVER), (begin, middle)),
            (["superposed_upload"], "multicast_download", (SERVER, ""), (middle, end)),
        ):
            self._span(name, after, name, ends, LAST_ROUND, times, task=task, participants=CLIENTS)
        return end

    def play(self) -> None:
        """Put everything into the log."""
        for _, _, event in sorted(self._events, key=lambda one: one[:2]):
            event()

    def _span(self, key, after, name, ends, round_, times, **extra) -> None:
        kind = "transfer" if all(ends) or extra.get("participants") else "compute"
        amounts = (5000, 0) if kind == "transfer" else (0, 10**6)

        def add() -> None:
            parents = [self._spans[one] for one in after]
            what = (kind, name, *ends, self._number(round_), 1, times[0], *times)
            self._spans[key] = self.log.spans.add(parents, *what, *amounts, 0.1, key, **extra)

        self._at(times[1], add)

    def _round(self, begin, end, round_, participants, task) -> None:
        if self.made == "no rounds":
            return
        self._at(begin, partial(self.log.rounds.begin, begin, round_, participants, task=task))
        if end is not None:
            self._at(end, partial(self.log.rounds.end, end, round_, task=task), late=1)

    def _number(self, round_: int) -> int:
        return 0 if self.made == "no rounds" else round_

    def _at(self, time_ns: int, event: Callable[[], None], late: int = 0) -> None:
        self._events.append((time_ns, late, event))
