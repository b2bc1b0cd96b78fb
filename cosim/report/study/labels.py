"""Settings and measures as people read them: a name, a unit, and values with their prefix."""

from collections.abc import Sequence
from typing import Any

_UNITS = {
    "bit_per_s": "bit/s",
    "m_per_s": "m/s",
    "dbm_per_hz": "dBm/Hz",
    "dbm": "dBm",
    "db": "dB",
    "hz": "Hz",
    "bits": "bit",
    "mb": "MB",
    "w": "W",
    "j": "J",
    "s": "s",
    "m": "m",
}
"""What a name ends in, and the unit it means; the longer endings first."""

_PREFIXED = {"Hz", "bit", "bit/s", "J", "W", "s", "m"}
_WHOLE = {"Hz", "bit", "bit/s", "m"}
"""Units nobody puts a milli before."""

_HIDDEN = {"kind"}
_CALLED = {"total_s": "total delay", "eval_loss": "held-out loss", "eval_accuracy": "held-out accuracy"}


def label_and_unit(path: str) -> tuple[str, str]:
    """Return what a setting is called, and its unit, which may be empty.

    Examples
    --------
    >>> label_and_unit("radio.main_uplink.bandwidth_hz"), label_and_unit("allocator.kind")
    (('main uplink bandwidth', 'Hz'), ('allocator', ''))
    >>> label_and_unit("radio.fading.k_factor"), label_and_unit("radio.noise_figure_db")
    (('fading k factor', ''), ('noise figure', 'dB'))
    >>> label_and_unit("tasks.speech.scheme.num_rounds")
    ('num rounds of speech', '')
    """
    outer, _, rest = path.partition(".")
    if outer == "tasks" and "." in rest:
        task, _, inner = rest.partition(".")
        label, unit = label_and_unit(inner)
        return f"{label} of {task}", unit
    names = [name for name in path.split(".") if name not in _HIDDEN] or [path]
    last, unit = names[-1], ""
    for ending, one in _UNITS.items():
        if last.endswith(f"_{ending}"):
            last, unit = last[: -len(ending) - 1], one
            break
    shown = [*names[-2:-1], last] if len(names) > 2 or names[0] not in ("radio", "scheme") else [last]
    return " ".join(shown).replace("_", " "), unit


def measure_label(name: str, unit: str) -> str:
    """Return what a measure is called, its unit left away.

    Examples
    --------
    >>> measure_label("total_s", "s"), measure_label("energy_j of client", "J")
    ('total delay', 'energy of client')
    >>> measure_label("loss_at 20 s", ""), measure_label("time_to_loss 3", "s")
    ('loss at 20 s', 'time to loss 3')
    """
    first, _, rest = name.partition(" ")
    first = _CALLED.get(first) or (first.removesuffix(f"_{unit.lower()}") if unit else first)
    return f"{first} {rest}".rstrip().replace("_", " ")


def value_labels(values: Sequence[Any], unit: str) -> tuple[str, ...]:
    """Return each of several values in a word or two, with no more digits than tell them apart.

    Examples
    --------
    >>> value_labels([0.1, 10**-0.5, 1.0], ""), value_labels([1.0001e6, 1.0002e6], "Hz")
    (('0.1', '0.316', '1'), ('1.0001 MHz', '1.0002 MHz'))
    """
    for digits in (3, 6, 12):
        told = tuple(value_label(value, unit, digits) for value in values)
        if len(set(told)) == len(told):
            break
    return told


def value_label(value: Any, unit: str, digits: int = 3) -> str:
    """Return a value of a setting in a word or two.

    Examples
    --------
    >>> value_label(2e7, "Hz"), value_label(-3.0, "dB"), value_label(3.0, ""), value_label("equal", "")
    ('20 MHz', '-3 dB', '3', 'equal')
    >>> value_label(None, ""), value_label("{kind = 'rician'}", "")
    ('-', "{kind = 'rician'}")
    """
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    scale, shown_unit = scale_of(abs(float(value)), unit)
    return f"{float(f'{value / scale:.{digits}g}'):.12g} {shown_unit}".rstrip()


def axis_label(label: str, unit: str) -> str:
    """Return the label of an axis.

    Examples
    --------
    >>> axis_label("total", "s"), axis_label("k factor", "")
    ('total, s', 'k factor')
    """
    return f"{label}, {unit}" if unit else label


def scale_of(largest: float, unit: str) -> tuple[float, str]:
    """Return by what to divide values of a unit, and the unit with its prefix, so that they read well.

    Examples
    --------
    >>> scale_of(2e7, "Hz"), scale_of(0.5, "dB"), scale_of(50.0, "s"), scale_of(0.2, "Hz")
    ((1000000.0, 'MHz'), (1.0, 'dB'), (1.0, 's'), (1.0, 'Hz'))
    """
    if unit not in _PREFIXED or not largest > 0.0:
        return 1.0, unit
    for scale, prefix in (
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
        (1.0, ""),
        (1e-3, "m"),
        (1e-6, "µ"),
    ):
        if largest >= scale and not (scale > 1.0 if unit == "s" else scale < 1.0 and unit in _WHOLE):
            return scale, prefix + unit
    return 1.0, unit
