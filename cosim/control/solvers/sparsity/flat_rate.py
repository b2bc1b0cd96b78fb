"""A flat channel of any width: its rate, what one more hertz adds, and its turning round.

With the power of a client spread over however much bandwidth it is given, the
rate is ``b log2(1 + c / b)``; ``c``, the SNR in one hertz, is received power over
noise PSD (and SNR gap), in Hz. It grows with ``b``, ever slower, towards ``c / ln 2``.

Source
------
Method card 2 (soft_tsfa), sections 8.1 and 8.4: bandwidth for a rate by the
branch -1 of Lambert's function.
"""

import numpy as np

from cosim.units import Floats

_LN2 = float(np.log(2.0))
_SMALL = 1e-2
_BRANCH = 1e-3


def flat_rate(snr_hz: Floats, bandwidth_hz: Floats) -> Floats:
    """Return the rate of a flat channel, bit/s; no bandwidth carries nothing.

    Examples
    --------
    >>> flat_rate(np.array([3e6]), np.array([1e6]))
    array([2000000.])
    """
    wide = bandwidth_hz > 0.0
    safe = np.where(wide, bandwidth_hz, 1.0)
    return np.where(wide, safe * np.log1p(snr_hz / safe) / _LN2, 0.0)


def rate_slope(snr_hz: Floats, bandwidth_hz: Floats) -> Floats:
    """Return what one more hertz adds to the rate, bit/s per Hz; positive bandwidths only."""
    return _bend(snr_hz / bandwidth_hz) / _LN2


def bandwidth_for_rate(snr_hz: Floats, rate_bit_per_s: Floats) -> Floats:
    """Return the bandwidth that carries a rate, Hz; infinite from ``snr_hz / ln 2`` on, which none carries.

    Examples
    --------
    >>> bandwidth_for_rate(np.array([3e6, 3e6]), np.array([2e6, 5e6]))
    array([1000000.,      inf])
    """
    from scipy.special import lambertw

    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.asarray(rate_bit_per_s * _LN2 / snr_hz)  # of the most the client can ever have
    inside = (share > 0.0) & (share < 1.0)
    z = np.where(inside, share, 0.5)
    left = 1.0 - z
    # Near the branch point the function loses half the digits, and its series has them.
    snr = np.where(
        left < _BRANCH,
        left * (2.0 + left * (8.0 / 3.0 + left * 28.0 / 9.0)),
        -lambertw(-z * np.exp(-z), -1).real / z - 1.0,
    )
    # One Newton step makes up for the digits the function loses on its way to the branch point.
    snr = snr - (np.log1p(snr) - z * snr) * (1.0 + snr) / (1.0 - z * (1.0 + snr))
    return np.where(inside, snr_hz / snr, np.where(share >= 1.0, np.inf, 0.0))


def _bend(snr: Floats) -> Floats:
    """Return ``log(1 + x) - x / (1 + x)``, by its series where the difference would lose its digits."""
    exact = np.log1p(snr) - snr / (1.0 + snr)
    small = np.minimum(snr, _SMALL)
    series = small**2 * (
        0.5 + small * (-2 / 3 + small * (0.75 + small * (-0.8 + small * (5 / 6 - small * 6 / 7))))
    )
    return np.where(snr < _SMALL, series, exact)
