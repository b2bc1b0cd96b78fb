"""Rounds of a run against the loop a PyTorch user would write: ``python -m bench.overhead --job small``."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

from bench.ratio import Ratio, paired
from cosim.cores import WAITING
from cosim.learning.embedded import FOLDER
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario
from cosim.world import Progress

PADDINGS = {"full": "rows padded to one length", "longest": "batches trimmed on both sides"}


@dataclass(frozen=True)
class Job:
    """A federated training that both sides play.

    Attributes
    ----------
    about
        Its size in words.
    changes
        Of a scenario with the defaults.
    num_pairs
        Rounds that are compared; one more comes before them, and one after.
    """

    about: str
    changes: dict[str, Any] = field(default_factory=dict)
    num_pairs: int = 12

    def scenario(self, workers: int | None = None) -> Scenario:
        """Return what cosim plays, in this process alone or in several."""
        num_rounds = self.num_pairs + 2
        fading = {"kind": "rayleigh_block", "coherence_time_s": 0.05}
        scheme = {"kind": "federated", "num_rounds": num_rounds, "evaluate_every": num_rounds}
        common = {"data.source.num_test": 8, "radio.fading": fading, "lora.rank": 4}
        steps = {"local_steps": self.changes.get("scheme.local_steps", 5)}
        others = {name: one for name, one in self.changes.items() if name != "scheme.local_steps"}
        wanted = common | {"scheme": scheme | steps, "training.workers": workers} | others
        return change(Scenario(name="overhead"), wanted)


_SMOLLM2 = {
    "model_type": "llama",
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
JOBS = {
    "gpt2": Job(
        "8 clients, 5 steps, 16 x 64 tokens, 4x128 GPT-2", {"clients.count": 8, "training.batch_size": 16}
    ),
    "small": Job(
        "2 clients, 2 steps, 8 x 64 tokens, 4x128 GPT-2", {"clients.count": 2, "scheme.local_steps": 2}
    ),
    "smollm2": Job(
        "2 clients, 1 step, 4 x 64 tokens, SmolLM2-135M with random weights",
        {
            "clients.count": 2,
            "scheme.local_steps": 1,
            "training.batch_size": 4,
            "model.base": {"kind": "random", "config": _SMOLLM2, "tokenizer_path": str(FOLDER)},
        },
    ),
}


class Seconds(NamedTuple):
    """What a round took."""

    wall: float
    cpu: float


AIMS = {None: 0.85, 2: 0.65}
"""Of the user's time where both sides trim, in one process and with workers."""


def measure() -> list[Ratio]:
    """Return time of rounds over that of the loop, of a small model and of one of 135 million weights."""
    return [ratio for job in ("gpt2", "smollm2") for workers in AIMS for ratio in ratios(job, workers)]


def ratios(name: str, workers: int | None = None) -> Iterator[Ratio]:
    """Play a job on both sides, round by round in turns; return ratios of the pairs."""
    job = JOBS[name]
    with Rival(name, "full") as full, Rival(name, "longest") as longest:
        rivals = {"full": full, "longest": longest}
        ours, losses = _rounds(job, list(rivals.values()), workers)
        for padding, rival in rivals.items():
            # the rows are the same, so is the loss, up to rounding
            assert all(isclose(*pair, rel_tol=1e-3) for pair in zip(losses, rival.losses, strict=True))
            wall, cpu = (
                paired(
                    [getattr(one, kind) for one in ours], [getattr(one, kind) for one in rival.seconds[1:-1]]
                )
                for kind in ("wall", "cpu")
            )
            note = f"{wall}; {min(one.wall for one in ours):.2f} s at least a round"
            if workers is None:  # that of workers is not this process's
                note += f"; of CPU time {cpu}"
            limit = 1.0 if padding == "longest" else None
            note += "" if limit is None else f"; aim {AIMS[workers]:g}"
            within = "" if workers is None else f" in {workers} workers"
            yield Ratio(
                f"round{within} / user's loop, {PADDINGS[padding]} ({job.about})",
                wall.median,
                limit,
                note=note,
            )


def _rounds(job: Job, rivals: Sequence["Rival"], workers: int | None) -> tuple[list[Seconds], list[float]]:
    """Return what rounds of cosim took, but the first and the last, and the loss of the last step of each."""
    num_rounds, took = job.num_pairs + 2, []
    began = Seconds(0.0, 0.0)

    def watch(progress: Progress) -> None:
        nonlocal began
        if progress.round:
            took.append(Seconds(perf_counter() - began.wall, process_time() - began.cpu))
            for rival in rivals:
                rival.play()
        began = Seconds(perf_counter(), process_time())

    with tempfile.TemporaryDirectory() as place:
        record = Record.open(run(job.scenario(workers), Path(place) / "run", watch=watch))
        rows = [row for row in record.metrics.to_pylist() if row["name"] == "train_loss"]
    last = {
        row["round"]: row["value"] for row in sorted(rows, key=lambda row: (row["local_step"], row["actor"]))
    }
    return took[1:-1], [last[number] for number in range(1, num_rounds + 1)]


class Rival:
    """The user's loop in a process of its own, which plays a round when asked."""

    def __init__(self, job: str, padding: str) -> None:
        environment = {name: one for name, one in os.environ.items() if name not in WAITING}
        command = [sys.executable, "-m", "bench.rival", job, padding]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.seconds: list[Seconds] = []
        self.losses: list[float] = []

    def play(self) -> None:
        """Play a round and wait for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("go", file=self._process.stdin, flush=True)
        wall, cpu, loss = map(float, self._process.stdout.readline().split())
        self.seconds.append(Seconds(wall, cpu))
        self.losses.append(loss)

    def __enter__(self) -> "Rival":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m bench.overhead", description=__doc__)
    parser.add_argument("--job", choices=JOBS, default="small")
    parser.add_argument("--workers", type=int, help="processes that compute the clients", choices=[2])
    told = parser.parse_args()
    for one in ratios(told.job, told.workers):
        print(one)
