"""Why one span took as long as it did: the link budget of a transfer, or the device of a computation.

The cell and the devices are drawn again from the scenario in the run folder; they
are pure functions of it, so what is told here is what the run met.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from cosim.compute.device import Device
from cosim.errors import RecordError
from cosim.kernel.job import BlockRate, ConstantRate, Rate
from cosim.radio.budget import LinkBudget
from cosim.radio.cell import Cell
from cosim.radio.grant import Grant
from cosim.radio.settings import DownlinkSettings
from cosim.record.folder import Record
from cosim.scenario.build import draw_devices
from cosim.scenario.events import becomes
from cosim.scenario.load import load
from cosim.scenario.settings import Scenario
from cosim.units import Floats, seconds_to_ns
from cosim.world import MAIN_SERVER


@dataclass(frozen=True)
class Span:
    """One row of ``spans.parquet``."""

    id: int
    parents: tuple[int, ...]
    kind: str
    name: str
    actor: str
    peer: str
    round: int
    local_step: int
    asked_ns: int
    start_ns: int
    end_ns: int
    bits: float
    flop: float
    energy_j: float
    work: str
    task: str = ""
    delivered: bool = True
    resent_bits: float = 0.0
    participants: tuple[str, ...] = ()

    @property
    def sender(self) -> str:
        """Who acted; how many clients, where several sent at once."""
        return self.actor or _together(self.participants)

    @property
    def receiver(self) -> str:
        """Who received; how many clients, where several did; nobody of what is computed."""
        return self.peer or (_together(self.participants) if self.participants else "")

    @property
    def waited_ns(self) -> int:
        """From being asked for to the start, ns."""
        return self.start_ns - self.asked_ns

    @property
    def duration_ns(self) -> int:
        """From start to end, ns."""
        return self.end_ns - self.start_ns


def _together(clients: tuple[str, ...]) -> str:
    return clients[0] if len(clients) == 1 else f"{len(clients)} clients"


@dataclass(frozen=True, eq=False)
class Stretch:
    """A part of a transfer over which grant and air stayed the same; without a subchannel it paused.

    Attributes
    ----------
    start_ns, end_ns
        From when to when, ns.
    grant
        Subchannels and power.
    block_ns
        How long a gain holds, ns; None where it never changes.
    budgets
        How the rate of each subchannel at the start comes about; rates add up to the grant's.
    rates_bit_per_s
        The rate in each coherence block crossed, shape (num_blocks,).
    """

    start_ns: int
    end_ns: int
    grant: Grant
    block_ns: int | None
    budgets: tuple[LinkBudget, ...]
    rates_bit_per_s: Floats


@dataclass(frozen=True, eq=False)
class TransferExplanation:
    """A transfer over a link, or at once over a link that is free.

    Attributes
    ----------
    span, parents
        The transfer, and what it waited for.
    link
        Which link it went over.
    is_counted
        Whether the link takes time; if not there is no stretch.
    stretches
        One for as long as grant and air stayed the same; none of a transfer with several
        senders or receivers, whose rate is no sum over one client's subchannels.
    expected_end_ns
        When the bits, those sent again too, have drained at these rates, ns: the end of
        the span, if record and air agree.
    """

    span: Span
    parents: tuple[Span, ...]
    link: str
    is_counted: bool
    stretches: tuple[Stretch, ...]
    expected_end_ns: int


@dataclass(frozen=True)
class ComputeExplanation:
    """A computation on a device."""

    span: Span
    parents: tuple[Span, ...]
    device: Device
    expected_end_ns: int


Explanation = TransferExplanation | ComputeExplanation


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
        return ComputeExplanation(row, parents, device, row.start_ns + device.duration_ns(int(row.flop)))
    return _transfer(record, scenario, row, parents)


def _span(table: object, number: int) -> Span:
    (values,) = table.slice(number, 1).to_pylist()  # type: ignore[attr-defined]
    return Span(**{**values, **{name: tuple(values[name]) for name in ("parents", "participants")}})


def _transfer(
    record: Record, scenario: Scenario, span: Span, parents: tuple[Span, ...]
) -> TransferExplanation:
    server = "main" if MAIN_SERVER in (span.actor, span.peer) else "federated"
    is_uplink = not span.actor or span.actor.startswith("client-")
    link = f"{server}_{'uplink' if is_uplink else 'downlink'}"
    client = (span.actor if is_uplink else span.peer).removeprefix("client-")
    ends = span.asked_ns, span.end_ns
    stages = [(0, scenario), *((seconds_to_ns(at_s), stage) for at_s, stage in becomes(scenario))]
    stages = [one for one in stages if one[0] < ends[1] or one[0] == 0]
    met = [
        one for one, after in zip(stages, [*stages[1:], None], strict=True) if not after or after[0] > ends[0]
    ]
    settings = met[0][1].radio.link(link)
    if isinstance(settings, DownlinkSettings) and not settings.counted:
        return TransferExplanation(span, parents, link, False, (), span.start_ns)
    if span.participants:
        return TransferExplanation(span, parents, link, True, (), span.end_ns)
    airs = [(from_ns, Cell.build(stage.radio, stage.num_clients, stage.seed)) for from_ns, stage in met]
    in_force = _in_force(record, link, int(client), span, airs)
    if not in_force:
        raise RecordError(f"{record.path}: span {span.id} was sent without a grant in grants.parquet.")
    left: Fraction | int = int(span.bits + span.resent_bits)
    stretches, expected_end_ns = [], span.start_ns
    starts = [start_ns for start_ns, *_ in in_force]
    for (start_ns, cell, grant), end_ns in zip(in_force, [*starts[1:], span.end_ns], strict=True):
        rate = _rate(cell, link, int(client), grant)
        finish_ns = rate.finish_ns(left, start_ns)
        expected_end_ns = span.end_ns if finish_ns is None else finish_ns
        left = max(left - rate.drained(start_ns, end_ns), Fraction(0))
        stretches.append(_stretch(cell, link, int(client), grant, start_ns, end_ns))
    return TransferExplanation(span, parents, link, True, tuple(stretches), expected_end_ns)


def _in_force(
    record: Record, link: str, client: int, span: Span, airs: list[tuple[int, Cell]]
) -> list[tuple[int, Cell, Grant]]:
    """Return air and grant while a transfer went on, each pair from its first instant."""
    start_ns, end_ns = span.start_ns, span.end_ns
    rows = [row for row in record.grants.to_pylist() if row["link"] == link and row["time_ns"] <= end_ns]
    changes = {row["time_ns"] for row in rows} | {from_ns for from_ns, _ in airs}
    held: dict[int, tuple[str, float, float | None]] = {}
    found: list[tuple[int, Cell, Grant]] = []
    position = 0
    for instant in sorted({start_ns, *(one for one in changes if start_ns < one < end_ns)}):
        while position < len(rows) and rows[position]["time_ns"] <= instant:
            row = rows[position]
            held[row["subchannel"]] = (row["client"], row["tx_power_w"], row["bandwidth_hz"])
            position += 1
        mine = sorted(
            (number, power, width)
            for number, (owner, power, width) in held.items()
            if owner == f"client-{client}"
        )
        numbers = np.array([number for number, *_ in mine], dtype=np.int64)
        widths = [width for *_, width in mine if width is not None]
        powers = np.array([power for _, power, _ in mine])
        grant = Grant(numbers, powers, np.array(widths) if widths else None)
        cell = next(cell for from_ns, cell in reversed(airs) if from_ns <= instant)
        same = bool(found) and found[-1][1] is cell and found[-1][2].equals(grant)
        if (mine or found) and not same:
            found.append((instant, cell, grant))
    return found


def _rate(cell: Cell, link: str, client: int, grant: Grant) -> Rate:
    def rates(first: int, count: int) -> Floats:
        return cell.rates(
            link, client, grant.subchannels, grant.tx_power_w, first, count, grant.bandwidths_hz
        )

    if cell.block_ns is None or not len(grant.subchannels):
        return ConstantRate(float(rates(0, 1)[0]))
    return BlockRate(cell.block_ns, rates)


def _stretch(cell: Cell, link: str, client: int, grant: Grant, start_ns: int, end_ns: int) -> Stretch:
    first = cell.block_at(start_ns)
    last = cell.block_at(max(end_ns - 1, start_ns))
    carved_hz = [None] * len(grant.subchannels) if grant.bandwidths_hz is None else grant.bandwidths_hz
    budgets = [
        cell.budget(
            link, client, int(number), float(power), start_ns, None if width is None else float(width)
        )
        for number, power, width in zip(grant.subchannels, grant.tx_power_w, carved_hz, strict=True)
    ]
    # A rate model may give a whole grant one rate, of which a subchannel alone is no fair share.
    snr = np.array([10.0 ** (budget.snr_db / 10.0) for budget in budgets])
    widths_hz = np.array([budget.bandwidth_hz for budget in budgets])
    shares = cell.radio.rate.per_subchannel(snr, widths_hz).tolist()
    return Stretch(
        start_ns,
        end_ns,
        grant,
        cell.block_ns,
        tuple(
            replace(
                budget,
                rate_bit_per_s=share,
                spectral_efficiency_bit_per_s_per_hz=share / budget.bandwidth_hz,
            )
            for budget, share in zip(budgets, shares, strict=True)
        ),
        cell.rates(
            link, client, grant.subchannels, grant.tx_power_w, first, last - first + 1, grant.bandwidths_hz
        ),
    )
