"""Trackers: what they receive is what the record has, at its simulated time, and they are in no key."""

import time
from pathlib import Path

import pytest

from cosim.errors import ScenarioError
from cosim.record.folder import Record
from cosim.record.log import MetricLog
from cosim.runs import run
from cosim.scenario.load import load, run_hash, to_toml
from cosim.tracking.follower import Follower
from cosim.tracking.tensorboard import TensorBoard

pytestmark = pytest.mark.filterwarnings("ignore")  # the trackers' own


class Told:
    def __init__(self):
        self.added, self.status = [], None

    def add(self, time_ns, values):
        self.added.append((time_ns, values))

    def close(self, status):
        self.status = status


def test_clients_are_averaged_at_each_instant_and_nothing_is_told_twice():
    told, log = Told(), MetricLog()
    follower = Follower(told)
    for actor, value in (("client-0", 1.0), ("client-1", 3.0), ("client-2", float("nan"))):
        log.add(5, 1, 1, actor, "train_loss", value)
    follower.follow(log)
    log.add(4, 1, 0, "main-server", "eval_loss", 7.0, task="speech")
    follower.follow(log)
    follower.follow(MetricLog())  # played again from the beginning
    follower.follow(log)
    assert told.added == [(5, {"train_loss": 2.0}), (4, {"speech/eval_loss": 7.0})]


def test_a_missing_package_is_told_before_the_run(tiny_scenario, tmp_path, monkeypatch):
    monkeypatch.setattr("cosim.tracking.find_spec", lambda name: None)
    scenario = tiny_scenario({"track": {"kind": "tensorboard"}})
    with pytest.raises(
        ScenarioError, match=r"needs the package tensorboard: pip install 'cosim-fl\[track\]'"
    ):
        run(scenario, tmp_path / "run", timing_only=True)


def test_a_tracked_run_is_the_run_without_and_only_its_file_says_so(tiny_scenario, tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    plain, folder = tiny_scenario(), str(tmp_path / "events")
    tracked = tiny_scenario({"track": {"kind": "tensorboard", "folder": folder}})
    assert run_hash(plain) == run_hash(tracked)
    assert "track" not in to_toml(plain)
    record = Record.open(run(tracked, tmp_path / "run", timing_only=True))
    assert load(record.scenario_path).track == TensorBoard(folder=folder)
    assert [path.name for path in Path(folder).iterdir()] == ["tiny-run"]


def test_tensorboard_reads_back_values_at_simulated_time(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = MetricLog()
    for time_ns, loss in ((0, 4.0), (1_500_000_000, 3.25), (90_000_000_000, 2.5)):
        log.add(time_ns, 1, 0, "main-server", "eval_loss", loss)
    follower = Follower(TensorBoard(folder=str(tmp_path)).begin("a-run", {}))
    follower.follow(log)
    follower.close("complete")
    events = EventAccumulator(str(tmp_path / "a-run"))
    events.Reload()
    scalars = [(one.step, one.wall_time, one.value) for one in events.Scalars("eval_loss")]
    assert scalars == [(0, 0.0, 4.0), (1500, 1.5, 3.25), (90_000, 90.0, 2.5)]


@pytest.mark.slow
def test_wandb_keeps_a_run_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="Weights & Biases is not installed")
    from cosim.tracking.wandb import Wandb

    monkeypatch.chdir(tmp_path)
    tracking = Wandb(folder=str(tmp_path)).begin("a-run", {"seed": 1})
    tracking.add(1_500_000_000, {"eval_loss": 3.0})
    tracking.close("complete")
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 20.0  # its service writes the file, in its own time
    while b"eval_loss" not in file.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_mlflow_reads_back_metrics_and_settings(tmp_path):
    pytest.importorskip("mlflow.tracking", reason="MLflow is not installed", exc_type=ImportError)
    from mlflow.tracking import MlflowClient

    from cosim.tracking.mlflow import MLflow

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracking = MLflow(uri=uri).begin("a-run", {"seed": 1})
    tracking.add(1_500_000_000, {"eval_loss": 3.0})
    tracking.close("complete")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("cosim").experiment_id
    (found,) = client.search_runs([experiment])
    assert (found.info.status, found.data.params) == ("FINISHED", {"seed": "1"})
    (metric,) = client.get_metric_history(found.info.run_id, "eval_loss")
    assert (metric.step, metric.timestamp, metric.value) == (1500, 1500, 3.0)


def test_optuna_finds_the_wider_band_the_quicker(tiny_scenario):
    optuna = pytest.importorskip("optuna", reason="Optuna is not installed")
    from cosim.tuning import objective

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    band = "radio.main_uplink.bandwidth_hz"
    evaluate = objective(tiny_scenario(), {band: [1e6, 20e6], "scheme.local_steps": (1, 2)}, timing_only=True)
    grid = optuna.samplers.GridSampler({band: [1e6, 20e6], "scheme.local_steps": [2]})
    study = optuna.create_study(sampler=grid)
    study.optimize(evaluate, n_trials=2)
    assert study.best_params[band] == 20e6
