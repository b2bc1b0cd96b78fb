"""The link budget: how a distance becomes a rate, term by term."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkBudget:
    """Every term of one subchannel's rate at one instant, in the order they are applied.

    ``gain_db`` is antenna gain - path loss - shadowing + fading + what a surface
    adds; the SNR is received power less noise power, in which are the receiver's
    noise figure and the interference, where there is any.
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
    rate_bit_per_s: float
    spectral_efficiency_bit_per_s_per_hz: float

    @property
    def is_interfered(self) -> bool:
        """Whether others are heard."""
        return self.interference_psd_dbm_per_hz > float("-inf")

    def terms(self) -> tuple[tuple[str, float, str], ...]:
        """Return (what, value, unit) of every term, in the order they are applied.

        Without a surface or interference there are no such terms.
        """
        surface = (("surface", self.surface_db, "dB"),) if self.surface_db else ()
        others = (("interference density", self.interference_psd_dbm_per_hz, "dBm/Hz"),)
        return (
            ("distance", self.distance_m, "m"),
            ("path loss", self.path_loss_db, "dB"),
            ("shadowing", self.shadowing_db, "dB"),
            ("antenna gain", self.antenna_gain_db, "dB"),
            ("fading", self.fading_db, "dB"),
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
            ("rate", self.rate_bit_per_s, "bit/s"),
            ("spectral efficiency", self.spectral_efficiency_bit_per_s_per_hz, "bit/s/Hz"),
        )
