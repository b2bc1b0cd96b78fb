"""Numbers as people read them: three digits and a prefix."""

from cosim.units import NS_PER_S

_PREFIXES = (
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "u"),
    (1e-9, "n"),
)
_NS_PER_MINUTE = 60 * NS_PER_S


def duration(time_ns: float) -> str:
    """Return a length of time in words.

    Examples
    --------
    >>> duration(0), duration(1_500_000), duration(75 * 10**9), duration(2 * 3600 * 10**9)
    ('0 s', '1.5 ms', '1 min 15 s', '2 h 0 min')
    """
    if time_ns < _NS_PER_MINUTE:
        return amount(time_ns / NS_PER_S, "s")
    seconds = round(time_ns / NS_PER_S)
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def amount(value: float, unit: str) -> str:
    """Return a value with the prefix that leaves one to three digits before the point.

    Examples
    --------
    >>> amount(12_345_678, "bit"), amount(0.00042, "J"), amount(999.96, "W"), amount(0, "FLOP")
    ('12.3 Mbit', '420 uJ', '1 kW', '0 FLOP')
    """
    for scale, prefix in _PREFIXES:
        if abs(value) >= 0.9995 * scale:
            return f"{float(f'{value / scale:.3g}'):g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def count(number: int) -> str:
    """Return a whole number with its thousands apart.

    Examples
    --------
    >>> count(1234567)
    '1 234 567'
    """
    return f"{number:,}".replace(",", " ")


def percent(share: float) -> str:
    """Return a share of one as a whole percentage, or with a digit more where it is small.

    Examples
    --------
    >>> percent(0.256), percent(0.0042), percent(0.0)
    ('26 %', '0.4 %', '0 %')
    """
    return f"{100 * share:.1f} %" if 0.0 < share < 0.0095 else f"{100 * share:.0f} %"
