"""TensorBoard: event files that it reads while the run goes on."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cosim.tracking import Tracker, Tracking
from cosim.units import NS_PER_S

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

_NS_PER_STEP = 1_000_000


class TensorBoard(Tracker):
    """Event files for TensorBoard: the step is simulated time in ms, the wall time simulated time in s.

    So the horizontal axes ``step`` and ``relative`` both are simulated time.

    Attributes
    ----------
    folder
        What ``tensorboard --logdir`` is given; each run has a folder in it.
    """

    kind: Literal["tensorboard"] = "tensorboard"
    package: ClassVar[str] = "tensorboard"
    folder: str = "runs/tensorboard"

    def open(self, name: str, settings: Mapping[str, Any]) -> Tracking:
        """Return an event file of its own in the folder of the run."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        return _Events(EventFileWriter(str(Path(self.folder) / name)))


class _Events:
    """One event file."""

    def __init__(self, writer: "EventFileWriter") -> None:
        self._writer = writer

    def add(self, time_ns: int, values: Mapping[str, float]) -> None:
        """Write one event with all that was measured at an instant."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        event = Event(
            wall_time=time_ns / NS_PER_S, step=time_ns // _NS_PER_STEP, summary=Summary(value=scalars)
        )
        self._writer.add_event(event)
        self._writer.flush()

    def close(self, status: str) -> None:
        """Close the file."""
        self._writer.close()
