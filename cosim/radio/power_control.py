"""Open-loop power control: who is far sends with more power, but does not make up for all of the loss."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cosim.radio.channel import Channel
from cosim.radio.grant import Grant
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


def power_controlled(
    channel: Channel, grants: Mapping[str, tuple[Grant, ...]], time_ns: int
) -> Mapping[str, tuple[Grant, ...]]:
    """Return grants with what power control leaves of the powers on uplinks; as they are without any."""
    radio = channel.radio
    if radio.uplink_p0_dbm is None:
        return grants
    gains = channel.large_scale_at(time_ns).mean_gains[0]
    most = open_loop_psd_w_per_hz(radio.uplink_p0_dbm, radio.uplink_alpha, gains).tolist()

    def limited(link: str, grant: Grant, psd_w_per_hz: float) -> Grant:
        split_hz = grant.bandwidths_hz
        widths_hz = channel.bandwidths_hz(link)[grant.subchannels] if split_hz is None else split_hz
        return replace(grant, tx_power_w=np.minimum(grant.tx_power_w, psd_w_per_hz * widths_hz))

    return {
        name: tuple(limited(name, *one) for one in zip(granted, most, strict=True))
        if radio.link(name).is_uplink
        else granted
        for name, granted in grants.items()
    }
