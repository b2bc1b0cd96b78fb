"""What a controller knows of the gains of a link, and the sounding by which it gets to know them."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cosim.radio.channel import Channel
from cosim.radio.channel_settings import ChannelSettings, DownlinkSettings
from cosim.radio.csi import Complexes, Sight
from cosim.rng import stream
from cosim.units import Floats


def known_gains(channel: Channel, link: str, time_ns: int, max_tx_power_w: Floats) -> Floats:
    """Return the gains that are known at an instant, shape (num_clients, num_subchannels).

    They give the right SNR with the noise alone. A pure function of (settings, seed, link, client,
    time): who asks twice at one instant gets one measurement.

    Parameters
    ----------
    max_tx_power_w
        What each client sends pilots with, or is sent them with, W, shape (num_clients,).
    """
    csi = channel.radio.csi_of(link)
    if csi.is_perfect:
        return channel.gain_over_noise_alone_at(link, time_ns)
    seen = _measured(channel, link, time_ns, max_tx_power_w)
    return seen if isinstance(seen, np.ndarray) else csi.known(seen.gains, seen.sight)


def known_amplitudes(channel: Channel, link: str, time_ns: int, max_tx_power_w: Floats) -> Complexes:
    """Return what senders know of their own channels, shape (num_clients, num_subchannels).

    Complex amplitudes, whose squares are gains and whose phases are by how much the known phase is
    off; otherwise as :func:`known_gains`.
    """
    seen = _measured(channel, link, time_ns, max_tx_power_w)
    if isinstance(seen, np.ndarray):
        return np.sqrt(seen).astype(np.complex128)
    found = channel.radio.csi_of(link).estimate(np.sqrt(seen.gains).astype(np.complex128), seen.sight)
    return np.asarray(found / np.sqrt(seen.scale))


class _Seen(NamedTuple):
    """Gains over noise alone when they were measured, ``scale`` of them to gains, and how they are seen."""

    gains: Floats
    scale: Floats
    sight: Sight


def _measured(channel: Channel, link: str, time_ns: int, max_tx_power_w: Floats) -> Floats | _Seen:
    """Return what is measured of what is known at an instant; the means where nothing has arrived yet."""
    csi = channel.radio.csi_of(link)
    measured_ns, widths_hz = time_ns - csi.delay_ns, channel.bandwidths_hz(link)
    from_ns = max(measured_ns, 0)
    means = np.repeat(channel.mean_gains_at(link, from_ns)[:, np.newaxis], len(widths_hz), axis=1)
    if measured_ns < 0 and channel.block_ns is not None:
        return means
    gains, all_gains = channel.gain_over_noise_alone_at(link, from_ns), channel.gain_at(link, from_ns)
    scale = np.divide(gains, all_gains, out=np.ones_like(gains), where=all_gains > 0.0)
    root = stream(channel.seed, "radio", "csi", link)
    sight = Sight(
        mean_gains=means * scale,
        snr_of_gain=max_tx_power_w[:, np.newaxis] / widths_hz.sum() / channel.noise_psd_w_per_hz,
        streams=tuple(root.child(client, time_ns) for client in range(channel.num_clients)),
    )
    return _Seen(gains, scale, sight)


class Sounding(NamedTuple):
    """What goes over the air so that a link is known.

    Attributes
    ----------
    link
        Which one.
    is_uplink
        Whether clients send the pilots, in turn; else the server sends them once.
    pilots_ns, report_ns, report_bits
        How long the pilots of a sender and the report of a client last, ns; bits of a report.
    """

    link: str
    is_uplink: bool
    pilots_ns: int
    report_ns: int
    report_bits: int

    def lasts_ns(self, num_clients: int) -> int:
        """Return how long it takes with so many clients, ns."""
        return (num_clients if self.is_uplink else 1) * self.pilots_ns + num_clients * self.report_ns


def soundings(radio: ChannelSettings, links: Iterable[str]) -> list[Sounding]:
    """Return what of these links takes a sounding ahead of each decision."""
    found = []
    for name in links:
        csi, settings = radio.csi_of(name), radio.link(name)
        num = settings.num_subchannels
        one = Sounding(
            name,
            not isinstance(settings, DownlinkSettings),
            csi.pilots_ns,
            csi.report_ns(num),
            csi.bits_of_subchannel * num,
        )
        found += [one] if one.lasts_ns(1) else []
    return found
