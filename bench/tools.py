"""A federated job as a whole process, start included, against that of Flower and of pfl-research.

Tools that are not installed are skipped. The base, the start, the rows of each mini-batch and the steps are
the same, so what is learned is, too, up to rounding.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from math import isclose
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import tomli_w

from bench.overhead import JOBS, Seconds
from bench.ratio import Ratio, paired
from cosim.cores import WAITING
from cosim.learning.embedded import FOLDER
from cosim.record.folder import Record
from cosim.scenario.build import prepare
from cosim.scenario.load import to_dict
from cosim.scenario.settings import Scenario

PAIRS, NUM_ROUNDS, RATE = 6, 5, 0.05
PATIENCE_S = 1800.0  # a simulation whose engine died waits for it
LIMITS = {"flower": (("flwr", "ray"), 0.6), "pfl": (("pfl",), 1.0)}
"""Of each tool: the packages that must be there, and the most that a process of ours may take of its time."""


def measure() -> Iterator[Ratio]:
    """Return our time over each tool's, processes in turns."""
    tools = []
    for name, (packages, _) in LIMITS.items():
        missing = [one for one in packages if find_spec(one) is None]
        if missing:
            print(f"  skipped {name}: {', '.join(missing)} not installed", flush=True)
        else:
            tools.append(name)
    if not tools:
        return
    optimizer = {"training.optimizer": {"kind": "sgd", "learning_rate": RATE}}
    job = replace(JOBS["gpt2"], changes=JOBS["gpt2"].changes | optimizer, num_pairs=NUM_ROUNDS - 2)
    with TemporaryDirectory() as folder:
        _write(job.scenario(), Path(folder))
        took: dict[str, list[Seconds]] = {name: [] for name in ("cosim", *tools)}
        for number in range(PAIRS):
            mine, loss = _cosim(Path(folder), number)
            took["cosim"].append(mine)
            for name in tools:
                theirs, other = _tool(name, folder)
                assert isclose(loss, other, rel_tol=1e-4), f"{name} learned {other:g} and cosim {loss:g}"
                took[name].append(theirs)
    for name in tools:
        wall, cpu = (
            paired([getattr(one, kind) for one in took["cosim"]], [getattr(one, kind) for one in took[name]])
            for kind in ("wall", "cpu")
        )
        least = " and ".join(f"{min(one.wall for one in took[each]):.1f} s" for each in ("cosim", name))
        note = f"{wall}; {least} at least; of CPU time {cpu}"
        label = f"process of {NUM_ROUNDS} rounds / that of {name} ({job.about})"
        yield Ratio(label, wall.median, LIMITS[name][1], note=note)


def _write(scenario: Scenario, folder: Path) -> None:
    """Leave the scenario in a folder, and what the tools' jobs read."""
    from cosim.learning.execution import load_model

    (folder / "job.toml").write_text(tomli_w.dumps(to_dict(scenario)), encoding="utf-8")
    task, steps = prepare(scenario).task, scenario.scheme.local_steps
    assert len({len(share) for share in task.shares}) == 1, "all clients weigh the same"
    model = load_model(task, task.trainable.lora_rank)
    (folder / "adapter").mkdir()
    for name, content in model.adapter_files(model.initial_adapter()).items():
        (folder / "adapter" / name).write_bytes(content)
    drawn = [
        [
            [[share[row] for row in draws.rows(round_ * steps + step)] for step in range(steps)]
            for round_ in range(NUM_ROUNDS)
        ]
        for share, draws in ((task.shares[client], task.draws(client)) for client in range(task.num_clients))
    ]
    arrays = {"drawn": np.array(drawn)}
    for part, rows in {"train": task.tokens.train, "test": task.tokens.test}.items():
        batch = rows.batch(range(len(rows)))
        for name in ("input_ids", "attention_mask", "labels"):
            arrays[f"{part}_{name}"] = np.asarray(getattr(batch, name)).astype(np.int64)
    np.savez(folder / "rows.npz", **arrays)
    settings = {
        "base": str(FOLDER),
        "num_clients": task.num_clients,
        "num_rounds": NUM_ROUNDS,
        "batch_size": task.training.batch_size,
        "learning_rate": RATE,
    }
    (folder / "job.json").write_text(json.dumps(settings), encoding="utf-8")


def _cosim(folder: Path, number: int) -> tuple[Seconds, float]:
    """Return what a run took, and the held-out loss at its end."""
    out = folder / f"run-{number}"
    arguments = ["cosim", "run", str(folder / "job.toml"), "--no-store", "--quiet", "--out", str(out)]
    program = f"import sys; from cosim.cli import main; sys.argv = {arguments}; sys.exit(main())"
    seconds, _ = _process(program)
    rows = Record.open(out).metrics.to_pylist()
    return seconds, [row["value"] for row in rows if row["name"] == "eval_loss"][-1]


def _tool(name: str, folder: str) -> tuple[Seconds, float]:
    """Return what a tool's process took, and the held-out loss at its end."""
    seconds, said = _process(f"from bench.tool_jobs import {name}; {name}({folder!r})")
    unwaited, loss = (float(one) for one in said.split()[-2:])
    return seconds._replace(cpu=seconds.cpu + unwaited), loss


def _process(program: str) -> tuple[Seconds, str]:
    """Return what a process took, its children included where it waits for them, and what it printed."""
    root = str(Path(__file__).parents[1])
    environment = {name: one for name, one in os.environ.items() if name not in WAITING}
    environment |= {"PYTHONPATH": root, "FLWR_TELEMETRY_ENABLED": "0", "HF_HUB_OFFLINE": "1"}
    begin, before = perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        cwd=root,
        check=False,
        timeout=PATIENCE_S,
    )
    after = os.times()
    if done.returncode:
        raise RuntimeError(f"{program[:60]} failed: {done.stderr[-2000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Seconds(perf_counter() - begin, cpu), done.stdout
