"""The tables of a scenario file."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from cosim.compute.availability import Availability
from cosim.compute.battery import Battery
from cosim.compute.settings import Hardware
from cosim.control.allocators import Allocator
from cosim.control.allocators.equal import Equal
from cosim.distributions import Uniform, Value, constant
from cosim.errors import ScenarioError
from cosim.learning.settings import Data, Model, TrainingSettings
from cosim.learning.trainable import Trainable
from cosim.learning.trainable.lora import Lora
from cosim.parts import LONGEST_S, Decibels, OfPlane, OneOf, Plane, Table
from cosim.radio.settings import Radio
from cosim.scenario.events import TimedChange
from cosim.scenario.kinds import default_of
from cosim.scenario.limits import FolderName
from cosim.scenario.tasks import Tasks, short_form, spread
from cosim.schemes import Scheme
from cosim.schemes.split_federated import SplitFederated
from cosim.schemes.task_policy import TaskPolicy
from cosim.tracking import Tracker

if TYPE_CHECKING:
    from cosim.compute.table import Row

_VALUES = {"clock_hz", "flop_per_cycle", "memory_bytes"}
"""Settings of a device that may be distributions."""


class Client(NamedTuple):
    """One client: its settings, measured seconds of a mini-batch by computation, and what a table gives."""

    settings: "ClientGroup"
    measured_s: Mapping[str, float]
    given: Sequence[str] = ()


class ClientGroup(Hardware):
    """Clients of one kind of hardware.

    Attributes
    ----------
    count
        How many.
    max_tx_power_dbm
        Limit of each client's transmit power, summed over its subchannels of a link.
    cut_layer
        Blocks these clients keep, whatever an allocator would choose; once any group
        says so, the others keep ``model.cut_layer``. Without it all clients are cut
        alike, or as an allocator with ``cut_per_client`` chooses.
    battery
        What each of them runs on; mains without it.
    table
        A CSV or Parquet file with a row for each client of the group: ``client`` (from 0), and any of
        ``clock_hz``, ``flop_per_cycle`` or ``flop_per_s``, ``memory_bytes``, ``energy_coefficient``,
        ``max_tx_power_dbm``, whose columns take the place of these settings. The columns
        ``client_forward_backward_s``, ``client_forward_s`` and ``client_backward_s`` are measured
        seconds of that computation of one mini-batch, in place of FLOP over speed; an empty cell is not
        measured. Without ``count`` there are as many clients as rows.
    """

    count: Annotated[int, OfPlane("value")] = Field(default=5, gt=0)
    max_tx_power_dbm: Decibels = 23.0
    clock_hz: Value = Uniform(low=1.0e9, high=1.6e9)
    cut_layer: Annotated[int | None, OfPlane("value")] = Field(default=None, ge=1)
    battery: Annotated[Battery | None, OfPlane("value")] = None
    table: Path | None = None

    def each(self, place: str) -> tuple[Client, ...]:
        """Return the clients of the group one by one.

        Raises
        ------
        ScenarioError
            If there is a table that cannot be read, or has another number of rows.
        """
        if self.table is None:
            return (Client(self, {}),) * self.count
        rows = self._rows(place)
        if len(rows) != self.count:
            raise ScenarioError(
                f"{place}.count: it is {self.count}, and {self.table} has rows of {len(rows)} client(s); "
                "leave count out, or give as many rows."
            )
        return tuple(
            Client(
                self.model_copy(
                    update={name: self._as_set(name, value) for name, value in row.settings.items()}
                ),
                row.measured_s,
                tuple(row.settings),
            )
            for row in rows
        )

    def _rows(self, place: str) -> "Sequence[Row]":
        from cosim.compute.table import read_devices

        assert self.table is not None
        return read_devices(self.table, f"{place}.table")

    @staticmethod
    def _as_set(name: str, value: float) -> Any:
        """Return a number of a table as the setting has it."""
        return constant(value) if name in _VALUES else value

    def counted(self, place: str) -> Self:
        """Return the group with as many clients as its table has rows, where nothing else is given."""
        if self.table is None or "count" in self.model_fields_set:
            return self
        return self.model_copy(update={"count": len(self._rows(place))})


class Restart(Table):
    """A server that goes down at an instant, and is back after a while.

    What it computes then is lost, and computed again from the beginning once it is back; what
    waits in its queue waits on. Transfers from and to it are cut, and begin again.
    """

    plane: ClassVar[Plane] = "time"
    at_s: float = Field(ge=0.0, le=LONGEST_S)
    downtime_s: float = Field(ge=1e-9, le=LONGEST_S)


class Server(Hardware):
    """A server; the main server serves all clients through one queue.

    Attributes
    ----------
    restarts
        When it goes down, in order of time.
    """

    restarts: tuple[Restart, ...] | None = None

    clock_hz: Value = constant(5.0e9)
    flop_per_cycle: Value = constant(1024.0)

    @field_validator("restarts")
    @classmethod
    def _one_after_the_other(cls, restarts: tuple[Restart, ...] | None) -> tuple[Restart, ...] | None:
        for one, after in pairwise(restarts or ()):
            if after.at_s <= one.at_s + one.downtime_s:
                raise ValueError(
                    f"the one at {after.at_s:g} s begins before the one at {one.at_s:g} s is over, after "
                    f"{one.downtime_s:g} s; sort them by time, and join those that touch"
                )
        return restarts


def _as_groups(given: Any) -> Any:
    return (given,) if isinstance(given, dict | ClientGroup) else given


def _as_given(groups: tuple[ClientGroup, ...]) -> Any:
    dumped = [group.model_dump(mode="json") for group in groups]
    return dumped[0] if len(dumped) == 1 else dumped


ClientGroups = Annotated[
    tuple[ClientGroup, ...],
    Field(min_length=1),
    BeforeValidator(_as_groups, json_schema_input_type=ClientGroup | tuple[ClientGroup, ...]),
    PlainSerializer(_as_given),
]
"""One table, or a list of tables for groups of different hardware."""


class Scenario(Table):
    """One run, in full.

    Attributes
    ----------
    name
        Names the run folder.
    seed
        Decides every draw of the run.
    scheme, model, data, training
        Who trains what, how.
    lora, trainable
        What is trained. ``[lora]`` is short for ``[trainable]`` with ``kind = "lora"``; one of the
        two is given, or none, which is ``[lora]`` with its defaults.
    clients, main_server, federated_server
        The devices.
    availability
        When clients are there; without it they always are.
    radio, allocator
        The air, and who gets how much of it.
    tasks
        Tasks that share devices and air, by their names, each with tables of its own.
    task_policy
        Which task a client works on when it is free; without it, on all of them side by side.
    events
        What changes during the run.
    record
        ``spans``: every piece of work; ``summary``: of each round quantiles, outliers and who was waited for,
        as is enough for very many clients.
    track
        Where measured values go while it runs; decides nothing, and is in no key.
    """

    name: Annotated[FolderName, OfPlane("time")]
    description: Annotated[str, OfPlane("time")] = ""
    seed: int = Field(default=0, ge=0)
    scheme: Annotated[Scheme, OneOf(Scheme)] = SplitFederated.default()
    model: Model = Model.default()
    lora: Lora = Lora.default()
    trainable: Annotated[Trainable | None, OneOf(Trainable)] = None
    data: Data = Data.default()
    training: TrainingSettings = TrainingSettings.default()
    clients: ClientGroups = (ClientGroup.default(),)
    main_server: Server = Server.default()
    federated_server: Server = Server.default()
    availability: Annotated[Availability | None, OneOf(Availability)] = None
    radio: Radio = Radio.default()
    allocator: Annotated[Allocator, OneOf(Allocator)] = Equal.default()
    tasks: Tasks = Field(default_factory=dict)
    task_policy: Annotated[TaskPolicy | None, OneOf(TaskPolicy)] = None
    events: tuple[TimedChange, ...] = ()
    record: Annotated[Literal["spans", "summary"], OfPlane("time")] = "spans"
    track: Annotated[Tracker | None, OneOf(Tracker), OfPlane("time")] = None

    @model_validator(mode="before")
    @classmethod
    def _spread_over_tasks(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return spread(short_form(given), partial(default_of, cls))

    @model_serializer(mode="wrap")
    def _each_table_once(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        if self.trainable is not None:
            written.pop("lora", None)
        if not self.tasks:
            written.pop("tasks", None)
        if self.record == "spans":  # as it was before it could be set, in keys too
            written.pop("record", None)
        for name in {name for task in self.tasks.values() for name in task.given}:
            written.pop("lora" if name == "trainable" else name, None)
        return written

    @property
    def by_task(self) -> dict[str, "Scenario"]:
        """What each task is by itself, by its name; this, under no name, where none is named."""
        if not self.tasks:
            return {"": self}
        return {
            name: self.model_copy(update={**task.given, "tasks": {}}) for name, task in self.tasks.items()
        }

    @property
    def trained(self) -> Trainable:
        """What is trained."""
        return self.lora if self.trainable is None else self.trainable

    @property
    def client_cut_layers(self) -> tuple[int, ...] | None:
        """Blocks each client keeps, where any group of clients says so."""
        if all(group.cut_layer is None for group in self.clients):
            return None
        return tuple(
            group.cut_layer or self.model.cut_layer for group in self.clients for _ in range(group.count)
        )

    @property
    def each_client(self) -> tuple[Client, ...]:
        """The clients one by one, as the tables of their groups have them."""
        one = len(self.clients) == 1
        return tuple(
            client
            for number, group in enumerate(self.clients)
            for client in group.each("clients" if one else f"clients.{number}")
        )

    def counted(self) -> "Scenario":
        """Return the scenario whose groups have as many clients as their tables, where none were given."""
        one = len(self.clients) == 1
        groups = tuple(
            group.counted("clients" if one else f"clients.{number}")
            for number, group in enumerate(self.clients)
        )
        is_same = all(new is old for new, old in zip(groups, self.clients, strict=True))
        return self if is_same else self.model_copy(update={"clients": groups})

    @property
    def num_clients(self) -> int:
        """Clients of all groups."""
        return sum(group.count for group in self.clients)
