"""Studies on a cluster: a real dask scheduler and two worker processes on loopback."""

import signal
import socket
import time
from pathlib import Path

import pytest
from forked import Program, cosim, dask
from here import Here

pytest.importorskip(
    "distributed", reason="studies on a cluster need dask.distributed: pip install cosim-fl[cluster]"
)

from cosim.errors import ScenarioError
from cosim.rng import stream
from cosim.scenario.load import to_toml
from cosim.studies.engines.dask import Dask
from cosim.studies.load import load_study
from cosim.studies.results import Results
from cosim.studies.run_study import run_study

TABLES = ("results.parquet", "curves.parquet", "summary.csv")


@pytest.fixture(scope="module")
def file(tiny_scenario, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster studies")
    (folder / "tiny.toml").write_text(to_toml(tiny_scenario()), encoding="utf-8")
    (folder / "channel.toml").write_text(
        'base = "tiny.toml"\ntiming_only = true\nreplications = 3\nengine = "events"\n'
        '[vary.grid]\n"radio.noise_figure_db" = [3.0, 9.0, 15.0, 20.0]\n',
        encoding="utf-8",
    )
    return folder / "channel.toml"


@pytest.fixture(scope="module")
def unbroken(file, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cosim.studies.run_study.Processes", Here)
        return run_study(load_study(file), tmp_path_factory.mktemp("unbroken") / "out", workers=1)


def assert_same(results, others):
    for name in TABLES:
        assert (results.path / name).read_bytes() == (others.path / name).read_bytes(), name


class Cluster:
    """A scheduler on a port of its own, and workers of one thread without nannies."""

    def __init__(self, place):
        self.place = place
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes = []
        self.scheduler = None
        self.workers = []

    def start(self, num_workers=2):
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        self.scheduler = self._start("scheduler", *where)
        self._wait_for_scheduler()
        self.workers = [self.start_worker() for _ in range(num_workers)]

    def _wait_for_scheduler(self):
        """Wait until the port answers: on a busy machine a scheduler takes its time to start."""
        until = time.monotonic() + 60.0
        while True:
            assert self.scheduler.poll() is None
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)
            else:
                return

    def start_worker(self):
        return self._start(
            *("worker", self.address, "--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard"),
            *("--host", "127.0.0.1", "--local-directory", self.place, "--death-timeout", "60"),
        )

    def _start(self, verb, *options):
        process = Program(dask, [verb, *options], self.place / verb)
        self.processes.append(process)
        return process

    def mend(self):
        """Start whatever is not there."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            self.stop()
            self.start()
        self.workers = [self.start_worker() if one.poll() is not None else one for one in self.workers]

    def stop(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait(30)
        self.processes.clear()


@pytest.fixture(scope="module")
def any_cluster(tmp_path_factory):
    one = Cluster(tmp_path_factory.mktemp("cluster"))
    yield one
    one.stop()


@pytest.fixture
def cluster(any_cluster):
    """Return the cluster of all tests, whole again."""
    any_cluster.mend()
    return any_cluster


def start(file, out, address):
    return Program(cosim, ["study", file, "--out", out, "--scheduler", address], Path(f"{out} printed"))


def wait_for_runs(process, out, num_runs):
    """Wait until so many runs have ended."""
    until = time.monotonic() + 90.0
    while process.poll() is None and len(list(out.glob("runs/*/*/spans.parquet"))) < num_runs:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_workers_of_a_cluster_give_the_bytes_of_this_machine(file, unbroken, cluster, tmp_path):
    results = run_study(load_study(file), tmp_path / "out", scheduler=cluster.address)
    assert results.manifest["workers"] >= 1
    assert_same(results, unbroken)


def test_the_run_of_a_cluster_worker_that_is_killed_is_made_by_another(file, unbroken, cluster, tmp_path):
    out = tmp_path / "out"
    process = start(file, out, cluster.address)
    wait_for_runs(process, out, int(stream(0, "cluster worker").generator().integers(1, 8)))
    cluster.workers[0].kill()
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert_same(Results.open(out), unbroken)


def test_a_study_outlives_its_scheduler_if_another_takes_its_place(file, unbroken, cluster, tmp_path):
    out = tmp_path / "out"
    process = start(file, out, cluster.address)
    wait_for_runs(process, out, int(stream(0, "scheduler").generator().integers(1, 8)))
    cluster.stop()
    cluster.start()
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert_same(Results.open(out), unbroken)


@pytest.mark.slow
def test_a_study_whose_scheduler_is_gone_for_good_says_so_and_goes_on_elsewhere(
    file, unbroken, cluster, tmp_path, monkeypatch
):
    monkeypatch.setattr("cosim.studies.engines.dask._COMES_BACK_WITHIN_S", 1.0)
    out = tmp_path / "out"

    def kill(tally):
        if tally.num_made == 2:
            cluster.stop()

    from cosim.studies.engines.dask import SchedulerLostError

    with pytest.raises(SchedulerLostError, match="the same command goes on where this one stopped"):
        run_study(load_study(file), out, scheduler=cluster.address, watch=kill)
    assert Results.open(out).manifest["status"] == "stopped"
    assert_same(run_study(load_study(file), out, workers=1), unbroken)


@pytest.mark.slow
def test_a_study_on_a_cluster_that_is_killed_goes_on(file, unbroken, cluster, tmp_path):
    out = tmp_path / "out"
    process = start(file, out, cluster.address)
    wait_for_runs(process, out, 3)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert_same(run_study(load_study(file), out, scheduler=cluster.address), unbroken)


@pytest.mark.slow
def test_workers_and_schedulers_killed_at_random_instants_leave_the_bytes_of_an_unbroken_study(
    file, unbroken, cluster, tmp_path
):
    """Whoever dies is replaced, as a cluster would; done again from the beginning until enough have died."""
    chance, num_killed = stream(0, "cluster deaths").generator(), 0
    for attempt in range(20):
        if num_killed >= 6:
            break
        out = tmp_path / str(attempt)
        process = start(file, out, cluster.address)
        while process.poll() is None and num_killed < 4 * (attempt + 1):
            time.sleep(float(chance.uniform(0.2, 4.0 / (1 + attempt))))
            if process.poll() is not None:
                break
            num_killed += 1
            if chance.random() < 0.7:
                at = int(chance.integers(len(cluster.workers)))
                cluster.workers[at].kill()
                cluster.workers[at] = cluster.start_worker()
            else:
                cluster.stop()
                cluster.start()
        _, told = process.communicate(timeout=180)
        assert process.returncode == 0, told
        assert_same(Results.open(out), unbroken)
    assert num_killed >= 3


def test_a_scheduler_that_does_not_answer_is_told_and_nothing_is_begun(file, tmp_path, monkeypatch):
    monkeypatch.setattr("cosim.studies.engines.dask._ANSWER_WITHIN_S", 1.0)
    with pytest.raises(ScenarioError, match=r"--scheduler tcp://127.0.0.1:9: does not answer .*start one by"):
        run_study(load_study(file), tmp_path / "out", scheduler="tcp://127.0.0.1:9")
    assert not (tmp_path / "out").exists()


def test_an_address_that_is_none_is_told():
    with pytest.raises(ScenarioError, match="--scheduler nowhere at all: does not answer"):
        Dask("nowhere at all")
