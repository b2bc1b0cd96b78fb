"""An explanation on a terminal, term by term."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cosim.explain.explanations import ComputeExplanation, Explanation, Span, Stretch, TransferExplanation
from cosim.radio.slots.spent import Spent
from cosim.report.quantities import amount, count, duration
from cosim.units import NS_PER_S, linear_to_db

_TERMS_OF_ALL = (
    "distance",
    "path loss",
    "shadowing",
    "antenna gain",
    "surface",
    "thermal noise density",
    "noise figure",
    "interference density",
    "left for data",
)
_TERMS_OF_EACH = {
    "fading": "fading\ndB",
    "gain": "gain\ndB",
    "bandwidth": "width\nkHz",
    "transmit power": "power\ndBm",
    "transmit power density": "density\ndBm/Hz",
    "received power": "received\ndBm",
    "noise power": "noise\ndBm",
    "SNR": "SNR\ndB",
    "rate": "rate\nkbit/s",
}
_KILO = ("bandwidth", "rate")
_MOST_NAMED = 12


def show(explanation: Explanation, console: Console) -> None:
    """Print why a span took as long as it did."""
    span = explanation.span
    console.print(_title(span), style="bold")
    _say(console, "asked for at", _instant(span.asked_ns))
    _say(console, "started at", f"{_instant(span.start_ns)}, after waiting {duration(span.waited_ns)}")
    if isinstance(explanation, TransferExplanation):
        _show_transfer(explanation, console)
    else:
        _show_compute(explanation, console)
    _say(console, "energy", amount(span.energy_j, "J"))
    _show_parents(explanation.parents, console)


def _show_compute(explanation: ComputeExplanation, console: Console) -> None:
    span, device = explanation.span, explanation.device
    _say(console, "work", f"{amount(span.flop, 'FLOP')} ({count(int(span.flop))})")
    _say(console, "clock", amount(device.clock_hz, "Hz"))
    if span.name in device.measured_s:
        _say(console, "measured on the device", f"{device.measured_s[span.name]:g} s for a mini-batch")
        _show_times(explanation, console)
        return
    _say(console, "width", f"{device.flop_per_cycle:g} FLOP per cycle, {amount(device.flop_per_s, 'FLOP/s')}")
    _say(console, "cycles", f"{span.flop / device.flop_per_cycle:.6g}")
    _show_times(explanation, console)


def _show_transfer(explanation: TransferExplanation, console: Console) -> None:
    span = explanation.span
    _say(console, "link", explanation.link)
    _say(console, "payload", f"{amount(span.bits, 'bit')} ({count(int(span.bits))})")
    if explanation.overhead_bits:
        _say(console, "overhead", f"{amount(explanation.overhead_bits, 'bit')} beside it")
    if explanation.is_latency:
        _say(console, "rate", "all of it was on the air before: this is how long it takes to arrive")
    if span.resent_bits:
        _say(console, "sent again", f"{amount(span.resent_bits, 'bit')} ({count(int(span.resent_bits))})")
    if not span.delivered:
        _say(console, "delivered", "no: it took its time and its energy, and did not arrive")
    if span.participants:
        names = ", ".join(span.participants[:_MOST_NAMED])
        more = len(span.participants) - _MOST_NAMED
        _say(console, "participants", names + (f" and {count(more)} more" if more > 0 else ""))
    if not explanation.is_modelled:
        _say(console, "rate", "the link is free in this scenario: what it carries arrives at once")
    if explanation.is_silent:
        _say(console, "rate", "the channel allowed less than the client's rate, so it sent nothing")
    if explanation.is_sounding:
        _say(console, "rate", "fixed by radio.csi, so that the channel is known: it has no grant")
    if explanation.is_summed:
        _say(console, "sum", "sent at once on all subcarriers, as amplitudes and not as bits")
    for number, stretch in enumerate(explanation.stretches, start=1):
        if len(explanation.stretches) > 1:
            console.print(
                f"\nPart {number} of {len(explanation.stretches)}, from {duration(stretch.start_ns)} "
                f"for {duration(stretch.end_ns - stretch.start_ns)}"
            )
        if span.participants and stretch.budgets:
            _say(console, "weakest receiver", f"{stretch.client} when it began; its link budget is:")
        _show_stretch(stretch, console)
    if explanation.has_unrecorded_air:
        _say(
            console,
            "rate",
            "by senders in other cells, or by phases of a surface, which the record does not have",
        )
        _say(console, "measured", _instant(span.duration_ns))
        return
    if explanation.slots is not None:
        _show_slots(explanation, explanation.slots, console)
        return
    if (
        span.participants
        and explanation.is_modelled
        and not (explanation.is_summed or explanation.is_sounding or explanation.stretches)
    ):
        _say(console, "rate", "of several clients at once: there is no link budget of one of them")
        _say(console, "measured", _instant(span.duration_ns))
        return
    _show_times(explanation, console)


def _show_slots(explanation: TransferExplanation, slots: Spent, console: Console) -> None:
    """Print what the slots of a transfer went to, those that there were."""
    first = slots.num_blocks - slots.num_repeated_blocks
    told = (
        ("blocks", first, "transport blocks at their first attempt"),
        ("HARQ", slots.num_repeated_blocks, "failed blocks again, combined with what had been received"),
        ("outage", slots.num_given_up_blocks, "of these a block's last, which failed: in new blocks again"),
        ("scheduler", slots.num_unscheduled_slots, "others had the resource blocks"),
        ("feedback", slots.num_idle_slots, "all it had left was on its way"),
        ("away", slots.num_away_slots, "somebody it needs was away"),
    )
    for label, number, what in told:
        if number:
            _say(console, label, f"{number} slot(s): {what}")
    _say(console, "error rate", f"{slots.num_failed_blocks / max(slots.num_blocks, 1):.2%} of all attempts")
    _show_times(explanation, console)


def _show_stretch(stretch: Stretch, console: Console) -> None:
    if not stretch.budgets:
        _say(console, "rate", "no subchannel of its own: the transfer paused")
        return
    for what, value, unit in stretch.budgets[0].terms():
        if what in _TERMS_OF_ALL:
            _say(console, what, f"{value:.6g} {unit}")
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("sub-\nchannel", justify="right")
    heard = any(budget.is_interfered for budget in stretch.budgets)
    given = {what for what, *_ in stretch.budgets[0].terms()}  # a replayed gain has its fading in it
    shown = {what: heading for what, heading in _TERMS_OF_EACH.items() if what in given}
    for heading in shown.values():
        table.add_column(heading.replace("SNR", "SINR") if heard else heading, justify="right")
    for budget in stretch.budgets:
        values = {what: value for what, value, _ in budget.terms()}
        cells = (f"{values[what] / 1e3:.1f}" if what in _KILO else f"{values[what]:.2f}" for what in shown)
        table.add_row(str(budget.subchannel), *cells)
    console.print(table)
    power_w = stretch.grant.total_tx_power_w
    rates = stretch.rates_bit_per_s
    total = (
        f"{count(len(stretch.budgets))} subchannel(s), "
        f"{amount(sum(budget.bandwidth_hz for budget in stretch.budgets), 'Hz')}, "
        f"{amount(power_w, 'W')} ({linear_to_db(power_w) + 30.0:.2f} dBm), {amount(float(rates[0]), 'bit/s')}"
    )
    _say(console, "sum", total)
    if stretch.block_ns is not None:
        mean, least, most = (amount(float(one), "bit/s") for one in (rates.mean(), rates.min(), rates.max()))
        _say(
            console,
            "blocks crossed",
            f"{count(len(rates))} of {duration(stretch.block_ns)}, at {mean} on average, {least} to {most}",
        )


def _show_times(explanation: Explanation, console: Console) -> None:
    span = explanation.span
    expected_ns = explanation.expected_end_ns - span.start_ns
    differ = span.duration_ns - expected_ns
    verdict = "the same to the nanosecond" if not differ else f"{differ:+d} ns apart"
    _say(console, "expected", _instant(expected_ns))
    _say(console, "measured", f"{_instant(span.duration_ns)}, {verdict}")


def _show_parents(parents: tuple[Span, ...], console: Console) -> None:
    if not parents:
        _say(console, "waited for", "nothing: it could begin at once")
        return
    last_ns = max(parent.end_ns for parent in parents)
    for parent in sorted(parents, key=lambda parent: (parent.end_ns, parent.id))[-8:]:
        last = ", the last" if parent.end_ns == last_ns else ""
        _say(console, "waited for", f"{_title(parent)}, ended at {_instant(parent.end_ns)}{last}")
    if len(parents) > 8:
        _say(console, "", f"and {len(parents) - 8} more that ended earlier")


def _title(span: Span) -> str:
    who = f"{span.sender} to {span.receiver}" if span.receiver else span.sender
    of_task = f" of {span.task}" if span.task else ""
    step = f", local step {span.local_step}" if span.local_step else ""
    return f"span {span.id}, {span.name}: {who}, round {span.round}{of_task}{step}"


def _instant(time_ns: int) -> str:
    """Return an instant or a length of time with every nanosecond."""
    return f"{time_ns // NS_PER_S}.{time_ns % NS_PER_S:09d} s"


def _say(console: Console, what: str, value: str) -> None:
    console.print(f"  {what:<22} {value}", soft_wrap=True)
