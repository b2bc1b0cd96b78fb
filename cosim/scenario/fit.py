"""What clients, model, allocator and radio ask of each other."""

from collections.abc import Iterator

from cosim.control.allocators import Allocator
from cosim.control.knobs import PARTICIPATION
from cosim.errors import ScenarioError
from cosim.learning.shape import ModelShape
from cosim.parts import kinds_that
from cosim.radio.blocks import shortest_block_ns
from cosim.radio.channel_settings import LINKS
from cosim.radio.knowledge import soundings
from cosim.scenario.settings import Scenario
from cosim.schemes import Scheme
from cosim.units import NS_PER_S


def unfit_for_tasks(scenario: Scenario) -> Iterator[ScenarioError]:
    """Refuse an allocator whose decisions are about the rounds of one task where there are several."""
    if len(scenario.tasks) < 2 or scenario.allocator.serves_tasks:
        return
    able = kinds_that(Allocator, lambda part: part.serves_tasks)
    yield ScenarioError(
        f"allocator.kind: {scenario.allocator.kind!r} decides about the rounds of one task, and "
        f"{' and '.join(scenario.tasks)} share what is granted; take one that looks at links alone: {able}."
    )


def unfit_policy(scenario: Scenario) -> Iterator[ScenarioError]:
    """Refuse a task policy that cannot serve the tasks, or schemes that take no turns of one kind."""
    policy, tasks = scenario.task_policy, scenario.by_task
    if policy is None:
        return
    names = [name or "the only one" for name in tasks]
    whose = {name: one.scheme.turn_of for name, one in zip(names, tasks.values(), strict=True)}
    idle = next((name for name, turn_of in whose.items() if turn_of is None), None)
    if idle is not None or len(set(whose.values())) > 1:
        able = {turn_of: _taking_turns(turn_of) for turn_of in ("client", "all")}
        what = f"those of {idle} take none" if idle else "tasks differ in whose turn it is"
        yield ScenarioError(
            f"task_policy.kind: {policy.kind!r} shares out turns, and {what}; give all tasks schemes with "
            f"turns of a client ({able['client']}) or of all clients ({able['all']})."
        )
        return
    num_workers = scenario.num_clients if "client" in whose.values() else 1
    if len(tasks) > 1 and (why := policy.why_unfit(names, num_workers)) is not None:
        yield ScenarioError(f"task_policy.{why}.")
    for name, one in tasks.items():
        drift, until_s = one.data.drift, policy.until_s
        if drift is not None and until_s is not None and drift.duration_s < until_s:
            place = f"tasks.{name}.data" if name and "data" in scenario.tasks[name].given else "data"
            yield ScenarioError(
                f"{place}.drift.duration_s: the window has reached the last examples at {drift.duration_s:g} "
                f"s, and task_policy.until_s is {until_s:g} s; take a longer duration_s."
            )


def _taking_turns(turn_of: str) -> str:
    return kinds_that(Scheme, lambda part: part.turn_of == turn_of)


def refuse_cut(scenario: Scenario, shape: ModelShape) -> None:
    """Refuse a cut that leaves nothing for the main server, and cuts that differ where they may not.

    Raises
    ------
    ScenarioError
        With the cuts that are possible.
    """
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
    _, apart = cuts(scenario, shape)
    if apart is not None and not scenario.scheme.may_cut_apart:
        raise ScenarioError(
            f"clients.cut_layer: {min(apart)} to {max(apart)} are given, and the scheme "
            f"{scenario.scheme.kind!r} as it is set cuts all clients at the same block; give one for all, or "
            "take 'split_federated' with the aggregator 'fedavg', weights by 'data', the server_optimizer "
            "'none' and a codec without unsent = 'masked'."
        )


def cuts(scenario: Scenario, shape: ModelShape) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the cut layers to choose from, and those of the clients where they are given and differ."""
    cut_layers, given = scenario.scheme.cut_layers(shape), scenario.client_cut_layers
    if given is None or not scenario.scheme.is_cut:
        return cut_layers, None
    return (given[:1], None) if len(set(given)) == 1 else (cut_layers, given)


def too_few_subchannels(scenario: Scenario) -> Iterator[ScenarioError]:
    """Refuse more clients than subchannels where each must have one of its own."""
    if scenario.allocator.shares_in_time or PARTICIPATION.name in scenario.allocator.sets_knobs:
        return  # who chooses clients sees to it that those have enough
    for name in sorted(link.name for link in scenario.scheme.links):
        link = scenario.radio.link(name)
        if link.is_modelled and link.num_subchannels < scenario.num_clients:
            sharing = kinds_that(Allocator, lambda part: part.shares_in_time)
            yield ScenarioError(
                f"radio.{name}.num_subchannels: {link.num_subchannels} cannot serve {scenario.num_clients} "
                f"clients under the allocator {scenario.allocator.kind!r}, which gives each its own; "
                f"take {scenario.num_clients} or more, or an allocator that shares in time: {sharing}."
            )


def unfit_sounding(scenario: Scenario) -> Iterator[ScenarioError]:
    """Refuse to sound the channel for longer than it holds, where it is sounded whenever it changes."""
    every, medium = scenario.scheme.links, scenario.radio.medium
    links = [one.name for one in every if scenario.radio.link(one.name).is_modelled and not medium.sums(one)]
    sounded, clients = soundings(scenario.radio, links), scenario.num_clients
    if scenario.allocator.reallocate != "every_block" or not sounded:
        return
    try:
        block_ns = shortest_block_ns(scenario.radio)
    except ScenarioError:
        return  # the channel says so itself
    for one in sounded:
        if block_ns is not None and one.lasts_ns(clients) > block_ns:
            yield ScenarioError(
                f"radio.csi: pilots and reports of {one.link} take {one.lasts_ns(clients) / NS_PER_S:.4g} s "
                f"ahead of each decision, and a block of the channel lasts {block_ns / NS_PER_S:.4g} s; take "
                "fewer pilots, or another allocator.reallocate than 'every_block'."
            )


def lacking_traces(scenario: Scenario) -> Iterator[ScenarioError]:
    """Refuse a trace without rows of a client on a link that is sent over, or with rows of others."""
    trace, links = scenario.radio.trace, [link.name for link in scenario.scheme.links]
    if trace is None:
        return
    try:
        needed = [name for name in links if scenario.radio.link(name).is_modelled]
        trace.refuse_what_lacks(scenario.num_clients, needed, LINKS)
    except ScenarioError as fault:
        yield fault


def split_and_reused(scenario: Scenario) -> Iterator[ScenarioError]:
    """Refuse lending subchannels that are not there any more."""
    if scenario.allocator.splits_bands and scenario.radio.access.changes_in_flight:
        yield ScenarioError(
            f"radio.access: {scenario.radio.access.kind!r} lends subchannels, and the allocator "
            f"{scenario.allocator.kind!r} splits the band into channels of any width; take the access "
            """'orthogonal', or let the allocator keep to subchannels by bandwidth = "subchannels"."""
        )
