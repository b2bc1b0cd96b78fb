"""The tables of a scenario file."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from cosim.compute.settings import Hardware
from cosim.control.allocators import Allocator
from cosim.control.allocators.equal import Equal
from cosim.distributions import Uniform, Value, constant
from cosim.learning.settings import Data, Model, TrainingSettings
from cosim.learning.trainable import Trainable
from cosim.learning.trainable.lora import Lora
from cosim.parts import Decibels, OfPlane, OneOf, Table
from cosim.radio.settings import Radio
from cosim.scenario.events import TimedChange
from cosim.scenario.kinds import default_of
from cosim.scenario.limits import FolderName
from cosim.scenario.tasks import TABLES, Tasks, short_form, spread
from cosim.schemes import Scheme
from cosim.schemes.split_federated import SplitFederated
from cosim.schemes.task_policy import TaskPolicy
from cosim.tracking import Tracker


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
    """

    count: Annotated[int, OfPlane("value")] = Field(default=5, gt=0)
    max_tx_power_dbm: Decibels = 23.0
    clock_hz: Value = Uniform(low=1.0e9, high=1.6e9)
    cut_layer: Annotated[int | None, OfPlane("value")] = Field(default=None, ge=1)


class Server(Hardware):
    """A server; the main server serves all clients through one queue."""

    clock_hz: Value = constant(5.0e9)
    flop_per_cycle: Value = constant(1024.0)


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
    radio, allocator
        The air, and who gets how much of it.
    tasks
        Tasks that share devices and air, by their names, each with tables of its own.
    task_policy
        Which task a client works on when it is free; without it, on all of them side by side.
    events
        What changes during the run.
    track
        Where measured values go while it runs; decides nothing, and is in no key.
    """

    name: Annotated[FolderName, OfPlane("time")]
    description: Annotated[str, OfPlane("time")] = ""
    seed: int = Field(default=0, ge=0)
    scheme: Annotated[Scheme, OneOf(Scheme)] = SplitFederated()
    model: Model = Model()
    lora: Lora = Lora()
    trainable: Annotated[Trainable | None, OneOf(Trainable)] = None
    data: Data = Data()
    training: TrainingSettings = TrainingSettings()
    clients: ClientGroups = (ClientGroup(),)
    main_server: Server = Server()
    federated_server: Server = Server()
    radio: Radio = Radio()
    allocator: Annotated[Allocator, OneOf(Allocator)] = Equal()
    tasks: Tasks = Field(default_factory=dict)
    task_policy: Annotated[TaskPolicy | None, OneOf(TaskPolicy)] = None
    events: tuple[TimedChange, ...] = ()
    track: Annotated[Tracker | None, OneOf(Tracker), OfPlane("time")] = None

    @model_validator(mode="before")
    @classmethod
    def _spread_over_tasks(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return spread(short_form(given), {name: default_of(cls, name) for name in TABLES})

    @model_serializer(mode="wrap")
    def _each_table_once(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        if self.trainable is not None:
            written.pop("lora", None)
        if not self.tasks:
            written.pop("tasks", None)
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
    def num_clients(self) -> int:
        """Clients of all groups."""
        return sum(group.count for group in self.clients)
