"""The settings of the channel and its links, checked and frozen; nothing is drawn here."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from cosim.parts import Decibels, OneOf, Plane, Table
from cosim.radio.base_stations import BaseStations
from cosim.radio.base_stations.single import Single
from cosim.radio.csi import Csi
from cosim.radio.csi.perfect import Perfect
from cosim.radio.duplex import Duplex
from cosim.radio.duplex.fdd import Fdd
from cosim.radio.fading import Fading
from cosim.radio.fading.none import NoFading
from cosim.radio.geometry import DEFAULT_CARRIER_HZ
from cosim.radio.interference import Interference
from cosim.radio.interference.none import NoInterference
from cosim.radio.mobility import Mobility
from cosim.radio.mobility.static import Static
from cosim.radio.path_loss import PathLoss
from cosim.radio.path_loss.macro_3gpp import Macro3gpp
from cosim.radio.placement import Placement
from cosim.radio.placement.annulus import Annulus
from cosim.radio.rate import RateModel
from cosim.radio.rate.shannon import Shannon
from cosim.radio.shadowing import Shadowing
from cosim.radio.shadowing.log_normal import LogNormal
from cosim.radio.surface import Surface
from cosim.radio.surface.none import NoSurface
from cosim.radio.trace import Trace
from cosim.radio.transport import Transport
from cosim.radio.uplink_energy import UplinkEnergy
from cosim.units import dbm_to_w


class LinkSettings(Table):
    """The spectrum of one link: ``bandwidth_hz`` split evenly over ``num_subchannels``.

    ``subchannel_bandwidths_hz`` gives uneven widths instead; ``bandwidth_hz`` is
    then left out, and so may ``num_subchannels`` be. ``max_total_tx_power_dbm``
    limits the power summed over all clients; left out, there is no such limit. ``transport``
    is this link's instead of that of the radio.
    """

    plane: ClassVar[Plane] = "time"
    num_subchannels: int = Field(default=20, gt=0)
    bandwidth_hz: float | None = Field(default=10e6, gt=0.0)
    subchannel_bandwidths_hz: tuple[Annotated[float, Field(gt=0.0)], ...] | None = Field(
        default=None, min_length=1
    )
    max_total_tx_power_dbm: Decibels | None = None
    transport: Transport | None = None

    @model_validator(mode="before")
    @classmethod
    def _widths_stand_for_the_total(cls, given: Any) -> Any:
        """Let listed widths take the place of the default total and count."""
        if not isinstance(given, dict) or given.get("subchannel_bandwidths_hz") is None:
            return given
        widths = given["subchannel_bandwidths_hz"]
        filled = {"bandwidth_hz": None, **given}
        if isinstance(widths, list | tuple) and widths:
            filled.setdefault("num_subchannels", len(widths))
        return filled

    @model_validator(mode="after")
    def _one_way_to_say_how_wide(self) -> Self:
        if self.subchannel_bandwidths_hz is None:
            if self.bandwidth_hz is None:
                raise ValueError("no width was given; give bandwidth_hz or subchannel_bandwidths_hz")
            return self
        if self.bandwidth_hz is not None:
            raise ValueError(
                f"bandwidth_hz {self.bandwidth_hz:g} and subchannel_bandwidths_hz were both given; "
                "give one of them"
            )
        if len(self.subchannel_bandwidths_hz) != self.num_subchannels:
            raise ValueError(
                f"subchannel_bandwidths_hz has {len(self.subchannel_bandwidths_hz)} entries for "
                f"num_subchannels {self.num_subchannels}; give one for each, or leave num_subchannels out"
            )
        return self

    is_uplink: ClassVar[bool] = True
    """Whether clients send."""

    @property
    def is_modelled(self) -> bool:
        """Whether what it carries takes time."""
        return True

    @property
    def widths_hz(self) -> tuple[float, ...]:
        """The width of each subchannel, Hz."""
        if self.subchannel_bandwidths_hz is not None:
            return self.subchannel_bandwidths_hz
        assert self.bandwidth_hz is not None
        return (self.bandwidth_hz / self.num_subchannels,) * self.num_subchannels

    @property
    def max_total_tx_power_w(self) -> float | None:
        """The limit on the power summed over all clients, W; None for no limit."""
        return None if self.max_total_tx_power_dbm is None else dbm_to_w(self.max_total_tx_power_dbm)


class DownlinkSettings(LinkSettings):
    """The spectrum of a downlink and the power its server sends with, summed over all clients.

    A downlink that is not ``modelled`` is free: what it carries arrives at once,
    as papers assume of a server with ample power and spectrum.
    """

    is_uplink: ClassVar[bool] = False
    former_names: ClassVar[Mapping[str, str]] = {"counted": "modelled"}
    modelled: bool = False
    tx_power_dbm: Decibels = 46.0

    @property
    def is_modelled(self) -> bool:
        """As the setting says."""
        return self.modelled

    @model_validator(mode="after")
    def _server_keeps_the_limit(self) -> Self:
        if self.max_total_tx_power_dbm is not None and self.tx_power_dbm > self.max_total_tx_power_dbm:
            raise ValueError(
                f"tx_power_dbm {self.tx_power_dbm:g} is above max_total_tx_power_dbm "
                f"{self.max_total_tx_power_dbm:g}; lower the one or raise the other"
            )
        return self

    @property
    def tx_power_w(self) -> float:
        """What the server sends with, summed over all clients, W."""
        return dbm_to_w(self.tx_power_dbm)


class ChannelSettings(Table):
    """Everything that decides what arrives, and at which rate.

    The defaults are a macro cell without fast fading, in which split training is
    bound by its uploads. All that depends on frequency reads ``carrier_frequency_hz``;
    left out, it is 2 GHz, and a part may name a carrier of its own. ``antenna_gain_db`` is
    what antennas gain in all directions; base stations that have a pattern add it. With
    ``uplink_p0_dbm`` clients keep to open-loop power control: whatever they are granted,
    they send p0 + ``uplink_alpha`` times their coupling loss at most on each resource block. ``csi`` is
    what an allocator knows of the gains, and ``assumed_rate`` what it takes for the ``rate`` model, where
    that is not what the air has.
    A ``trace`` takes the place of fading, of whole gains or of rates. ``transport`` is that of all
    links which take time and have none of their own.

    ``seed`` is that of the air: places, ways, shadowing, line of sight, fading, surface, interference,
    phase errors of sums and losses of a transport are drawn from it. Without it the scenario's ``seed``
    decides them too. What is learned, the devices, and what allocators draw follow the scenario's
    alone, so that one training meets many airs.
    """

    plane: ClassVar[Plane] = "time"
    seed: int | None = Field(default=None, ge=0)
    carrier_frequency_hz: float | None = Field(default=None, gt=0.0)
    base_stations: Annotated[BaseStations, OneOf(BaseStations)] = Single.default()
    placement: Annotated[Placement, OneOf(Placement)] = Annulus(
        inner_m=50.0, outer_m=300.0, uniform_in="distance"
    )
    mobility: Annotated[Mobility, OneOf(Mobility)] = Static.default()
    path_loss: Annotated[PathLoss, OneOf(PathLoss)] = Macro3gpp.default()
    shadowing: Annotated[Shadowing, OneOf(Shadowing)] = LogNormal(std_db=8.0)
    fading: Annotated[Fading, OneOf(Fading)] = NoFading.default()
    surface: Annotated[Surface, OneOf(Surface)] = NoSurface.default()
    interference: Annotated[Interference, OneOf(Interference)] = NoInterference.default()
    rate: Annotated[RateModel, OneOf(RateModel)] = Shannon.default()
    assumed_rate: Annotated[RateModel | None, OneOf(RateModel)] = None
    duplex: Annotated[Duplex, OneOf(Duplex)] = Fdd.default()
    csi: Annotated[Csi, OneOf(Csi)] = Perfect.default()
    trace: Annotated[Trace | None, OneOf(Trace)] = None
    uplink_p0_dbm: Decibels | None = None
    uplink_alpha: float = Field(default=1.0, ge=0.0, le=1.0)
    uplink_energy: UplinkEnergy = UplinkEnergy.default()
    transport: Transport | None = None
    noise_psd_dbm_per_hz: Decibels = -174.0
    noise_figure_db: float = Field(default=9.0, ge=0.0, le=400.0)
    antenna_gain_db: Decibels = 10.0
    main_uplink: LinkSettings = LinkSettings(max_total_tx_power_dbm=27.8)
    federated_uplink: LinkSettings = LinkSettings(max_total_tx_power_dbm=27.8)
    main_downlink: DownlinkSettings = DownlinkSettings.default()
    federated_downlink: DownlinkSettings = DownlinkSettings.default()

    def air_seed(self, seed: int) -> int:
        """Return the seed of the air in a scenario with this one."""
        return seed if self.seed is None else self.seed

    @property
    def carrier_hz(self) -> float:
        """The carrier, Hz."""
        return DEFAULT_CARRIER_HZ if self.carrier_frequency_hz is None else self.carrier_frequency_hz

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user must know of the channel, in sentences."""
        known: tuple[str, ...] = ()
        if not self.csi.is_perfect:
            known = (f"radio.csi: to the allocator, gains are {self.csi.description}; nothing is predicted.",)
        if self.assumed_rate is not None:
            known += (
                f"radio.assumed_rate: allocators decide as if rates were {self.assumed_rate.rung}; those of "
                f"the air are {self.rate.rung}, and nothing is predicted.",
            )
        if self.interference.reuses:
            known += (
                f"radio.interference: under {self.interference.kind!r} allocators do not see what clients of "
                "other cells send; nothing is predicted.",
            )
        if self.duplex.share(is_uplink=True) < 1.0:
            shares = (100.0 * self.duplex.share(is_uplink=up) for up in (True, False))
            known += (
                "radio.duplex: uplinks have {:.3g} % of the time and downlinks {:.3g} %; nothing is "
                "predicted.".format(*shares),
            )
        peak_db = self.base_stations.peak_gain_db
        told: tuple[str, ...] = () if self.trace is None else (self.trace.note,)
        told = (*known, *told, *self._transport_notes())
        if peak_db is None or not self.antenna_gain_db:
            return told
        return (
            *told,
            f"radio.antenna_gain_db of {self.antenna_gain_db:g} dB is added to the pattern of the base "
            f"stations, which has up to {peak_db:.1f} dBi; set it to the gain of the clients' antennas.",
        )

    @property
    def noise_psd_w_per_hz(self) -> float:
        """Noise at a receiver, its noise figure included, W/Hz."""
        return dbm_to_w(self.noise_psd_dbm_per_hz + self.noise_figure_db)

    @property
    def is_plain(self) -> bool:
        """Whether gains are a client's own mean times fading whose blocks are drawn one by one."""
        return isinstance(self.mobility, Static) and self.is_undisturbed and self.fading.draws_rows_alone

    @property
    def is_undisturbed(self) -> bool:
        """Whether no surface changes a gain, and nobody else is heard."""
        return isinstance(self.surface, NoSurface) and isinstance(self.interference, NoInterference)

    def csi_of(self, name: str) -> Csi:
        """Return how a link is known."""
        return self.csi.on(name) or Perfect()

    def link(self, name: str) -> LinkSettings:
        """Return the settings of a link.

        Raises
        ------
        ValueError
            If there is no such link.
        """
        if name not in LINKS:
            raise ValueError(f"no link {name!r}; there are {', '.join(LINKS)}")
        found: LinkSettings = getattr(self, name)
        return found

    def _transport_notes(self) -> Iterator[str]:
        """Tell what messages cost beyond their payload."""
        if self.transport is not None:
            yield f"radio.transport: {self.transport.told}; what free links carry is there at once."
        for name in LINKS:
            own = self.link(name).transport
            if own is not None:
                told = own.told if self.link(name).is_modelled else "none, as the link is free"
                yield f"radio.{name}.transport: {told}."

    def transport_of(self, name: str) -> Transport | None:
        """Return the transport of a link; None where a message is there with its last bit."""
        link = self.link(name)
        own = self.transport if link.transport is None else link.transport
        return own if link.is_modelled else None


LINKS = tuple(
    name
    for name, field in ChannelSettings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, LinkSettings)
)
"""The links the radio describes, each with spectrum of its own."""
