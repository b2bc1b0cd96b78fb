"""The link budget: how a distance becomes a rate, term by term."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from cosim.radio.channel_settings import ChannelSettings
from cosim.radio.large_scale import LargeScale
from cosim.radio.rate import RateModel
from cosim.units import linear_to_db


@dataclass(frozen=True, slots=True)
class LinkBudget:
    """Every term of one subchannel's rate at one instant, in the order they are applied.

    ``gain_db`` is antenna gain - path loss - shadowing + fading + what a surface
    adds; the SNR is received power less noise power, in which are the receiver's
    noise figure and the interference, where there is any. ``data_share`` is what
    the estimation of a surface leaves of the rate. Where the gain ``is_traced``, path loss,
    shadowing, antennas and fading are in it, and are no terms.
    """

    link: str
    client: int
    subchannel: int
    time_ns: int
    distance_m: float
    path_loss_db: float
    shadowing_db: float
    antenna_gain_db: float
    fading_db: float
    surface_db: float
    gain_db: float
    bandwidth_hz: float
    tx_power_dbm: float
    tx_psd_dbm_per_hz: float
    received_power_dbm: float
    noise_psd_dbm_per_hz: float
    noise_figure_db: float
    interference_psd_dbm_per_hz: float
    noise_power_dbm: float
    snr_db: float
    data_share: float
    rate_bit_per_s: float
    spectral_efficiency_bit_per_s_per_hz: float
    is_traced: bool = False

    @classmethod
    def of(
        cls,
        radio: ChannelSettings,
        large: LargeScale,
        rate_model: RateModel,
        link: str,
        client: int,
        subchannel: int,
        time_ns: int,
        tx_power_w: float,
        bandwidth_hz: float,
        gain: float,
        direct: float,
        noise_psd_w_per_hz: float,
    ) -> Self:
        """Return the terms of linear gains with and without a surface, and of noise with interference."""
        snr = (tx_power_w / bandwidth_hz) * gain / noise_psd_w_per_hz
        rate = float(rate_model.rates(np.array([snr]), np.array([bandwidth_hz]))) * radio.surface.data_share
        tx_power_dbm, gain_db = float(linear_to_db(tx_power_w)) + 30.0, float(linear_to_db(gain))
        others_w_per_hz = noise_psd_w_per_hz - radio.noise_psd_w_per_hz
        return cls(
            link=link,
            client=client,
            subchannel=subchannel,
            time_ns=time_ns,
            distance_m=float(large.distances_m[0, client]),
            path_loss_db=float(large.path_loss_db[0, client]),
            shadowing_db=float(large.shadowing_db[0, client]),
            antenna_gain_db=float(large.antenna_gain_db[0, client]),
            fading_db=float(linear_to_db(direct / large.mean_gains[0, client])),
            surface_db=float(linear_to_db(gain / direct)) if gain != direct else 0.0,
            gain_db=gain_db,
            bandwidth_hz=bandwidth_hz,
            tx_power_dbm=tx_power_dbm,
            tx_psd_dbm_per_hz=tx_power_dbm - float(linear_to_db(bandwidth_hz)),
            received_power_dbm=tx_power_dbm + gain_db,
            noise_psd_dbm_per_hz=radio.noise_psd_dbm_per_hz,
            noise_figure_db=radio.noise_figure_db,
            interference_psd_dbm_per_hz=float(linear_to_db(others_w_per_hz)) + 30.0,
            noise_power_dbm=float(linear_to_db(noise_psd_w_per_hz * bandwidth_hz)) + 30.0,
            snr_db=float(linear_to_db(snr)),
            data_share=radio.surface.data_share,
            rate_bit_per_s=rate,
            spectral_efficiency_bit_per_s_per_hz=rate / bandwidth_hz,
            is_traced=radio.trace is not None and radio.trace.gives == "gains",
        )

    @property
    def is_interfered(self) -> bool:
        """Whether others are heard."""
        return self.interference_psd_dbm_per_hz > float("-inf")

    def terms(self) -> tuple[tuple[str, float, str], ...]:
        """Return (what, value, unit) of every term, in the order they are applied.

        Without a surface or interference there are no such terms.
        """
        surface = (("surface", self.surface_db, "dB"),) if self.surface_db else ()
        share = (("left for data", 100.0 * self.data_share, "%"),) if self.data_share < 1.0 else ()
        others = (("interference density", self.interference_psd_dbm_per_hz, "dBm/Hz"),)
        modelled = (
            ("distance", self.distance_m, "m"),
            ("path loss", self.path_loss_db, "dB"),
            ("shadowing", self.shadowing_db, "dB"),
            ("antenna gain", self.antenna_gain_db, "dB"),
            ("fading", self.fading_db, "dB"),
        )
        return (
            *(() if self.is_traced else modelled),
            *surface,
            ("gain", self.gain_db, "dB"),
            ("bandwidth", self.bandwidth_hz, "Hz"),
            ("transmit power", self.tx_power_dbm, "dBm"),
            ("transmit power density", self.tx_psd_dbm_per_hz, "dBm/Hz"),
            ("received power", self.received_power_dbm, "dBm"),
            ("thermal noise density", self.noise_psd_dbm_per_hz, "dBm/Hz"),
            ("noise figure", self.noise_figure_db, "dB"),
            *(others if self.is_interfered else ()),
            ("noise power", self.noise_power_dbm, "dBm"),
            ("SNR", self.snr_db, "dB"),
            *share,
            ("rate", self.rate_bit_per_s, "bit/s"),
            ("spectral efficiency", self.spectral_efficiency_bit_per_s_per_hz, "bit/s/Hz"),
        )
