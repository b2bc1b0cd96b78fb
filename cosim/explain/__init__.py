"""Why one span took as long as it did: the link budget of a transfer, or the device of a computation.

The channel and the devices are drawn again from the scenario in the run folder; they
are pure functions of it, so what is said here is what the run met.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from cosim.compute.device import Device
from cosim.control.knobs import SURFACE_PHASES
from cosim.errors import RecordError
from cosim.explain.explanations import ComputeExplanation, Explanation, Span, Stretch, TransferExplanation
from cosim.explain.recorded import airs_under, efficiency_at, in_force_during, phases_until, slots_of
from cosim.kernel.presence import Comings
from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
from cosim.radio.link import Link
from cosim.radio.medium import Medium, rate_of, weakest_rates
from cosim.radio.sounding import CSI_REPORT, PILOTS
from cosim.record.folder import Record
from cosim.scenario.after_events import becomes
from cosim.scenario.build import draw_devices
from cosim.scenario.load import load
from cosim.scenario.prepared import presence_of
from cosim.scenario.settings import Scenario
from cosim.transmissions import LATENCY
from cosim.units import NS_PER_S, seconds_to_ns


def explain(record: Record, span: int) -> Explanation:
    """Return why a span took as long as it did.

    Raises
    ------
    RecordError
        If the run has no such span, or cannot be read.
    ScenarioError
        If the scenario in the run folder can no longer be read.
    """
    table = record.spans
    if not 0 <= span < table.num_rows:
        has = f"it has spans 0 to {table.num_rows - 1}" if table.num_rows else "it has none"
        raise RecordError(f"{record.path}: has no span {span}; {has}.")
    row = _span(table, span)
    parents = tuple(_span(table, parent) for parent in row.parents)
    scenario = load(record.scenario_path)
    if row.kind == "compute":
        clients, *servers = draw_devices(scenario)
        device = next(one for one in (*clients, *servers) if one.name == row.actor)
        end_ns = row.start_ns + device.duration_ns(int(row.flop), row.name)
        comings = None if (presence := presence_of(scenario)) is None else presence.of(row.actor)
        if comings is not None and row.end_ns > row.start_ns:
            end_ns = _with_pauses(row, device, comings)
        return ComputeExplanation(row, parents, device, end_ns)
    return _transfer(record, scenario.by_task[row.task], row, parents)


def _with_pauses(span: Span, device: Device, comings: Comings) -> int:
    """Return when a computation of one who comes and goes ends, ns: as it leaves, where it is dropped."""
    if comings.on_leave == "resume":
        return comings.work(span.start_ns, device.duration_ns(int(span.flop), span.name)).end_ns
    if comings.on_leave == "drop" and comings.leaves_ns(span.start_ns) == span.end_ns:
        return span.end_ns
    begun_ns, lost_ns = comings.last_attempt(span.start_ns, span.end_ns)
    lasts_ns = span.end_ns - begun_ns
    flop = round(span.flop * lasts_ns / (lasts_ns + lost_ns))  # on record are those of all attempts
    return begun_ns + device.duration_ns(flop, span.name)


def _span(table: object, number: int) -> Span:
    (values,) = table.slice(number, 1).to_pylist()  # type: ignore[attr-defined]
    return Span(**{**values, **{name: tuple(values[name]) for name in ("parents", "participants")}})


def _transfer(
    record: Record, scenario: Scenario, span: Span, parents: tuple[Span, ...]
) -> TransferExplanation:
    is_uplink = not span.actor or span.actor.startswith("client-")
    server, medium = span.peer if is_uplink else span.actor, scenario.radio.medium
    declared = next(
        one for one in scenario.scheme.links if one.is_uplink == is_uplink and one.server == server
    )
    link = declared.name
    clients = span.participants or (span.actor if is_uplink else span.peer,)
    together = [int(client.removeprefix("client-")) for client in clients]
    ends = span.asked_ns, span.end_ns
    stages = [(0, scenario), *((seconds_to_ns(at_s), stage) for at_s, stage in becomes(scenario))]
    stages = [one for one in stages if one[0] < ends[1] or one[0] == 0]
    met = [
        one for one, after in zip(stages, [*stages[1:], None], strict=True) if not after or after[0] > ends[0]
    ]
    settings = met[0][1].radio.link(link)
    if not settings.is_modelled:
        return TransferExplanation(span, parents, link, False, (), span.start_ns)
    if span.name in (PILOTS, CSI_REPORT):
        return TransferExplanation(span, parents, link, True, (), span.end_ns, is_sounding=True)
    transport = met[0][1].radio.transport_of(link)
    if transport is not None and span.name == LATENCY:
        beyond_ns = span.duration_ns - transport.delay_ns(0)
        repeats = beyond_ns / (transport.timeout_s * NS_PER_S) if transport.timeout_s else 0.0
        if transport.retransmissions == "drawn":
            repeats = round(repeats)
        end_ns = span.start_ns + transport.delay_ns(repeats)
        return TransferExplanation(span, parents, link, True, (), end_ns, is_latency=True)
    overhead_bits = 0 if transport is None else transport.overhead_bits
    if medium.sums(declared) and span.participants:
        return _summed(scenario, met[0][1], span, parents, declared)
    if medium.slot_ns is not None:
        spent = slots_of(record, span, medium.slot_ns)
        end_ns = span.start_ns + spent.num_slots * medium.slot_ns
        return TransferExplanation(span, parents, link, True, (), end_ns, slots=spent)
    if span.participants and not scenario.scheme.multicasts(link):
        return TransferExplanation(span, parents, link, True, (), span.end_ns)
    if any(stage.radio.interference.reuses for _, stage in met):
        return TransferExplanation(span, parents, link, True, (), span.end_ns, has_unrecorded_air=True)
    sets_phases = any(
        stage.radio.surface.elements and SURFACE_PHASES in stage.allocator.sets_knobs for _, stage in met
    )
    decided = phases_until(record, span.end_ns) if sets_phases else {}
    if sets_phases and not decided:
        return TransferExplanation(span, parents, link, True, (), span.end_ns, has_unrecorded_air=True)
    if medium.is_silent_in_outage and span.start_ns == span.end_ns:
        return TransferExplanation(span, parents, link, True, (), span.end_ns, is_silent=True)
    airs = [(from_ns, Channel.build(stage.radio, stage.num_clients, stage.seed)) for from_ns, stage in met]
    in_force = in_force_during(record, link, together, span, airs_under(airs, decided))
    if medium.fixes_rates or medium.backoff is not None:
        efficiency = efficiency_at(record, clients[0], span.start_ns)
        in_force = [
            (from_ns, channel, replace(grant, spectral_efficiency_bit_per_s_per_hz=efficiency))
            for from_ns, channel, grant in in_force
        ]
    if not in_force:
        raise RecordError(f"{record.path}: span {span.id} was sent without a grant in grants.parquet.")
    num_resent, rest = divmod(span.resent_bits, max(span.bits, 1.0))
    left: list[Fraction | int] = [int(span.bits)]
    if overhead_bits or rest:
        left = [Fraction(span.bits) + Fraction(span.resent_bits) + overhead_bits * span.delivered]
    else:  # whole payloads that a medium of fixed rates sends again
        left = [int(span.bits)] * (1 + int(num_resent))
    stretches, expected_end_ns = [], span.start_ns
    starts = [start_ns for start_ns, *_ in in_force]
    for (start_ns, channel, grant), end_ns in zip(in_force, [*starts[1:], span.end_ns], strict=True):
        rate = rate_of(medium, channel, declared, together, grant)
        from_ns = start_ns
        while left:  # what is sent again begins at a nanosecond of its own
            finish_ns = rate.finish_ns(left[0], from_ns)
            expected_end_ns = span.end_ns if finish_ns is None else finish_ns
            if finish_ns is None or finish_ns > end_ns:
                left[0] = max(left[0] - rate.drained(from_ns, end_ns), Fraction(0))
                break
            from_ns = finish_ns
            left.pop(0)
        stretches.append(_stretch(medium, channel, declared, together, grant, start_ns, end_ns))
    return TransferExplanation(
        span, parents, link, True, tuple(stretches), expected_end_ns, overhead_bits=overhead_bits
    )


def _summed(
    scenario: Scenario, met: Scenario, span: Span, parents: tuple[Span, ...], link: Link
) -> TransferExplanation:
    """Return how long numbers take that are summed in the air."""
    num_values = int(span.bits) // scenario.model.bits_per_trained_number
    widths_hz = np.array(met.radio.link(link.name).widths_hz)
    lasts_ns = met.radio.medium.summed_ns(
        widths_hz, num_values, len(span.participants), met.radio.csi_of(link.name)
    )
    end_ns = span.start_ns + lasts_ns
    if (presence := presence_of(scenario)) is not None:
        edge_ns, actors = met.radio.medium.symbol_ns, (*span.participants, link.server)
        *_, (_, end_ns) = presence.attempts(actors, span.start_ns, lasts_ns, edge_ns)
    return TransferExplanation(span, parents, link.name, True, (), end_ns, is_summed=True)


def _stretch(
    medium: Medium,
    channel: Channel,
    link: Link,
    together: Sequence[int],
    grant: Grant,
    start_ns: int,
    end_ns: int,
) -> Stretch:
    first = channel.block_at(start_ns)
    last = channel.block_at(max(end_ns - 1, start_ns))
    at_start = {one: float(medium.rates(channel, link, one, grant, first, 1)[0]) for one in together}
    client = min(together, key=at_start.__getitem__)
    split_hz = [None] * len(grant.subchannels) if grant.bandwidths_hz is None else grant.bandwidths_hz
    budgets = [
        channel.budget(
            link.name, client, int(number), float(power), start_ns, None if width is None else float(width)
        )
        for number, power, width in zip(grant.subchannels, grant.tx_power_w, split_hz, strict=True)
    ]
    # A rate model may give a whole grant one rate, of which a subchannel alone is no fair share.
    snr = np.array([10.0 ** (budget.snr_db / 10.0) for budget in budgets])
    widths_hz = np.array([budget.bandwidth_hz for budget in budgets])
    shares = channel.rate_model(link.name, client, start_ns).per_subchannel(snr, widths_hz).tolist()
    return Stretch(
        start_ns,
        end_ns,
        grant,
        channel.block_ns,
        tuple(
            replace(
                budget,
                rate_bit_per_s=share,
                spectral_efficiency_bit_per_s_per_hz=share / budget.bandwidth_hz,
            )
            for budget, share in zip(budgets, shares, strict=True)
        ),
        f"client-{client}",
        weakest_rates(medium, channel, link, together, grant, first, last - first + 1),
    )
