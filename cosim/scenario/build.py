"""From a scenario to a world; all that can be refused before the first event is refused here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TypeVar

from cosim.compute.device import Device
from cosim.control.allocators import Allocator
from cosim.control.decision import Allocation
from cosim.control.decisions import Decisions
from cosim.control.terms import Terms
from cosim.errors import CosimError, ScenarioError
from cosim.graph.executor import Executor
from cosim.learning.lesson import Lesson
from cosim.learning.payload import refuse_payloads
from cosim.learning.shape import ModelShape
from cosim.parts import family
from cosim.radio.access.reassign import Reassign
from cosim.radio.channel import Channel
from cosim.rng import stream
from cosim.scenario.after_events import becomes
from cosim.scenario.factors import parts_of_factors
from cosim.scenario.media import undescribed_links, unfit_medium
from cosim.scenario.settings import Scenario
from cosim.scenario.size import FadingBlocks, fading_blocks, too_large, too_many_cuts
from cosim.units import dbm_to_w, seconds_to_ns
from cosim.world import FEDERATED_SERVER, MAIN_SERVER, Progress, Turn, World

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """A scenario whose devices and channel are drawn and whose texts are dealt out.

    ``allocation`` is the first decision; a search that takes long is made once.
    ``fading`` says how many blocks of fading it makes, where there are any.
    """

    scenario: Scenario
    clients: tuple[Device, ...]
    main_server: Device
    federated_server: Device
    channel: Channel
    lesson: Lesson
    stages: tuple["Prepared", ...] = ()
    at_s: float = 0.0
    allocation: Allocation | None = None
    fading: FadingBlocks | None = None

    @property
    def num_blocks(self) -> int:
        """How many blocks a client has, as the scenario says."""
        return _num_blocks(self.scenario, self.lesson)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user must know of what would run, in sentences; checks show them, records keep them."""
        told = None if self.fading is None else self.fading.note
        medium = self.scenario.radio.medium
        return (*self.lesson.notes, *medium.notes, *(() if told is None else (told,)))

    @property
    def max_tx_power_w(self) -> list[float]:
        """Power limit of each client, W."""
        groups = self.scenario.clients
        return [dbm_to_w(group.max_tx_power_dbm) for group in groups for _ in range(group.count)]

    @cached_property
    def terms(self) -> Terms:
        """What decisions are about."""
        scenario, lesson, scheme = self.scenario, self.lesson, self.scenario.scheme
        cut_layers, client_cut_layers = _cuts(scenario, lesson.shape)
        return Terms(
            phases=partial(scheme.phases, lesson),
            sparsity=partial(scheme.sparsity, lesson),
            links=frozenset(link.name for link in scheme.links),
            cut_layer=scenario.model.cut_layer,
            lora_rank=scenario.trained.lora_rank,
            cut_layers=cut_layers,
            local_steps=scheme.local_steps,
            weights=lesson.weights,
            knobs=scheme.knobs(lesson),
            reportable=scheme.reportable,
            client_cut_layers=client_cut_layers,
            may_cut_apart=scheme.may_cut_apart,
            is_closed_form=scheme.is_closed_form and scenario.radio.medium.is_closed_form,
            model_hash=lesson.model_hash,
            data_hash=lesson.tokens.content_key,
        )

    def decisions(self) -> Decisions:
        """Return who takes the decisions of one run, before any is taken."""
        return Decisions(
            clients=self.clients,
            main_server=self.main_server,
            cell=self.channel,
            access=self.scenario.radio.access,
            max_tx_power_w=self.max_tx_power_w,
            allocator=self.scenario.allocator,
            terms=self.terms,
            first=self.allocation,
        )

    def world(
        self,
        executor: Callable[[int], Executor],
        watch: Callable[[Progress], None] = lambda progress: None,
    ) -> World:
        """Return a fresh world at time zero."""
        turns = [
            Turn(
                seconds_to_ns(stage.at_s),
                stage.channel,
                stage.scenario.radio.access,
                stage.max_tx_power_w,
                stage.scenario.allocator,
            )
            for stage in self.stages
        ]
        return World(
            clients=self.clients,
            main_server=self.main_server,
            federated_server=self.federated_server,
            decisions=self.decisions(),
            medium=self.scenario.radio.medium,
            links=self.scenario.scheme.links,
            lesson=self.lesson,
            executor=executor,
            watch=watch,
            turns=turns,
        )


def prepare(scenario: Scenario) -> Prepared:
    """Draw devices and channel, deal out the texts, and refuse what cannot run.

    Torch is not needed.

    Raises
    ------
    CosimError
        If rooms do not fit each other: a cut outside the model, a share left
        empty, a decision that breaks a limit, a model that does not fit in
        memory. All that can be found side by side is told at once, one fault a line.
    """
    prepared, faults = _attempt(scenario)
    if prepared is None:
        raise faults[0] if len(faults) == 1 else ScenarioError("\n".join(map(str, faults)))
    return prepared


def check(scenario: Scenario) -> list[str]:
    """Return what is wrong with a scenario beyond its file, one finished sentence each."""
    return [str(fault) for fault in _attempt(scenario)[1]]


def draw_devices(scenario: Scenario) -> tuple[tuple[Device, ...], Device, Device]:
    """Return the clients, the main server and the federated server, drawn."""
    seed = scenario.seed
    groups = [group for group in scenario.clients for _ in range(group.count)]
    clients = tuple(
        Device.draw(f"client-{number}", group, stream(seed, "clients", number))
        for number, group in enumerate(groups)
    )
    return (
        clients,
        Device.draw(MAIN_SERVER, scenario.main_server, stream(seed, MAIN_SERVER)),
        Device.draw(FEDERATED_SERVER, scenario.federated_server, stream(seed, FEDERATED_SERVER)),
    )


def _attempt(scenario: Scenario) -> tuple[Prepared | None, list[CosimError]]:
    """Return what was prepared, or None, and every fault that does not follow from another."""
    found = _Found()
    for fault in list(undescribed_links(scenario)) or too_large(scenario):
        found.add(fault)
    if found.faults:
        return None, found.faults
    for fault in parts_of_factors(scenario):
        found.add(fault)
    # with parts that do not fit what is trained, the lesson would say the same in other words
    lesson = None if found.faults else found.attempt(lambda: _lesson(scenario))
    if lesson is None:
        _probe_lesson(scenario, found)
    channel = found.attempt(lambda: Channel.build(scenario.radio, scenario.num_clients, scenario.seed))
    for fault in (*_too_few_subchannels(scenario), *_carved_and_lent(scenario), *unfit_medium(scenario)):
        found.add(fault)
    if lesson is None or channel is None or found.faults:
        return None, found.faults
    prepared = Prepared(scenario, *draw_devices(scenario), channel, lesson)
    allocation = found.attempt(lambda: _decide_and_fit(prepared, found))
    prepared = replace(prepared, allocation=allocation)
    if allocation is not None:
        prepared = replace(prepared, fading=found.attempt(lambda: _fading(prepared, allocation)))
    prepared = replace(prepared, stages=tuple(_stages(prepared, found)))
    return (None if found.faults else prepared), found.faults


class _Found:
    """Faults found so far, each once."""

    def __init__(self) -> None:
        self.faults: list[CosimError] = []

    def add(self, fault: CosimError) -> None:
        if str(fault) not in map(str, self.faults):
            self.faults.append(fault)

    def attempt(self, step: Callable[[], T]) -> T | None:
        """Return what a step returns, or None if it finds a fault."""
        try:
            return step()
        except CosimError as fault:
            self.add(fault)
            return None


def _lesson(scenario: Scenario) -> Lesson:
    lesson = Lesson.prepare(
        scenario.model,
        scenario.trained,
        scenario.data,
        scenario.training,
        num_clients=scenario.num_clients,
        num_steps=scenario.scheme.num_client_steps(scenario.num_clients),
        seed=scenario.seed,
        is_cut=scenario.scheme.is_cut,
        aggregator=scenario.scheme.averaging,
        codecs=scenario.scheme.codecs,
    )
    _refuse_cut(scenario, lesson.shape)
    if (fault := too_many_cuts(scenario, lesson.shape)) is not None:
        raise fault
    _refuse_unsendable(scenario, lesson)
    scenario.model.base.content_key()  # weights that cannot be read are told before anything is made
    _ = lesson.notes  # and so are a tokenizer, and weights that do not fit the model
    return lesson


def _refuse_unsendable(scenario: Scenario, lesson: Lesson) -> None:
    """Refuse codecs that send nothing, and an allocator of keep ratios where nobody can keep to them."""
    is_told = scenario.allocator.sets_keep_ratios
    refuse_payloads(lesson, _num_blocks(scenario, lesson), is_told=is_told)
    why = scenario.scheme.why_no_sparsity(lesson, lesson.trainable.lora_rank)
    if is_told and why is not None:
        raise ScenarioError(
            f"allocator.kind: {scenario.allocator.kind!r} says how much of its adapter each client sends, "
            f"and {why}."
        )


def _num_blocks(scenario: Scenario, lesson: Lesson) -> int:
    cut_layers = scenario.scheme.cut_layers(lesson.shape)
    return scenario.model.cut_layer if scenario.model.cut_layer in cut_layers else cut_layers[-1]


def _probe_lesson(scenario: Scenario, found: _Found) -> None:
    """Find the faults of model and data behind the first one."""
    base, task = scenario.model.base, scenario.model.task
    corpus = found.attempt(scenario.data.source.load)
    config = found.attempt(base.read_config)
    if config is not None:
        found.attempt(base.content_key)
        num_labels = 0 if task == "causal_lm" else max(len(corpus.labels) if corpus else 0, 2)
        shape = found.attempt(lambda: ModelShape.read(config, task, num_labels))
        if shape is not None:
            trained, is_cut = scenario.trained, scenario.scheme.is_cut
            found.attempt(lambda: trained.check(trained.fitted(shape), scenario.model.dtype, is_cut=is_cut))
            found.attempt(lambda: _refuse_cut(scenario, shape))
            found.attempt(lambda: base.weight_notes(shape))
    if corpus is not None:
        chance = stream(scenario.seed, "partition")
        found.attempt(lambda: scenario.data.partition.split(corpus.train, scenario.num_clients, chance))


def _refuse_cut(scenario: Scenario, shape: ModelShape) -> None:
    if scenario.scheme.cut_layers(shape) == (shape.num_layers,):
        return  # nothing is cut
    given, num_layers = scenario.client_cut_layers, shape.num_layers
    place, cut_layer = (
        ("model.cut_layer", scenario.model.cut_layer) if given is None else ("clients.cut_layer", max(given))
    )
    if not cut_layer < num_layers:
        places = "1" if num_layers == 2 else f"1 to {num_layers - 1}"
        way_out = (
            f"a model of {num_layers} layers can be cut at {places}."
            if num_layers > 1
            else "a model of 1 layer cannot be cut; take a deeper one."
        )
        raise ScenarioError(f"{place}: {cut_layer} leaves nothing for the main server; {way_out}")
    _, apart = _cuts(scenario, shape)
    if apart is not None and not scenario.scheme.may_cut_apart:
        raise ScenarioError(
            f"clients.cut_layer: {min(apart)} to {max(apart)} are given, and the scheme "
            f"{scenario.scheme.kind!r} as it is set cuts all clients at the same block; give one for all, or "
            "take 'split_federated' with the aggregator 'fedavg' and a codec without unsent = 'masked'."
        )


def _cuts(scenario: Scenario, shape: ModelShape) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the cut layers to choose from, and those of the clients where they are given and differ."""
    cut_layers, given = scenario.scheme.cut_layers(shape), scenario.client_cut_layers
    if given is None or not scenario.scheme.is_cut:
        return cut_layers, None
    return (given[:1], None) if len(set(given)) == 1 else (cut_layers, given)


def _too_few_subchannels(scenario: Scenario) -> Iterator[ScenarioError]:
    """Refuse more clients than subchannels where each must have one of its own."""
    if scenario.allocator.shares_in_time:
        return
    sharing = ", ".join(
        repr(kind)
        for kind, part in family(Allocator).items()
        if issubclass(part, Allocator) and part.shares_in_time
    )
    for name in sorted(link.name for link in scenario.scheme.links):
        link = scenario.radio.link(name)
        if link.is_modelled and link.num_subchannels < scenario.num_clients:
            yield ScenarioError(
                f"radio.{name}.num_subchannels: {link.num_subchannels} cannot serve {scenario.num_clients} "
                f"clients under the allocator {scenario.allocator.kind!r}, which gives each its own; "
                f"take {scenario.num_clients} or more, or an allocator that shares in time: {sharing}."
            )


def _carved_and_lent(scenario: Scenario) -> Iterator[ScenarioError]:
    """Refuse lending subchannels that are not there any more."""
    if scenario.allocator.carves_bands and isinstance(scenario.radio.access, Reassign):
        yield ScenarioError(
            "radio.access: 'reassign' lends subchannels, and the allocator "
            f"{scenario.allocator.kind!r} carves the band into channels of any width; take the access "
            """'orthogonal', or let the allocator keep to subchannels by bandwidth = "subchannels"."""
        )


def _stages(prepared: Prepared, found: _Found) -> Iterator[Prepared]:
    """Prepare what the scenario becomes at each event, and see that a decision can be taken there."""
    for at_s, scenario in found.attempt(lambda: becomes(prepared.scenario)) or ():
        for fault in (
            *_too_few_subchannels(scenario),
            *_carved_and_lent(scenario),
            *unfit_medium(scenario),
            *parts_of_factors(scenario),
        ):
            found.add(fault)
        channel = found.attempt(partial(Channel.build, scenario.radio, scenario.num_clients, scenario.seed))
        if channel is None:
            continue
        stage = replace(prepared, scenario=scenario, channel=channel, at_s=at_s)
        found.attempt(partial(_refuse_unsendable, scenario, prepared.lesson))
        if not found.faults:
            found.attempt(partial(_decide, stage, prepared.allocation))
        yield stage


def _fading(prepared: Prepared, allocation: Allocation) -> FadingBlocks | None:
    """Return how many blocks of fading a run meets, unless they are too many."""
    if prepared.channel.block_ns is None:
        return None
    state = prepared.decisions().state(0, round_=1)
    blocks = fading_blocks(prepared.scenario, prepared.channel, state, allocation)
    if blocks is not None:
        blocks.refuse()
    return blocks


def _decide(prepared: Prepared, earlier: Allocation | None = None) -> Allocation:
    """Return a decision, held against the limits; cut layer and rank stay those of an earlier one."""
    decisions = replace(prepared, allocation=None).decisions()
    decisions.current = earlier
    return decisions.decide(0, round_=1)


def _decide_and_fit(prepared: Prepared, found: _Found) -> Allocation:
    """Return the first decision, held against the limits and every memory.

    Events change neither, as cut layer and rank stay what it made them.
    """
    allocation = _decide(prepared)
    lesson, scheme, rank = prepared.lesson, prepared.scenario.scheme, allocation.lora_rank
    if allocation.client_cut_layers is None:
        needs = scheme.memory_bytes(lesson, allocation.cut_layer, rank)
    else:
        needs = scheme.memory_bytes_apart(lesson, allocation.client_cut_layers, rank)
    at_rank = f" and rank {rank}" if lesson.trainable.has_factors else ""
    what = f"training with cut_layer {allocation.cut_layer}{at_rank}"
    server = prepared.main_server
    if MAIN_SERVER in needs:
        found.attempt(lambda: server.refuse_what_does_not_fit(needs[MAIN_SERVER], what))
    by_memory = sorted(prepared.clients, key=lambda device: device.memory_bytes or float("inf"))
    if "client" in needs:  # one client stands for all: a hundred phones of one kind are one fault
        found.attempt(lambda: by_memory[0].refuse_what_does_not_fit(needs["client"], what))
    for device, cut in zip(prepared.clients, allocation.client_cut_layers or (), strict=False):
        what = f"training with cut_layer {cut}{at_rank}"
        found.attempt(partial(device.refuse_what_does_not_fit, needs[device.name], what))
    return allocation
