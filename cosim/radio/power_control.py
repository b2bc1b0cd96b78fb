"""Open-loop power control: who is far sends with more power, but does not make up for all of the loss."""

import numpy as np

from cosim.units import Floats, linear_to_db

BLOCK_HZ = 180e3
"""Width of a resource block of 15 kHz subcarriers, Hz."""


def open_loop_psd_w_per_hz(p0_dbm: float, alpha: float, gains: Floats) -> Floats:
    """Return what a sender of these linear gains before fading sends, W/Hz, same shape.

    Parameters
    ----------
    p0_dbm
        What is to arrive of a resource block where ``alpha`` is 1, dBm.
    alpha
        Share of the loss, in dB, that is made up for.

    Source
    ------
    3GPP TS 38.213, clause 7.1.1, without its closed loop.

    Examples
    --------
    >>> block_w = open_loop_psd_w_per_hz(-90.0, 0.5, np.array(1e-10)) * BLOCK_HZ
    >>> round(float(linear_to_db(block_w)) + 30.0, 9)  # -90 + 0.5 * 100 dBm
    -40.0
    """
    sent_dbm = p0_dbm - alpha * linear_to_db(gains)
    return np.asarray(10.0 ** ((sent_dbm - 30.0) / 10.0) / BLOCK_HZ)
