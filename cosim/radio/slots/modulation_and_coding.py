"""Modulation and coding schemes of 5G NR, and how many bits a transport block of each has.

Source
------
3GPP TS 38.214, Tables 5.1.3.1-1 to -3 (which CP-OFDM uplinks use too, clause 6.1.4.1) and
clause 5.1.3.2 (Table 5.1.3.2-1); code blocks: 3GPP TS 38.212, clauses 5.2.2 and 6.2.2.
"""

from bisect import bisect_left
from math import ceil, floor, log2
from typing import Literal, NamedTuple

TableName = Literal["qam64", "qam256", "qam64_low_se"]


class Scheme(NamedTuple):
    """How many bits a symbol carries, and which share of them is information."""

    bits_per_symbol: int
    code_rate: float

    @property
    def efficiency(self) -> float:
        """Information bits of a symbol."""
        return self.bits_per_symbol * self.code_rate


_TABLES: dict[str, dict[int, tuple[float, ...]]] = {
    "qam64": {
        2: (120, 157, 193, 251, 308, 379, 449, 526, 602, 679),
        4: (340, 378, 434, 490, 553, 616, 658),
        6: (438, 466, 517, 567, 616, 666, 719, 772, 822, 873, 910, 948),
    },
    "qam256": {
        2: (120, 193, 308, 449, 602),
        4: (378, 434, 490, 553, 616, 658),
        6: (466, 517, 567, 616, 666, 719, 772, 822, 873),
        8: (682.5, 711, 754, 797, 841, 885, 916.5, 948),
    },
    "qam64_low_se": {
        2: (30, 40, 50, 64, 78, 99, 120, 157, 193, 251, 308, 379, 449, 526, 602),
        4: (340, 378, 434, 490, 553, 616),
        6: (438, 466, 517, 567, 616, 666, 719, 772),
    },
}
"""Code rates times 1024 by bits of a symbol, in the order of the index."""

# fmt: off
_SIZES = (
    24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 136, 144, 152, 160, 168, 176, 184, 192, 208,
    224, 240, 256, 272, 288, 304, 320, 336, 352, 368, 384, 408, 432, 456, 480, 504, 528, 552, 576, 608, 640,
    672, 704, 736, 768, 808, 848, 888, 928, 984, 1032, 1064, 1128, 1160, 1192, 1224, 1256, 1288, 1320, 1352,
    1416, 1480, 1544, 1608, 1672, 1736, 1800, 1864, 1928, 2024, 2088, 2152, 2216, 2280, 2408, 2472, 2536,
    2600, 2664, 2728, 2792, 2856, 2976, 3104, 3240, 3368, 3496, 3624, 3752, 3824,
)
# fmt: on


def schemes(table: TableName) -> tuple[Scheme, ...]:
    """Return the schemes of a table, in the order of the index."""
    return tuple(Scheme(bits, rate / 1024.0) for bits, rates in _TABLES[table].items() for rate in rates)


def lower_rates(table: TableName) -> tuple[Scheme, ...]:
    """Return the schemes of the table of low rates that are below the lowest of this one."""
    lowest = schemes(table)[0]
    return tuple(one for one in schemes("qam64_low_se") if one.efficiency < lowest.efficiency)


def block_bits(num_elements: int, scheme: Scheme) -> int:
    """Return how many bits a transport block has that fills so many resource elements, one layer.

    Examples
    --------
    >>> block_bits(10 * 156, Scheme(2, 120 / 1024))
    368
    >>> block_bits(100 * 156, Scheme(6, 948 / 1024))
    86040
    """
    wanted = num_elements * scheme.efficiency
    if wanted <= 3824.0:
        step = 1 << max(3, floor(log2(max(wanted, 1.0))) - 6)
        return _SIZES[bisect_left(_SIZES, max(24, step * floor(wanted / step)))]
    step = 1 << (floor(log2(wanted - 24.0)) - 5)
    rounded = max(3840, step * floor((wanted - 24.0) / step + 0.5))
    longest = 3816 if scheme.code_rate <= 0.25 else 8424
    count = ceil((rounded + 24) / longest) if scheme.code_rate <= 0.25 or rounded > 8424 else 1
    return 8 * count * ceil((rounded + 24) / (8 * count)) - 24


def code_blocks(num_bits: int, code_rate: float) -> tuple[int, float]:
    """Return into how many code blocks a transport block is cut, and the bits of each, check bits included.

    Examples
    --------
    >>> code_blocks(86040, 948 / 1024)
    (11, 7848.0)
    """
    short = num_bits <= 292 or (num_bits <= 3824 and code_rate <= 0.67) or code_rate <= 0.25
    longest = 3840 if short else 8448
    checked = num_bits + (24 if num_bits > 3824 else 16)
    if checked <= longest:
        return 1, float(checked)
    count = ceil(checked / (longest - 24))
    return count, checked / count + 24
