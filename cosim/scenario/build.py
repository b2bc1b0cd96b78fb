"""From a scenario to tasks that are ready to run; all that can be refused before the first event is."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from math import ceil
from typing import TypeVar

from cosim.compute.device import Device
from cosim.control.decision import Allocation
from cosim.errors import CosimError, ScenarioError
from cosim.learning.payload import refuse_payloads
from cosim.learning.shapes import shape_of
from cosim.learning.task import Task
from cosim.radio.channel import Channel
from cosim.rng import stream
from cosim.scenario.after_events import becomes
from cosim.scenario.factors import parts_of_factors
from cosim.scenario.fit import (
    lacking_traces,
    refuse_cut,
    split_and_reused,
    too_few_subchannels,
    unfit_for_tasks,
    unfit_policy,
    unfit_sounding,
)
from cosim.scenario.media import undescribed_links, unfit_air, unfit_batteries, unfit_medium
from cosim.scenario.prepared import Prepared, num_blocks
from cosim.scenario.presence import unfit_presence
from cosim.scenario.settings import Scenario
from cosim.scenario.size import FadingBlocks, fading_blocks, too_large, too_many_cuts
from cosim.scenario.tasks import TaskTables
from cosim.world import FEDERATED_SERVER, MAIN_SERVER

T = TypeVar("T")
_TABLE = re.compile(rf"({'|'.join(TaskTables.model_fields)})\b")


def prepare(scenario: Scenario, alike: Prepared | None = None) -> Prepared:
    """Return the only task of a scenario, ready to run.

    Parameters
    ----------
    scenario
        The scenario.
    alike
        One that differs from it in radio and allocator alone, whose task and devices are taken.

    Raises
    ------
    CosimError
        As :func:`prepare_tasks`, or if there are several.
    """
    if len(scenario.tasks) > 1:
        refuse_tasks(scenario)
    return prepare_tasks(scenario, alike)[0]


def refuse_tasks(scenario: Scenario) -> None:
    """Refuse named tasks where a scenario is asked for that is one task itself.

    Raises
    ------
    ScenarioError
        With their names.
    """
    if scenario.tasks:
        raise ScenarioError(
            f"{scenario.name}: has the tasks {' and '.join(scenario.tasks)}, and this is about one; "
            "give a scenario with the tables of one task at its top."
        )


def prepare_tasks(scenario: Scenario, alike: Prepared | None = None) -> tuple[Prepared, ...]:
    """Draw devices and channel, deal out the texts of each task, and refuse what cannot run.

    Torch is not needed. ``alike`` is as for :func:`prepare`.

    Raises
    ------
    CosimError
        If rooms do not fit each other: a cut outside the model, a share left
        empty, a decision that breaks a limit, models that do not fit in
        memory. All that can be found side by side is reported at once, one fault a line.
    """
    prepared, faults = _attempt(scenario, alike)
    if faults:
        raise faults[0] if len(faults) == 1 else ScenarioError("\n".join(map(str, faults)))
    return prepared


def check(scenario: Scenario) -> list[str]:
    """Return what is wrong with a scenario beyond its file, one finished sentence each."""
    return [str(fault) for fault in _attempt(scenario)[1]]


def draw_devices(scenario: Scenario) -> tuple[tuple[Device, ...], Device, Device]:
    """Return the clients, the main server and the federated server, drawn."""
    seed = scenario.seed
    clients = tuple(
        Device.draw(f"client-{number}", one.settings, stream(seed, "clients", number), one.measured_s)
        for number, one in enumerate(scenario.each_client)
    )
    return (
        clients,
        Device.draw(MAIN_SERVER, scenario.main_server, stream(seed, MAIN_SERVER)),
        Device.draw(FEDERATED_SERVER, scenario.federated_server, stream(seed, FEDERATED_SERVER)),
    )


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


def _attempt(
    scenario: Scenario, alike: Prepared | None = None
) -> tuple[tuple[Prepared, ...], list[CosimError]]:
    """Return the tasks that could be prepared, and every fault that does not follow from another."""
    found, prepared = _Found(), []
    found.faults += [*unfit_for_tasks(scenario), *unfit_policy(scenario)]
    channel = cache(partial(Channel.build, scenario.radio, scenario.num_clients, scenario.seed))
    for name, own in scenario.by_task.items():
        one, faults = _attempt_task(name, own, channel, alike, is_alone=len(scenario.tasks) < 2)
        for fault in faults:
            found.add(_placed(fault, name, scenario))
        prepared += [] if one is None else [one]
    if len(prepared) > 1 and not found.faults:
        _fit(prepared, found)
    return tuple(prepared), found.faults


def _placed(fault: CosimError, name: str, scenario: Scenario) -> CosimError:
    """Return a fault of a task's own table with its place in the file; others are as they are."""
    if not name:
        return fault
    own = scenario.tasks[name].given
    lines = [
        f"tasks.{name}.{line}" if (table := _TABLE.match(line)) and table[1] in own else line
        for line in str(fault).splitlines()
    ]
    return type(fault)("\n".join(lines))


def _attempt_task(
    name: str,
    scenario: Scenario,
    build_channel: Callable[[], Channel],
    alike: Prepared | None,
    *,
    is_alone: bool,
) -> tuple[Prepared | None, list[CosimError]]:
    """Return what a task is by itself, None if it could not be prepared, and its faults."""
    found = _Found()
    for fault in list(undescribed_links(scenario)) or too_large(scenario):
        found.add(fault)
    if found.faults:
        return None, found.faults
    for fault in parts_of_factors(scenario):
        found.add(fault)
    # with parts that do not fit what is trained, the task would say the same in other words
    task = (
        None
        if found.faults
        else found.attempt(lambda: _task(name, scenario, None if alike is None else alike.task))
    )
    if task is None:
        _probe(scenario, found)
    channel = found.attempt(build_channel)
    for fault in _unfit(scenario):
        found.add(fault)
    devices = found.attempt(lambda: draw_devices(scenario) if alike is None else alike.devices)
    if task is None or channel is None or devices is None or found.faults:
        return None, found.faults
    prepared = Prepared(scenario, *devices, channel, task, is_alone=is_alone)
    allocation = found.attempt(lambda: _decide(prepared))
    prepared = replace(prepared, allocation=allocation)
    if allocation is not None:
        if is_alone:
            _fit([prepared], found)
        prepared = replace(prepared, fading=found.attempt(lambda: _fading(prepared, allocation)))
    prepared = replace(prepared, stages=tuple(_stages(prepared, found)))
    return (None if found.faults else prepared), found.faults


def _unfit(scenario: Scenario) -> Iterator[ScenarioError]:
    """Return what does not fit between clients, scheme, allocator and radio."""
    yield from too_few_subchannels(scenario)
    yield from split_and_reused(scenario)
    yield from unfit_sounding(scenario)
    yield from unfit_medium(scenario)
    yield from unfit_batteries(scenario)
    yield from unfit_air(scenario)
    yield from lacking_traces(scenario)
    yield from unfit_presence(scenario)


def _task(name: str, scenario: Scenario, known: Task | None) -> Task:
    """Return what is learned, if it fits; texts and weights of one that is known are not looked at again."""
    task = known or _read_task(name, scenario)
    refuse_cut(scenario, task.shape)
    if (fault := too_many_cuts(scenario, task.shape)) is not None:
        raise fault
    scenario.scheme.check(task)
    _refuse_unsendable(scenario, task)
    if known is None:
        scenario.model.base.content_key()  # weights that cannot be read are reported before anything is made
        _ = task.notes  # and so are a tokenizer, and weights that do not fit the model
    return task


def _read_task(name: str, scenario: Scenario) -> Task:
    """Return what is learned; chance of a named task is by its name."""
    return Task.prepare(
        scenario.model,
        scenario.trained,
        scenario.data,
        scenario.training,
        num_clients=scenario.num_clients,
        num_steps=scenario.scheme.num_client_steps(scenario.num_clients),
        seed=stream(scenario.seed, "task", name).torch_seed() if name else scenario.seed,
        is_cut=scenario.scheme.is_cut,
        aggregator=scenario.scheme.averaging,
        codecs=scenario.scheme.codecs,
        rule=scenario.scheme.rule,
        name=name,
        stages=scenario.scheme.earlier_stages,
    )


def _refuse_unsendable(scenario: Scenario, task: Task) -> None:
    """Refuse codecs that send nothing, and an allocator's sparsification ratios that nobody can keep to."""
    is_told = scenario.allocator.sets_sparsification_ratios
    refuse_payloads(task, num_blocks(scenario, task), is_told=is_told)
    why = scenario.scheme.why_no_sparsity(task, task.trainable.lora_rank)
    if is_told and why is not None:
        raise ScenarioError(
            f"allocator.kind: {scenario.allocator.kind!r} says how much of its adapter each client sends, "
            f"and {why}."
        )
    if scenario.scheme.ledger(task) is not None:
        _refuse_leaks(scenario)


def _refuse_leaks(scenario: Scenario) -> None:
    """Refuse an allocator to which clients report what no noise hides, where account is kept of releases."""
    open_ = [one.name for one in scenario.allocator.reports if one.name != "delay"]
    if open_:
        raise ScenarioError(
            f"allocator.kind: {scenario.allocator.kind!r} has {open_[0]!r} reported, which no noise hides; "
            "take an allocator such as 'equal' or 'matched', or leave scheme.privacy out."
        )


def _probe(scenario: Scenario, found: _Found) -> None:
    """Find the faults of model and data behind the first one."""
    base, task = scenario.model.base, scenario.model.task
    corpus = found.attempt(scenario.data.source.load)
    config = found.attempt(base.read_config)
    if config is not None:
        found.attempt(base.content_key)
        num_labels = 0 if task == "causal_lm" else max(len(corpus.labels) if corpus else 0, 2)
        shape = found.attempt(lambda: shape_of(config, task, num_labels))
        if shape is not None:
            trained, is_cut = scenario.trained, scenario.scheme.is_cut
            found.attempt(lambda: trained.check(trained.fitted(shape), scenario.model.dtype, is_cut=is_cut))
            found.attempt(lambda: refuse_cut(scenario, shape))
            found.attempt(lambda: base.weight_notes(shape))
    if corpus is not None:
        chance = stream(scenario.seed, "partition")
        found.attempt(lambda: scenario.data.partition.split(corpus.train, scenario.num_clients, chance))


def _stages(prepared: Prepared, found: _Found) -> Iterator[Prepared]:
    """Prepare what the scenario becomes at each event, and see that a decision can be taken there."""
    for at_s, scenario in found.attempt(lambda: becomes(prepared.scenario)) or ():
        for fault in (*_unfit(scenario), *parts_of_factors(scenario)):
            found.add(fault)
        channel = found.attempt(partial(Channel.build, scenario.radio, scenario.num_clients, scenario.seed))
        if channel is None:
            continue
        stage = replace(prepared, scenario=scenario, channel=channel, at_s=at_s)
        found.attempt(partial(_refuse_unsendable, scenario, prepared.task))
        if not found.faults:
            found.attempt(partial(_decide, stage, prepared.allocation))
        yield stage


def _fading(prepared: Prepared, allocation: Allocation) -> FadingBlocks | None:
    """Return how many blocks of fading a run meets, unless they are too many."""
    if prepared.channel.block_ns is None:
        return None
    state = prepared.decisions().state(0, round_=1)
    transfers = prepared.scenario.scheme.transfers(prepared.task)
    blocks = fading_blocks(prepared.scenario, prepared.channel, state, allocation, transfers)
    if blocks is not None:
        blocks.refuse()
    return blocks


def _decide(prepared: Prepared, earlier: Allocation | None = None) -> Allocation:
    """Return a decision, held against the limits; cut layer and rank stay those of an earlier one."""
    _refuse_other_senders(prepared.scenario)
    decisions = replace(prepared, allocation=None).decisions()
    decisions.current = earlier
    return decisions.decide(0, round_=1)


def _refuse_other_senders(scenario: Scenario) -> None:
    """Refuse to keep a decision about the senders of one round where others send in the next."""
    allocator, share = scenario.allocator, getattr(scenario.scheme, "participation", 1.0)
    some = ceil(share * scenario.num_clients) < scenario.num_clients
    if some and allocator.plans_senders and allocator.reallocate != "every_round":
        raise ScenarioError(
            f"allocator.reallocate: the decision of {allocator.kind!r} is for those who send in a round, and "
            f"scheme.participation = {share:g} draws others for the next; take reallocate = 'every_round', "
            "or an allocator such as 'equal'."
        )


def _fit(prepared: Sequence[Prepared], found: _Found) -> None:
    """Find devices whose memory does not hold what all tasks need on them.

    Events change nothing of it, as cut layers and ranks stay what the first decisions made them.
    """
    needs = [_memory_bytes(one) for one in prepared]
    first = prepared[0]
    _hold(first.main_server, prepared, needs, found)
    if any(one.keys() - {"client", MAIN_SERVER} for one in needs):
        for device in first.clients:
            _hold(device, prepared, needs, found)
    else:  # one client is named for all: a hundred phones of one kind are one fault
        _hold(min(first.clients, key=lambda one: one.memory_bytes or float("inf")), prepared, needs, found)


def _hold(
    device: Device, prepared: Sequence[Prepared], needs: Sequence[dict[str, int]], found: _Found
) -> None:
    """Find a device whose memory does not hold what all tasks need on it."""
    default = MAIN_SERVER if device.name == MAIN_SERVER else "client"
    needed_bytes = sum(one.get(device.name, one.get(default, 0)) for one in needs)
    what = " and ".join(_training(one, device) for one in prepared)
    found.attempt(lambda: device.refuse_what_does_not_fit(needed_bytes, what))


def _memory_bytes(prepared: Prepared) -> dict[str, int]:
    """Return what a client, or each of them, and the main server must hold for a task, bytes."""
    allocation, scheme, task = prepared.allocation, prepared.scenario.scheme, prepared.task
    assert allocation is not None
    if allocation.client_cut_layers is None:
        return scheme.memory_bytes(task, allocation.cut_layer, allocation.lora_rank)
    return scheme.memory_bytes_apart(task, allocation.client_cut_layers, allocation.lora_rank)


def _training(prepared: Prepared, device: Device) -> str:
    """Return what a device does for a task, in words."""
    allocation, task = prepared.allocation, prepared.task
    assert allocation is not None
    cut_layer = allocation.cut_layer
    if allocation.client_cut_layers is not None and device in prepared.clients:
        cut_layer = allocation.client_cut_layers[prepared.clients.index(device)]
    of_task = "" if prepared.is_alone else f" of {task.name}"
    at_rank = f" and rank {allocation.lora_rank}" if task.trainable.has_factors else ""
    return f"training{of_task} with cut_layer {cut_layer}{at_rank}"
