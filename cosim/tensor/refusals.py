"""What the tensor clock cannot promise, each with its setting."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cosim.control.allocators import GainChange
from cosim.control.knobs import SURFACE_PHASES
from cosim.errors import ScenarioError
from cosim.learning.amounts import download_bits
from cosim.learning.payload import bits_are_known
from cosim.learning.task import Task
from cosim.radio.csi.perfect import Perfect
from cosim.radio.grant import Grant
from cosim.scenario.settings import Scenario


def refuse(scenario: Scenario) -> None:
    """Refuse a scenario whose order of events, or what is sent, depends on times.

    Raises
    ------
    ScenarioError
        With the first reason and its setting.
    """
    for why in reasons(scenario):
        raise ScenarioError(f'{why}; the tensor clock cannot promise its times: take engine = "events".')


def reasons(scenario: Scenario) -> Iterator[str]:
    """Yield why the tensor clock cannot promise the times of a scenario, the setting first."""
    radio, allocator = scenario.radio, scenario.allocator
    if scenario.tasks:
        yield f"tasks: {' and '.join(scenario.tasks)} wait for each other's turns"
    if scenario.events:
        yield "events: change what is in flight"
    for name in ("main_server", "federated_server"):
        if getattr(scenario, name).restarts:
            yield f"{name}.restarts: cut what is under way at an instant"
    if scenario.availability is not None:
        yield f"availability: {scenario.availability.kind!r} cuts what is under way at an instant"
    if any(group.battery is not None for group in scenario.clients):
        yield "clients.battery: who takes part depends on what is left in it"
    if any(radio.duplex.slots(is_uplink=link.is_uplink) is not None for link in scenario.scheme.links):
        yield f"radio.duplex: {radio.duplex.kind!r} opens links in turn"
    if not isinstance(radio.csi, Perfect):
        yield f"radio.csi: {radio.csi.kind!r} takes the air from those who send"
    if radio.interference.reuses:
        yield f"radio.interference: {radio.interference.kind!r} lets rates depend on who sends elsewhere"
    if radio.trace is not None:
        yield f"radio.trace: {radio.trace.kind!r} has an end, behind which the event kernel stops"
    if any(radio.transport_of(link.name) is not None for link in scenario.scheme.links):
        yield "radio.transport: messages are lost and sent again by chance of their own"
    if (why := scenario.scheme.why_times_decide) is not None:
        yield why
    if not radio.medium.is_closed_form:
        yield f"radio.medium: {radio.medium.kind!r} decides by the channel what arrives"
    if radio.access.changes_in_flight:
        yield f"radio.access: {radio.access.kind!r} re-rates transfers whenever another begins or ends"
    if radio.uplink_energy.tail_s:
        yield "radio.uplink_energy.tail_s: what a tail costs depends on what was sent before"
    policy = allocator.reallocate
    asks_again = policy != "once" and (allocator.sees_gains or policy == "every_block")
    if asks_again:
        shown = "gain_change_db" if isinstance(policy, GainChange) else repr(policy)
        yield f"allocator.reallocate: {shown} decides again by the channel of an instant"
    if allocator.awaits_reports or allocator.sets_sparsification_ratios or allocator.reports:
        yield f"allocator.kind: {allocator.kind!r} decides in every round by what is reported"
    if SURFACE_PHASES in allocator.sets_knobs:
        yield f"allocator.kind: {allocator.kind!r} sets the phases of the surface"
    if scenario.data.drift is not None:
        yield "data.drift: what a client learns depends on the time"


def refuse_other_settings(was: Scenario, scenario: Scenario) -> None:
    """Refuse a scenario that is not one that was played but for radio, allocator and what it is called.

    Raises
    ------
    ScenarioError
        With the setting.
    """
    free = ("radio", "allocator", "name", "description")
    own = was.model_copy(update={name: getattr(scenario, name) for name in free})
    if own == scenario:
        return
    other = next(name for name, value in own if value != getattr(scenario, name))
    raise ScenarioError(
        f"{other}: is not as in the run that was played, and the tensor clock evaluates other radios and "
        'allocators alone; take engine = "events".'
    )


def refuse_values(scenario: Scenario, task: Task, num_blocks: int) -> None:
    """Refuse payloads whose size values decide.

    Raises
    ------
    ScenarioError
        With the setting.
    """
    if not bits_are_known(task, num_blocks):
        raise ScenarioError(
            "scheme.adapter_codec: values decide how many bits are sent, and the tensor clock knows none; "
            'take another codec, or engine = "events".'
        )


def refuse_others_sent(task: Task, num_blocks: int) -> None:
    """Refuse clients that may be left out where what the others are sent depends on it.

    Raises
    ------
    ScenarioError
        With the setting.
    """
    ranks = num_blocks, task.trainable.lora_rank, task.trainable.lora_rank, 1
    if download_bits(task, *ranks, senders=[0]) != download_bits(task, *ranks):
        setting = "update" if task.codecs.adapter.is_relayed else "aggregator"
        raise ScenarioError(
            f"scheme.{setting}: how many clients send decides how many bits all are sent back, which the "
            'tensor clock does not work out; take another, or engine = "events".'
        )


def overlapping(grants: Mapping[str, Sequence[Grant]]) -> frozenset[str]:
    """Return the links whose whole band each client is granted, so that one has it at a time.

    Raises
    ------
    ScenarioError
        If clients share some of their subchannels alone.
    """
    found = set()
    for link, each in grants.items():
        alike = Counter(grant.subchannels.tobytes() for grant in each if len(grant.subchannels))
        owned = [frozenset(np.frombuffer(one, dtype=np.int64).tolist()) for one in alike]
        every = frozenset().union(*owned)
        if sum(map(len, owned)) == len(every) and max(alike.values(), default=1) == 1:
            continue
        if any(own != every for own in owned):
            raise ScenarioError(
                f"allocator: grants of {link} overlap in part, so transfers may pass each other; take grants "
                'that are apart, one for all, or engine = "events".'
            )
        found.add(link)
    return frozenset(found)
