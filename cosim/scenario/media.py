"""What a scheme and a medium ask of each other, and of the radio's links."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cosim.errors import ScenarioError
from cosim.learning.aggregator import Aggregator
from cosim.learning.chain import Chain, codec_of
from cosim.learning.codec import Codec
from cosim.learning.update import UpdateStep
from cosim.parts import Part, kinds_that
from cosim.radio.channel_settings import LINKS
from cosim.radio.knowledge import soundings
from cosim.radio.uplink_energy import UplinkEnergy
from cosim.scenario.settings import Scenario
from cosim.schemes import Scheme


def undescribed_links(scenario: Scenario) -> Iterator[ScenarioError]:
    """Refuse a scheme that sends over a link without a table in ``[radio]``."""
    for link in scenario.scheme.links:
        if link.name not in LINKS:
            yield ScenarioError(
                f"scheme.kind: {scenario.scheme.kind!r} sends over the link {link.name!r}, and [radio] "
                f"describes {', '.join(LINKS)}; take a scheme that sends over these."
            )


def unfit_medium(scenario: Scenario) -> Iterator[ScenarioError]:
    """Refuse a medium whose sums or losses scheme, aggregator, codec or allocator cannot go on with."""
    medium, scheme = scenario.radio.medium, scenario.scheme
    for link in scheme.links:
        if medium.loses(link) and not link.takes_losses:
            yield ScenarioError(
                f"radio.medium: {medium.kind!r} as it is set may lose what is sent over {link.name}, and the "
                f"scheme {scheme.kind!r} cannot go on without it; let the rate be 'adapted', or take "
                f"{_able('takes_losses')}."
            )
            return
        widths_hz = np.array(scenario.radio.link(link.name).widths_hz)
        misfit = medium.misfit(link, widths_hz) or medium.silences(
            link, scenario.radio.fading, len(widths_hz)
        )
        if misfit is not None:
            yield ScenarioError(f"radio.medium: {misfit}")
    if scenario.allocator.splits_bands and not medium.carries_split_bands:
        yield ScenarioError(
            f"radio.medium: {medium.kind!r} has resource blocks of one width, and the allocator "
            f"{scenario.allocator.kind!r} splits the band into channels of any width; let the allocator keep "
            "to subchannels by bandwidth = \"subchannels\", or take the medium 'fluid'."
        )
    if scenario.radio.access.changes_in_flight and not medium.uses_access:
        from cosim.radio.scheduler import Scheduler

        yield ScenarioError(
            f"radio.access: {scenario.radio.access.kind!r} lends what is granted, and the scheduler of "
            f"radio.medium shares out the band; take the access 'orthogonal', or a scheduler that keeps "
            f"grants: {kinds_that(Scheduler, lambda part: part.keeps_grants)}."
        )
    trace = scenario.radio.trace
    if trace is not None and trace.gives == "rates" and not medium.drains:
        yield ScenarioError(
            f"radio.trace: {trace.kind!r} replays rates, and the medium {medium.kind!r} makes them of the "
            "SNR; take a trace of another kind, or the medium 'fluid'."
        )
    if not medium.sums_any or not scheme.links:
        return
    if not any(medium.sums(link) for link in scheme.links):
        yield ScenarioError(
            f"radio.medium: {medium.kind!r} sums what clients send at once, and the scheme {scheme.kind!r} "
            f"needs what each of them sends; take the medium 'fluid', or {_able('takes_sums')}."
        )
        return
    if scenario.radio.uplink_energy != UplinkEnergy():
        yield ScenarioError(
            f"radio.uplink_energy: it is of transfers that carry bits, and the medium {medium.kind!r} sums "
            "what clients send; leave it out, or take the medium 'fluid'."
        )
    if scenario.radio.duplex.slots(is_uplink=True) is not None:
        yield ScenarioError(
            f"radio.duplex: a sum over the medium {medium.kind!r} is sent symbol by symbol without a pause; "
            "set radio.duplex.kind = 'fdd', or take the medium 'fluid'."
        )
    if any(scenario.radio.transport_of(link.name) for link in scheme.links if medium.sums(link)):
        yield ScenarioError(
            f"radio.transport: packets carry bits, and the medium {medium.kind!r} sums what clients send; "
            "leave it out, or take the medium 'fluid'."
        )
    if scenario.radio.trace is not None and scenario.radio.trace.gives == "rates":
        yield ScenarioError(
            f"radio.trace: {scenario.radio.trace.kind!r} replays rates, and a sum over the medium "
            f"{medium.kind!r} has none; take a trace of another kind, or the medium 'fluid'."
        )
    if scenario.radio.surface.data_share < 1.0:
        yield ScenarioError(
            f"radio.surface: the estimation of {scenario.radio.surface.kind!r} takes a share of all rates, "
            f"and a sum over the medium {medium.kind!r} has no rate; set estimation = 'free', or take "
            "the medium 'fluid'."
        )
    if scenario.allocator.shares_in_time:
        yield ScenarioError(
            f"allocator.kind: {scenario.allocator.kind!r} lets clients send in turn, each with all the power "
            f"of a link, and with the medium {medium.kind!r} all send at once; take an allocator that shares "
            "the power, such as 'equal'."
        )
    if scheme.why_no_sums is not None:
        yield ScenarioError(
            f"radio.medium: {medium.kind!r} sums what clients send, and {scheme.why_no_sums}, or the medium "
            "'fluid'."
        )
    if scheme.averaging.needs == "individual":
        yield ScenarioError(
            f"scheme.aggregator: {scheme.averaging.kind!r} needs the update of each client, and the medium "
            f"{medium.kind!r} delivers their sum; take the medium 'fluid', or an aggregator that needs the "
            f"sum alone: {_linear_aggregators()}."
        )
    elif scheme.needs_each:
        yield ScenarioError(
            f"scheme.server_optimizer: it needs the update of each client, and the medium {medium.kind!r} "
            "delivers their sum; take the medium 'fluid', or a server_optimizer such as 'fedavgm'."
        )
    if scheme.num_scored:
        yield ScenarioError(
            f"scheme.scored_examples: each client sends scores of its own, and the medium {medium.kind!r} "
            "sums what clients send; set it to 0, or take the medium 'fluid'."
        )
    if len(set(scheme.averaging.client_ranks or ())) > 1:
        yield ScenarioError(
            f"scheme.aggregator.client_ranks: ranks differ, and the medium {medium.kind!r} sums what clients "
            "send number by number; give all clients one rank, or take the medium 'fluid'."
        )
    adapter = scheme.codecs.adapter
    steps, codec = adapter.steps if isinstance(adapter, Chain) else (), codec_of(adapter)
    if not codec.is_summable:
        yield ScenarioError(
            f"scheme.adapter_codec: {codec.kind!r} encodes the update of each client, and "
            f"the medium {medium.kind!r} sums numbers as they are; take the medium 'fluid', or "
            f"{_transparent_codecs()}."
        )
    for number, step in enumerate(steps):
        if not step.is_summable:
            way = f"set {step.summed_with}, or " if step.summed_with else ""
            yield ScenarioError(
                f"scheme.update.{number}: {step.kind!r} as it is set makes numbers whose sum means nothing, "
                f"and the medium {medium.kind!r} sums what clients send; "
                f"{way}take the medium 'fluid', or one of {_summable_steps()}."
            )


def unfit_air(scenario: Scenario) -> Iterator[ScenarioError]:
    """Refuse soundings, time division and reuse of the band where the medium or a transmission has none."""
    radio, scheme = scenario.radio, scenario.scheme
    links = [link.name for link in scheme.links if radio.link(link.name).is_modelled]
    if not radio.medium.drains:
        asked = {
            "radio.csi": soundings(radio, links) and "pilots and reports that take the air",
            "radio.duplex": radio.duplex.slots(is_uplink=True) and "slots of one direction",
            "radio.interference": radio.interference.reuses and "cells that reuse the band",
        }
        for place, what in asked.items():
            if what:
                yield ScenarioError(
                    f"{place}: the medium {radio.medium.kind!r} has slots of its own and knows of no {what}; "
                    "take the medium 'fluid', or leave it out."
                )
    if not radio.interference.reuses:
        return
    place = f"radio.interference: {radio.interference.kind!r} lets every cell use the whole band, and"
    if radio.access.changes_in_flight:
        yield ScenarioError(
            f"{place} the access {radio.access.kind!r} lends subchannels across cells; take "
            "the access 'orthogonal'."
        )
    if any(radio.medium.sums(link) for link in scheme.links):
        yield ScenarioError(
            f"{place} the medium {radio.medium.kind!r} adds what clients of all cells send; "
            "take the medium 'fluid'."
        )
    for link in scheme.links:
        if scheme.multicasts(link.name) and radio.link(link.name).is_modelled:
            yield ScenarioError(
                f"{place} a multicast is sent by all cells at once; set downlink = 'unicast'."
            )


def unfit_batteries(scenario: Scenario) -> Iterator[ScenarioError]:
    """Refuse clients that may stop within a round where scheme, medium or allocator cannot go on."""
    scheme, medium = scenario.scheme, scenario.radio.medium
    if all(group.battery is None for group in scenario.clients):
        return
    if not any(link.takes_losses for link in scheme.links):
        yield ScenarioError(
            f"clients.battery: a client whose battery runs empty stops, and the scheme {scheme.kind!r} "
            f"cannot go on without it; leave it out, or take {_able('takes_losses')}."
        )
    elif any(medium.sums(link) for link in scheme.links):
        yield ScenarioError(
            f"clients.battery: a client whose battery runs empty within a sum over the medium "
            f"{medium.kind!r} would change what arrives; leave it out, or take the medium 'fluid'."
        )
    if scenario.allocator.reports:
        yield ScenarioError(
            f"clients.battery: the allocator {scenario.allocator.kind!r} wants reports of all clients, and "
            "one whose battery runs empty sends none; leave it out, or take an allocator such as 'equal'."
        )


def _able(what: str) -> str:
    """Return the schemes with a link that copes with something."""
    return (
        f"a scheme that can: {kinds_that(Scheme, lambda part: any(getattr(one, what) for one in part.links))}"
    )


def _linear_aggregators() -> str:
    return kinds_that(Aggregator, lambda part: _default(part).needs == "linear")


def _transparent_codecs() -> str:
    return f"the codec {kinds_that(Codec, lambda part: _default(part).is_transparent)}"


def _summable_steps() -> str:
    return kinds_that(UpdateStep, lambda part: any(part(**given).is_summable for given in part.examples))


def _default(part: type[Part]) -> Any:
    """Return a part with the settings of its first example."""
    return part(**part.examples[0])
