"""From a scenario to a world; all that can be refused before the first event is refused here."""

from collections.abc import Callable
from dataclasses import dataclass

from cosim.compute.device import Device
from cosim.errors import CosimError, ScenarioError
from cosim.learning.executor import Executor
from cosim.learning.lesson import Lesson
from cosim.radio.cell import Cell
from cosim.rng import stream
from cosim.scenario.settings import Scenario
from cosim.units import dbm_to_w
from cosim.world import FEDERATED_SERVER, MAIN_SERVER, Progress, World


@dataclass(frozen=True)
class Prepared:
    """A scenario whose devices and cell are drawn and whose texts are dealt out."""

    scenario: Scenario
    clients: tuple[Device, ...]
    main_server: Device
    federated_server: Device
    cell: Cell
    lesson: Lesson

    def world(
        self,
        executor: Callable[[int], Executor],
        watch: Callable[[Progress], None] = lambda progress: None,
    ) -> World:
        """Return a fresh world at time zero."""
        scenario = self.scenario
        limits = [dbm_to_w(group.max_tx_power_dbm) for group in scenario.clients for _ in range(group.count)]
        return World(
            clients=self.clients,
            main_server=self.main_server,
            federated_server=self.federated_server,
            cell=self.cell,
            access=scenario.radio.access,
            max_tx_power_w=limits,
            allocator=scenario.allocator,
            lesson=self.lesson,
            executor=executor,
            local_steps=scenario.scheme.local_steps,
            links=scenario.scheme.links,
            watch=watch,
        )


def prepare(scenario: Scenario) -> Prepared:
    """Draw devices and cell, deal out the texts, and refuse what cannot run.

    Torch is not needed.

    Raises
    ------
    CosimError
        If rooms do not fit each other: a cut outside the model, a share left
        empty, a decision that breaks a limit, a model that does not fit in
        memory.
    """
    seed, scheme = scenario.seed, scenario.scheme
    groups = [group for group in scenario.clients for _ in range(group.count)]
    clients = tuple(
        Device.draw(f"client-{number}", group, stream(seed, "clients", number))
        for number, group in enumerate(groups)
    )
    lesson = Lesson.prepare(
        scenario.model,
        scenario.lora,
        scenario.data,
        scenario.training,
        num_clients=len(clients),
        num_steps=scheme.num_rounds * scheme.local_steps,
        seed=seed,
    )
    num_layers = lesson.shape.num_layers
    if not scenario.model.cut_layer < num_layers:
        raise ScenarioError(
            f"model.cut_layer: {scenario.model.cut_layer} leaves nothing for the main server; "
            f"a model of {num_layers} layers can be cut at 1 to {num_layers - 1}."
        )
    prepared = Prepared(
        scenario,
        clients,
        Device.draw(MAIN_SERVER, scenario.main_server, stream(seed, MAIN_SERVER)),
        Device.draw(FEDERATED_SERVER, scenario.federated_server, stream(seed, FEDERATED_SERVER)),
        Cell.build(scenario.radio, len(clients), seed),
        lesson,
    )
    _refuse_what_does_not_fit(prepared)
    return prepared


def check(scenario: Scenario) -> list[str]:
    """Return what is wrong with a scenario beyond its file, one finished sentence each."""
    try:
        prepare(scenario)
    except CosimError as fault:
        return [str(fault)]
    return []


def _refuse_what_does_not_fit(prepared: Prepared) -> None:
    """Take the first decision and hold it against the limits and every memory."""

    def nobody(_rank: int) -> Executor:
        raise AssertionError("a decision computes nothing")

    allocation = prepared.world(nobody).decide(round_=1)
    needs = prepared.scenario.scheme.memory_bytes(prepared.lesson, allocation.cut_layer, allocation.lora_rank)
    what = f"training with cut_layer {allocation.cut_layer} and rank {allocation.lora_rank}"
    prepared.main_server.refuse_what_does_not_fit(needs[MAIN_SERVER], what)
    for device in prepared.clients:
        if "client" in needs:
            device.refuse_what_does_not_fit(needs["client"], what)
