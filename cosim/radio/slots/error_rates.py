"""How often a transport block fails at an SNR, for every modulation and coding scheme.

Two curves. ``normal`` is our own: the normal approximation of finite block length with the
information of the constellation, at an SNR gap for what a real decoder loses. ``sionna`` reads the
tables that the package sionna-no-rt has, simulated with its LDPC codes. They are on a grid of
1.6 to 1.8 dB, which is wider than a curve is steep, and are interpolated linearly as Sionna does; code
blocks above 2000 bits have the table of 2000, and a scheme without a table that reaches the target has
the normal curve. Their mean over all schemes is 1.0 dB from the normal curve without a gap.

Source
------
Y. Polyanskiy, H. V. Poor and S. Verdu, "Channel coding rate in the finite blocklength regime",
IEEE Trans. Inf. Theory 56(5), 2010, eq. (296). Tables: Sionna, Apache-2.0,
``sionna/sys/bler_tables`` (J. Hoydis et al., arXiv 2203.11854).
"""

import json
from bisect import bisect_right
from functools import cache
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cosim.radio.slots.constellation import SNR_DB, information
from cosim.radio.slots.modulation_and_coding import (
    Scheme,
    TableName,
    block_bits,
    code_blocks,
    lower_rates,
    schemes,
)
from cosim.units import Floats

ErrorRates = Literal["normal", "sionna"]
_LOWEST_DB, _HIGHEST_DB, _STEPS_PER_DB = -30, 45, 20
GRID_DB: Floats = np.arange(_LOWEST_DB * _STEPS_PER_DB, _HIGHEST_DB * _STEPS_PER_DB + 1) / _STEPS_PER_DB
"""SNRs at which curves are kept, dB; straight lines lie between."""
_BELOW_DB, _ABOVE_DB = 10.0, 8.0  # of where a block is as large as the information: beyond is 1, and 0
_SIONNA_FILES = {"qam64": "PDSCH_table1", "qam256": "PDSCH_table2", "qam64_low_se": "PDSCH_table3"}


class Curves:
    """Sizes and error rates of the blocks that fill one number of resource elements.

    Parameters
    ----------
    table, adds_lower_rates
        Which schemes there are.
    error_rates, snr_gap_db
        Which curves, and by how much the normal ones are shifted, dB.
    num_elements
        Resource elements that carry data.
    payload_share
        Share of a block's bits that are payload.
    target
        Error rate that the scheme for an SNR keeps to.

    Attributes
    ----------
    payload_bits
        Of each scheme.
    """

    def __init__(
        self,
        table: TableName,
        adds_lower_rates: bool,
        error_rates: ErrorRates,
        snr_gap_db: float,
        num_elements: int,
        payload_share: float,
        target: float,
    ) -> None:
        self._schemes = all_schemes(table, adds_lower_rates)
        sizes = [block_bits(num_elements, one) for one in self._schemes]
        self.payload_bits = [max(1, int(size * payload_share)) for size in sizes]
        rates = [
            _normal(one, size, num_elements, snr_gap_db)
            for one, size in zip(self._schemes, sizes, strict=True)
        ]
        if error_rates == "sionna":
            first = len(self._schemes) - len(schemes(table))
            for index, curves in _sionna(table).items():
                one, size = self._schemes[first + index], sizes[first + index]
                found = _read(curves, *code_blocks(size, one.code_rate))
                if found[-1] <= target:
                    rates[first + index] = found
        self._rates = rates
        self._listed: list[list[float] | None] = [None] * len(rates)
        self.thresholds_db = [float(GRID_DB[int(np.argmax(one <= target))]) for one in rates]
        falling = list(accumulate(reversed(self.thresholds_db), min))
        self._thresholds_db = falling[::-1]  # so that the highest that can be taken is found

    def scheme_at(self, snr_db: float) -> int:
        """Return the highest scheme that keeps to the target at an SNR, else the lowest."""
        return (bisect_right(self._thresholds_db, snr_db) or 1) - 1

    def rate_at(self, scheme: int, snr_db: float) -> float:
        """Return how often a block of a scheme fails at an SNR."""
        listed = self._listed[scheme]
        if listed is None:
            listed = self._listed[scheme] = self._rates[scheme].tolist()
        at = (snr_db - _LOWEST_DB) * _STEPS_PER_DB
        if at <= 0.0:
            return listed[0]
        below = int(at)
        if below >= len(listed) - 1:
            return listed[-1]
        return listed[below] + (listed[below + 1] - listed[below]) * (at - below)


def all_schemes(table: TableName, adds_lower_rates: bool) -> tuple[Scheme, ...]:
    """Return the schemes of a table in rising order, below them those of lower rates if asked for."""
    return (*(lower_rates(table) if adds_lower_rates else ()), *schemes(table))


def _normal(scheme: Scheme, num_bits: int, num_elements: int, snr_gap_db: float) -> Floats:
    """Return the error rate of a transport block at each ``GRID_DB``, shape (num_snrs,)."""
    from scipy.special import ndtr

    num_blocks, bits = code_blocks(num_bits, scheme.code_rate)
    symbols = num_elements / num_blocks
    mean, variance = information(scheme.bits_per_symbol)
    middle_db = float(np.interp(bits / symbols, mean, SNR_DB)) + snr_gap_db
    first, after = np.searchsorted(GRID_DB, (middle_db - _BELOW_DB, middle_db + _ABOVE_DB))
    at_db = GRID_DB[first:after] - snr_gap_db
    spare = symbols * np.interp(at_db, SNR_DB, mean) - bits + 0.5 * np.log2(symbols)
    spread = np.sqrt(np.maximum(symbols * np.interp(at_db, SNR_DB, variance), 1e-300))
    rates = np.zeros(len(GRID_DB))
    rates[:first] = 1.0
    rates[first:after] = 1.0 - (1.0 - ndtr(-spare / spread)) ** num_blocks
    return rates


def _read(curves: dict[int, Floats], num_blocks: int, bits: float) -> Floats:
    """Return the error rate of a transport block of so many code blocks, by tables of some lengths."""
    lengths = sorted(curves)
    longer = next((one for one in lengths if one >= bits), lengths[-1])
    shorter = max((one for one in lengths if one <= bits), default=lengths[0])
    share = (bits - shorter) / (longer - shorter) if longer > shorter else 0.0
    of_code_block = (1.0 - share) * curves[shorter] + share * curves[longer]
    return np.asarray(1.0 - (1.0 - of_code_block) ** num_blocks)


def sionna_folder() -> Path | None:
    """Return where the tables of Sionna are, without loading it; None where it is not installed."""
    found = find_spec("sionna")
    places = [] if found is None else list(found.submodule_search_locations or ())
    folders = (Path(place) / "sys" / "bler_tables" for place in places)
    return next((one for one in folders if one.is_dir()), None)


@cache
def _sionna(table: TableName) -> dict[int, dict[int, Floats]]:
    """Return Sionna's error rates at each ``GRID_DB``, by index of the scheme and code block length."""
    folder = sionna_folder()
    if folder is None:
        raise ModuleNotFoundError("sionna-no-rt is not installed")
    read: dict[str, Any] = json.loads((folder / f"{_SIONNA_FILES[table]}.json").read_text())
    (category,) = read["category"].values()
    (by_index,) = category["index"].values()
    return {
        int(index): {
            int(bits): np.interp(GRID_DB, one["SNR_db"], curve["BLER"]) for bits, curve in one["CBS"].items()
        }
        for index, one in by_index["MCS"].items()
    }
