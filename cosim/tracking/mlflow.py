"""MLflow: a run of an experiment, in a folder or on a server."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from cosim.tracking import Tracker, Tracking

_NS_PER_MS = 1_000_000
_LONGEST_PARAM = 250
_PARAMS_AT_ONCE = 100


class MLflow(Tracker):
    """A run of MLflow: step and timestamp of every metric are simulated time in ms.

    Attributes
    ----------
    uri
        Of the tracking store: a folder, a database or a server, as ``MLFLOW_TRACKING_URI`` would have it.
    experiment
        The experiment it is of.
    """

    kind: Literal["mlflow"] = "mlflow"
    package: ClassVar[str] = "mlflow"
    uri: str = "sqlite:///mlflow.db"
    experiment: str = "cosim"

    def open(self, name: str, settings: Mapping[str, Any]) -> Tracking:
        """Return a new run, with the settings as its parameters."""
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=self.uri)
        known = client.get_experiment_by_name(self.experiment)
        experiment = client.create_experiment(self.experiment) if known is None else known.experiment_id
        run = client.create_run(experiment, tags={"mlflow.runName": name}).info.run_id
        params = [Param(path, str(value)[:_LONGEST_PARAM]) for path, value in settings.items()]
        for first in range(0, len(params), _PARAMS_AT_ONCE):
            client.log_batch(run, params=params[first : first + _PARAMS_AT_ONCE])
        return _Run(client, run)


class _Run:
    """One run."""

    def __init__(self, client: Any, run: str) -> None:
        self._client, self._run = client, run

    def add(self, time_ns: int, values: Mapping[str, float]) -> None:
        """Log what was measured at an instant."""
        from mlflow.entities import Metric

        at_ms = time_ns // _NS_PER_MS
        self._client.log_batch(
            self._run, metrics=[Metric(tag, value, at_ms, at_ms) for tag, value in values.items()]
        )

    def close(self, status: str) -> None:
        """End the run."""
        self._client.set_terminated(self._run, "FINISHED" if status == "complete" else "FAILED")
