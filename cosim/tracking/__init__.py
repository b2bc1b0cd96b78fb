"""Trackers: what a run measures goes to another program while it runs, with simulated time as the step.

A tracker decides nothing: it is in no key, and a run with one is the run without it.
"""

from abc import abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, Protocol

from cosim.errors import ScenarioError
from cosim.parts import Part, Plane


class Tracking(Protocol):
    """One run as a tracker has it, from its beginning to its end."""

    def add(self, time_ns: int, values: Mapping[str, float]) -> None:
        """Take in what was measured at an instant of simulated time, ns."""

    def close(self, status: str) -> None:
        """Take in how the run ended: ``complete``, ``failed`` or ``diverged``."""


class Tracker(Part):
    """Where measured values go.

    Attributes
    ----------
    run_name
        What the run is called there; without it, the scenario's name and the name of the run folder.
    """

    plane: ClassVar[Plane] = "time"
    package: ClassVar[str] = ""
    """What must be installed; empty where nothing is."""

    run_name: str = ""

    def begin(self, name: str, settings: Mapping[str, Any]) -> Tracking:
        """Return the run as the tracker has it.

        Parameters
        ----------
        name
            What the run is called unless ``run_name`` says so.
        settings
            Of the scenario, by path.

        Raises
        ------
        ScenarioError
            If the tracker's package is not installed.
        """
        if self.package and find_spec(self.package) is None:
            raise ScenarioError(
                f"track: {self.kind!r} needs the package {self.package}: "
                f"pip install 'cosim-fl[track]', or leave [track] out."
            )
        return self.open(self.run_name or name, settings)

    @abstractmethod
    def open(self, name: str, settings: Mapping[str, Any]) -> Tracking:
        """Return the run of a name as the tracker has it, its package being there."""
