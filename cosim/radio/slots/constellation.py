"""What a symbol of a constellation tells of its bits, under Gaussian noise.

Source
------
Mean and variance of the information density of equally likely points: G. Ungerboeck,
"Channel coding with multilevel/phase signals", IEEE Trans. Inf. Theory 28(1), 1982; Y. Polyanskiy,
H. V. Poor and S. Verdu, "Channel coding rate in the finite blocklength regime", IEEE Trans. Inf.
Theory 56(5), 2010. The betas are derived here.
"""

from functools import cache

import numpy as np

from cosim.units import Floats

SNR_DB: Floats = np.arange(-150, 226) / 5.0
"""SNRs for which numbers are worked out, dB: every fifth of one."""
_NUM_NODES = 32


@cache
def information(bits_per_symbol: int) -> tuple[Floats, Floats]:
    """Return mean and variance of the information of a square QAM symbol, bit and bit^2, at each ``SNR_DB``.

    In phase and in quadrature it carries one point each of a pulse amplitude modulation.
    """
    num_levels = 2 ** (bits_per_symbol // 2)
    levels = np.arange(1 - num_levels, num_levels, 2.0)
    levels /= np.sqrt((levels**2).mean())
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NUM_NODES)
    weights /= weights.sum()
    amplitude = np.sqrt(10.0 ** (SNR_DB / 10.0))[:, np.newaxis, np.newaxis, np.newaxis]
    apart = amplitude * (levels[: num_levels // 2, np.newaxis] - levels)[:, np.newaxis, :]
    # of shape (num_snrs, num_levels / 2, num_nodes, num_levels); the other half is a mirror image
    exponents = -apart * (apart / 2.0 + nodes[:, np.newaxis])
    density = np.log2(num_levels) - np.log2(np.exp(exponents).sum(axis=-1))
    mean = (density @ weights).mean(axis=-1)
    variance = ((density - mean[:, np.newaxis, np.newaxis]) ** 2 @ weights).mean(axis=-1)
    return 2.0 * mean, 2.0 * variance


@cache
def betas(bits_per_symbol: int) -> Floats:
    """Return the beta of exponential effective SNR mapping at each ``SNR_DB``, linear.

    The mean of 1 - exp(-snr / beta) and that of the information agree to second order in how far
    SNRs are apart if beta = -I' / I'' there, with derivatives by the linear SNR.
    """
    snr = 10.0 ** (SNR_DB / 10.0)
    slope = np.gradient(information(bits_per_symbol)[0], snr)
    bend = np.gradient(slope, snr)
    return np.asarray(np.where(bend < 0.0, -slope / np.minimum(bend, -1e-300), snr))
