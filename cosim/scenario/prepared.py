"""A task ready to run, and the worlds that tasks act through."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from cosim.compute.battery import STOPS
from cosim.compute.device import Device
from cosim.control.conditions import Conditions
from cosim.control.decision import Allocation
from cosim.control.decisions import Decisions
from cosim.control.knobs import SPECTRAL_EFFICIENCY
from cosim.control.terms import Terms
from cosim.graph.executor import Executor
from cosim.kernel.clock import Steps
from cosim.kernel.presence import Away, Comings, Presence
from cosim.learning.task import Task
from cosim.radio.channel import Channel
from cosim.rng import stream
from cosim.scenario.fit import cuts
from cosim.scenario.settings import Restart, Scenario, Server
from cosim.scenario.size import FadingBlocks
from cosim.schemes import Scheme, shared_population
from cosim.site import Site
from cosim.units import dbm_to_w, seconds_to_ns
from cosim.world import FEDERATED_SERVER, MAIN_SERVER, Progress, World


@dataclass(frozen=True)
class Prepared:
    """A task of a scenario, with devices and channel drawn and texts dealt out.

    Attributes
    ----------
    scenario
        What the task is by itself.
    stages
        What it becomes at the events, each from ``at_s`` on.
    allocation
        The first decision; a search that takes long is made once.
    fading
        How many blocks of fading it makes, where there are any.
    is_alone
        Whether it is the only task of the scenario.
    """

    scenario: Scenario
    clients: tuple[Device, ...]
    main_server: Device
    federated_server: Device
    channel: Channel
    task: Task
    stages: tuple["Prepared", ...] = ()
    at_s: float = 0.0
    allocation: Allocation | None = None
    fading: FadingBlocks | None = None
    is_alone: bool = True

    @property
    def num_blocks(self) -> int:
        """How many blocks a client has, as the scenario says."""
        return num_blocks(self.scenario, self.task)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user must know of what would run, in sentences; checks show them, records keep them."""
        told = [None if self.fading is None else self.fading.note]
        if self.has_batteries:
            told.append(STOPS)
        radio = self.scenario.radio
        measured = dict.fromkeys(name for device in self.clients for name in device.measured_s)
        by_table = tuple(
            f"{group.table.name} gives {', '.join(names)} of {group.count} client(s)."
            for group in self.scenario.clients
            if group.table is not None and (names := tuple(group.each("clients")[0].given))
        ) + tuple(
            f"{name} takes the seconds that clients.table gives of "
            f"{sum(name in device.measured_s for device in self.clients)} client(s), in place of FLOP over "
            "speed."
            for name in measured
        )
        return (
            *self.task.notes,
            *by_table,
            *_absences(self.scenario),
            *radio.notes,
            *radio.medium.notes,
            *filter(None, told),
        )

    @property
    def devices(self) -> tuple[tuple[Device, ...], Device, Device]:
        """The clients, the main server and the federated server."""
        return self.clients, self.main_server, self.federated_server

    @property
    def has_batteries(self) -> bool:
        """Whether any client may run out of energy."""
        return any(group.battery is not None for group in self.scenario.clients)

    @property
    def max_tx_power_w(self) -> list[float]:
        """Power limit of each client, W."""
        return [dbm_to_w(one.settings.max_tx_power_dbm) for one in self.scenario.each_client]

    @property
    def conditions(self) -> Conditions:
        """The air, and who shares it out."""
        scenario = self.scenario
        return Conditions(self.channel, scenario.radio.access, self.max_tx_power_w, scenario.allocator)

    @cached_property
    def terms(self) -> Terms:
        """What decisions are about."""
        scenario, task, scheme = self.scenario, self.task, self.scenario.scheme
        cut_layers, client_cut_layers = cuts(scenario, task.shape)
        return Terms(
            phases=partial(scheme.phases, task),
            sparsity=partial(scheme.sparsity, task),
            links=frozenset(link.name for link in scheme.links),
            summed=frozenset(one.name for one in scheme.links if scenario.radio.medium.sums(one)),
            cut_layer=scenario.model.cut_layer,
            lora_rank=scenario.trained.lora_rank,
            cut_layers=cut_layers,
            local_steps=scheme.local_steps,
            weights=task.weights,
            knobs=(
                *scheme.knobs(task),
                *((SPECTRAL_EFFICIENCY,) if scenario.radio.medium.fixes_rates else ()),
            ),
            reportable=scheme.reportable,
            backoff=scenario.radio.medium.backoff,
            client_cut_layers=client_cut_layers,
            may_cut_apart=scheme.may_cut_apart,
            is_closed_form=(
                not self.has_batteries
                and self.is_alone
                and scheme.is_closed_form
                and scenario.radio.medium.is_closed_form
                and presence_of(scenario) is None
            ),
            model_hash=task.model_hash,
            data_hash=task.tokens.content_key,
        )

    def decisions(self) -> Decisions:
        """Return who takes the decisions of one run, before any is taken."""
        return Decisions(
            clients=self.clients,
            main_server=self.main_server,
            federated_server=self.federated_server,
            conditions=self.conditions,
            terms=self.terms,
            first=self.allocation,
        )

    def world(
        self,
        executor: Callable[[int], Executor],
        watch: Callable[[Progress], None] = lambda progress: None,
    ) -> World:
        """Return a fresh world of this task alone, at time zero."""
        (world,) = worlds([self], lambda _: executor, watch)
        return world


def recipes(
    prepared: Sequence[Prepared], worlds: Sequence[World], schemes: Sequence[Scheme] | None = None
) -> list[Steps]:
    """Return what is to run side by side: the scheme of each task, or all of them as a policy has it.

    Parameters
    ----------
    schemes
        Of the tasks, where they are other than the scenario's.
    """
    first = prepared[0].scenario
    own = [one.scenario.scheme for one in prepared] if schemes is None else schemes
    return shared_population.recipes(own, worlds, first.task_policy, stream(first.seed, "task policy"))


def worlds(
    prepared: Sequence[Prepared],
    executor: Callable[[Prepared], Callable[[int], Executor]],
    watch: Callable[[Progress], None] = lambda progress: None,
) -> list[World]:
    """Return fresh worlds of tasks that share one site, at time zero.

    Parameters
    ----------
    executor
        Returns who computes the values of a task, at the rank decided on.
    watch
        Called at the end of each round of any of them.
    """
    first = prepared[0]
    links = {link.name: link for one in prepared for link in one.scenario.scheme.links}
    site = Site(
        first.clients,
        (first.main_server, first.federated_server),
        first.scenario.radio.medium,
        list(links.values()),
        first.conditions,
        presence_of(first.scenario),
        [group.battery for group in first.scenario.clients for _ in range(group.count)],
    )
    for stage in first.stages:
        site.change_at(seconds_to_ns(stage.at_s), stage.conditions)
    return [
        World(
            site=site,
            task=one.task,
            decisions=one.decisions(),
            links=one.scenario.scheme.links,
            executor=executor(one),
            watch=watch,
        )
        for one in prepared
    ]


def presence_of(scenario: Scenario) -> Presence | None:
    """Return when clients and servers are there, from the beginning; None where all always are."""
    availability, servers = scenario.availability, _restarting(scenario)
    if availability is None and not servers:
        return None
    actors = {
        name: Comings(name, iter([_down(one) for one in server.restarts or ()]), "restart")
        for name, server in servers.items()
    }
    for client in range(scenario.num_clients if availability is not None else 0):
        assert availability is not None
        times = availability.times_away(client, stream(scenario.seed, "availability", client))
        actors[f"client-{client}"] = Comings(f"client-{client}", times, availability.on_leave)
    return Presence(actors, skips=availability is not None and availability.at_start == "skip")


def _restarting(scenario: Scenario) -> dict[str, Server]:
    servers = {MAIN_SERVER: scenario.main_server, FEDERATED_SERVER: scenario.federated_server}
    return {name: server for name, server in servers.items() if server.restarts}


def _down(restart: Restart) -> Away:
    return Away(seconds_to_ns(restart.at_s), seconds_to_ns(restart.at_s + restart.downtime_s))


def _absences(scenario: Scenario) -> Iterator[str]:
    """Tell when clients and servers are not there."""
    if scenario.availability is not None:
        yield scenario.availability.note
    for name, server in _restarting(scenario).items():
        times = ", ".join(f"at {one.at_s:g} s for {one.downtime_s:g} s" for one in server.restarts or ())
        yield f"{name} goes down {times}; what it computes and receives then begins again."


def notes_of(prepared: Sequence[Prepared]) -> tuple[str, ...]:
    """Return what a user must know of what would run; what is not so of all tasks says of which it is."""
    several = len(prepared) > 1
    common = set.intersection(*(set(one.notes) for one in prepared))
    told = (
        note if note in common or not several else f"{one.task.name}: {note}"
        for one in prepared
        for note in one.notes
    )
    return tuple(dict.fromkeys(told))


def num_blocks(scenario: Scenario, task: Task) -> int:
    """Return how many blocks a client has, as the scenario says."""
    cut_layers = scenario.scheme.cut_layers(task.shape)
    return scenario.model.cut_layer if scenario.model.cut_layer in cut_layers else cut_layers[-1]
