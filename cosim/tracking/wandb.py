"""Weights & Biases, offline: a folder that ``wandb sync`` sends later."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from cosim.tracking import Tracker, Tracking
from cosim.units import NS_PER_S


class Wandb(Tracker):
    """A run of Weights & Biases on this machine, with simulated time, s, as the step of every curve.

    Nothing leaves the machine until ``wandb sync`` is called.

    Attributes
    ----------
    project
        The project it is of.
    folder
        Where its folder ``wandb`` goes.
    """

    kind: Literal["wandb"] = "wandb"
    package: ClassVar[str] = "wandb"
    project: str = "cosim"
    folder: str = "runs"

    def open(self, name: str, settings: Mapping[str, Any]) -> Tracking:
        """Return a run that is kept on this machine."""
        import wandb

        Path(self.folder).mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=self.project,
            name=name,
            dir=self.folder,
            config=dict(settings),
            mode="offline",
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off", save_code=False, disable_git=True),
        )
        run.define_metric("simulated_s")
        run.define_metric("*", step_metric="simulated_s")
        return _Offline(run)


class _Offline:
    """One run."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def add(self, time_ns: int, values: Mapping[str, float]) -> None:
        """Log what was measured at an instant."""
        self._run.log({"simulated_s": time_ns / NS_PER_S, **values})

    def close(self, status: str) -> None:
        """End the run; one that is not complete with an exit code of 1."""
        self._run.finish(exit_code=0 if status == "complete" else 1)
