"""Turns: who computes values that several want, and who waits."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from cosim.graph.locks import locked
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.runs import run

KEYS = [("a", "loss"), ("b", "loss")]
ROOT = Path(__file__).parents[2]


def holder(folder):
    """Start a process that takes the turn and keeps it."""
    program = (
        "import sys, time; from pathlib import Path; from cosim.graph.locks import locked\n"
        f"with locked(Path(sys.argv[1]), {KEYS!r}): print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, folder],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def in_a_thread(step):
    """Start a step; returns its thread."""
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    return thread


def test_whoever_wants_the_same_values_waits_until_they_are_there(tmp_path):
    order = []

    def second():
        with locked(tmp_path, KEYS[::-1]):
            order.append("second")

    with locked(tmp_path, KEYS):
        waiting = in_a_thread(second)
        time.sleep(0.1)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


def test_whoever_wants_other_values_does_not_wait(tmp_path):
    with locked(tmp_path, KEYS), locked(tmp_path, KEYS[:1]), locked(tmp_path / "elsewhere", KEYS):
        pass


def test_a_turn_ends_with_a_process_that_is_killed(tmp_path):
    process, taken = holder(tmp_path), threading.Event()

    def wait():
        with locked(tmp_path, KEYS):
            taken.set()

    in_a_thread(wait)
    assert not taken.wait(0.2)
    process.kill()
    process.communicate()
    assert taken.wait(10)


def test_many_take_turns_and_leave_nothing_behind(tmp_path):
    at_work, most = [0], [0]

    def work():
        for _ in range(20):
            with locked(tmp_path, KEYS):
                at_work[0] += 1
                most[0] = max(most[0], at_work[0])
                time.sleep(0.0005)
                at_work[0] -= 1

    threads = [in_a_thread(work) for _ in range(5)]
    for thread in threads:
        thread.join(60)
    assert most == [1]
    assert list(tmp_path.iterdir()) == []


def test_where_no_lock_can_be_made_nobody_waits(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with locked(tmp_path / "file", KEYS), locked(tmp_path / "file", KEYS):
        pass


def test_runs_at_the_same_time_train_once_between_them(tiny_scenario, tmp_path):
    """Each learned value is computed by one of two runs on different channels, whichever comes first."""

    def play(noise_db):
        run(
            tiny_scenario({"radio.noise_figure_db": noise_db}),
            tmp_path / f"{noise_db:g}",
            store=Store(tmp_path / "store"),
        )

    threads = [in_a_thread(lambda noise_db=noise_db: play(noise_db)) for noise_db in (3.0, 15.0)]
    for thread in threads:
        thread.join(120)
    one, other = (Record.open(tmp_path / name).manifest for name in ("3", "15"))
    assert one["fingerprints"]["learning"] == other["fingerprints"]["learning"]
    num_works = one["works"]["computed"] + one["works"]["recalled"]
    assert one["works"]["computed"] + other["works"]["computed"] == num_works
