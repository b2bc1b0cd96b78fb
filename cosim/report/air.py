"""What is known of the air beyond the record: plain numbers, drawn again from the scenario by the caller."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cosim.units import Floats, Ints

Decibels = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LinkAir:
    """One link.

    Attributes
    ----------
    name
        Such as ``main_uplink``.
    bandwidths_hz
        Width of each subchannel, Hz, shape (num_subchannels,).
    times_ns
        Begins of equal stretches of time, in the middle of which the SNR was
        looked at, shape (num_instants,).
    snr_db
        SNR of the client that held the subchannel then, dB, shape (num_subchannels,
        num_instants); NaN where nobody did.
    """

    name: str
    bandwidths_hz: Floats
    times_ns: Ints
    snr_db: Decibels


@dataclass(frozen=True, eq=False)
class Budgets:
    """How the rates of transfers came about at their start.

    Attributes
    ----------
    spans, offsets
        The transfers, shape (num_known,); ``offsets[i]`` to ``offsets[i + 1]`` are
        the entries of the i-th, one for each subchannel.
    subchannel, tx_power_w, gain, bandwidth_hz, rate_bit_per_s
        Of each entry: the power sent, W, the linear power gain, the width, Hz, and
        the subchannel's share of the rate, bit/s.
    """

    spans: Ints
    offsets: Ints
    subchannel: Ints
    tx_power_w: Floats
    gain: Floats
    bandwidth_hz: Floats
    rate_bit_per_s: Floats


@dataclass(frozen=True, eq=False)
class Air:
    """The air of a run.

    Attributes
    ----------
    distances_m, path_loss_db, shadowing_db
        Of each client, shape (num_clients,).
    antenna_gain_db, noise_psd_dbm_per_hz, noise_figure_db
        The same for all.
    links
        Those that take time.
    budgets
        Of the longest transfers.
    """

    distances_m: Floats
    path_loss_db: Floats
    shadowing_db: Floats
    antenna_gain_db: float
    noise_psd_dbm_per_hz: float
    noise_figure_db: float
    links: tuple[LinkAir, ...]
    budgets: Budgets
