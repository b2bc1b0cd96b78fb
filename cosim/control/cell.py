"""The cell as allocators see it: devices, air and terms, made into a snapshot."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cached_property, partial

import numpy as np

from cosim.compute.device import Device
from cosim.control.conditions import Conditions
from cosim.control.decision import Allocation
from cosim.control.heard import Heard
from cosim.control.knobs import SURFACE_PHASES, Knob, Setting, surface_phases
from cosim.control.reports import REPORT, REPORT_BITS
from cosim.control.stages import Round, after
from cosim.control.state import CellState, LateLinkState, LinkState, Sparsity, SurfaceState
from cosim.control.terms import Terms
from cosim.radio.channel_settings import LINKS, DownlinkSettings
from cosim.radio.knowledge import Sounding, known_gains, soundings
from cosim.radio.rate import RateModel
from cosim.rng import stream
from cosim.units import Floats


class Cell:
    """What decisions are about.

    Parameters
    ----------
    clients, main_server, federated_server
        The devices.
    conditions
        The air, and who shares it out.
    terms
        What is decided about.

    Attributes
    ----------
    channel
        The channel; decisions about the phases of a surface make another one.
    sounded_ns
        When the latest sounding began, ns: what is known of links that take one is of then.
    """

    def __init__(
        self,
        clients: Sequence[Device],
        main_server: Device,
        federated_server: Device,
        conditions: Conditions,
        terms: Terms,
    ) -> None:
        self._clients, self._main_server, self._federated_server = clients, main_server, federated_server
        self._conditions, self._terms = conditions, terms
        self.channel = conditions.channel
        self.sounded_ns = 0

    def links(self) -> list[str]:
        """Return the links whose airtime is allocated."""
        return [name for name in LINKS if name in self._terms.links and name in self.channel.modelled]

    def state(self, time_ns: int, round_: int, decided: Allocation | None, heard: Heard) -> CellState:
        """Return the snapshot an allocator sees, under the decision that holds."""
        terms = self._terms
        lora_rank = terms.lora_rank if decided is None else decided.lora_rank
        cut_layer, cut_layers = terms.cut_layer, terms.cut_layers
        client_cut_layers = terms.client_cut_layers
        if decided is not None:
            cut_layer, cut_layers = decided.cut_layer, (decided.cut_layer,)
            client_cut_layers = decided.client_cut_layers
        elif client_cut_layers is not None:
            cut_layer = min(client_cut_layers)
        elif cut_layer not in cut_layers:
            cut_layer = cut_layers[-1]
        return CellState(
            time_ns=time_ns,
            round=round_,
            links={name: self.link_state(name, time_ns) for name in self.links()},
            client_flop_per_s=np.array([device.flop_per_s for device in self._clients]),
            main_server_flop_per_s=self._main_server.flop_per_s,
            federated_server_flop_per_s=self._federated_server.flop_per_s,
            phases=self._phases(max(round_, 1), is_left=heard.has_reported),
            cut_layer=cut_layer,
            cut_layers=cut_layers,
            client_cut_layers=client_cut_layers,
            may_cut_apart=terms.may_cut_apart,
            lora_rank=lora_rank,
            local_steps=terms.local_steps,
            weights=self._weights(heard.absent),
            stream=stream(self.channel.seed, "allocation", round_),
            is_settled=decided is not None,
            elapsed_s=heard.elapsed_s(time_ns),
            last_round_s=heard.last_round_s,
            memory={} if decided is None or round_ == 1 else decided.memory,
            arrays={} if decided is None or round_ == 1 else decided.arrays,
            gains_at=self.channel.gain_over_noise_alone_at,
            block_ns=self.channel.block_ns,
            sparsity=self._sparsity(lora_rank, max(round_, 1), heard),
            knobs=self._knobs(),
            reported=heard.reported,
            outcomes=() if decided is None else heard.outcomes,
            surface=self._surface(time_ns),
            model_hash=terms.model_hash,
            data_hash=terms.data_hash,
            measured_s=tuple(one.measured_s for one in self._clients),
        )

    def link_state(self, name: str, time_ns: int) -> LinkState:
        """Return a link at an instant."""
        channel, settings = self.channel, self.channel.radio.link(name)
        total_w = settings.max_total_tx_power_w
        limits, widths_hz = self._limits_w(name), channel.bandwidths_hz(name)
        if isinstance(settings, DownlinkSettings):
            total_w = settings.tx_power_w

        known_ns = self.sounded_ns if any(one.link == name for one in self.soundings) else time_ns

        def mean_gains() -> Floats:
            return np.repeat(channel.mean_gains_at(name, time_ns)[:, np.newaxis], len(widths_hz), axis=1)

        return LateLinkState.of(
            partial(known_gains, channel, name, known_ns, self.pilot_powers_w(name)),
            mean_gains,
            name=name,
            bandwidths_hz=widths_hz,
            noise_psd_w_per_hz=channel.noise_psd_w_per_hz,
            max_tx_power_w=limits,
            max_total_tx_power_w=float("inf") if total_w is None else total_w,
            rate=channel.radio.assumed_rate or channel.rate_model(name, 0, time_ns),
            client_rates=self._traced(name, time_ns),
            data_share=channel.radio.surface.data_share
            * channel.radio.duplex.share(is_uplink=settings.is_uplink),
        )

    def _traced(self, link: str, time_ns: int) -> tuple[RateModel, ...] | None:
        """Return the rate model of each client, where a trace gives each its own; None where all have one."""
        channel = self.channel
        assumed, trace = channel.radio.assumed_rate, channel.radio.trace
        if assumed is not None or trace is None or trace.gives != "rates":
            return None
        return tuple(channel.rate_model(link, client, time_ns) for client in range(channel.num_clients))

    def _limits_w(self, name: str) -> Floats:
        """Return the most each client sends over a link, or is sent, W, shape (num_clients,)."""
        settings = self.channel.radio.link(name)
        if isinstance(settings, DownlinkSettings):
            return np.full(len(self._clients), settings.tx_power_w)
        return np.array(self._conditions.max_tx_power_w)

    def pilot_powers_w(self, name: str) -> Floats:
        """Return what pilots of each client are sent with, who has the whole link then, W."""
        total_w = self.channel.radio.link(name).max_total_tx_power_w
        return np.minimum(self._limits_w(name), np.inf if total_w is None else total_w)

    @cached_property
    def soundings(self) -> list[Sounding]:
        """What goes over the air ahead of each decision."""
        return soundings(self.channel.radio, [one for one in self.links() if one not in self._terms.summed])

    @property
    def is_known_perfectly(self) -> bool:
        """Whether all gains are known as they are, and what rates they make."""
        radio = self.channel.radio
        return radio.assumed_rate is None and all(radio.csi_of(name).is_perfect for name in self.links())

    def _knobs(self) -> tuple[Knob, ...]:
        """Return what a decision may set: of the scheme, and the phases of a surface."""
        surface = self.channel.radio.surface
        if not surface.elements:
            return self._terms.knobs
        return (*self._terms.knobs, surface_phases(surface.elements, surface.levels))

    def _surface(self, time_ns: int) -> SurfaceState | None:
        if (
            not self.channel.radio.surface.elements
            or SURFACE_PHASES not in self._conditions.allocator.sets_knobs
        ):
            return None
        return SurfaceState.of(self.channel, self.links(), time_ns)

    def _phases(self, round_: int, *, is_left: bool) -> Callable[[Setting], Round]:
        """Return what gives the stages of a round, or those behind the reports that have arrived."""
        phases, reports = self._terms.phases, self._conditions.allocator.reports

        def stages(setting: Setting) -> Round:
            whole = phases(round_, setting, reports)
            return after(whole, REPORT) if is_left else whole

        return stages

    def _sparsity(self, lora_rank: int, round_: int, heard: Heard) -> Sparsity | None:
        found = self._terms.sparsity(lora_rank, round_)
        if found is None:
            return None
        if not self._conditions.allocator.reports:
            # room for a report that nobody sends: results of old stay as they were
            return replace(found, overhead_bits=found.overhead_bits + REPORT_BITS)
        energies = heard.reported.get("energies", (None,))
        known = next((one for one in energies if one is not None), None)
        if not heard.has_reported or known is None:
            return found
        nothing = np.zeros_like(known)
        return replace(found, energies=tuple(nothing if one is None else one for one in energies))

    def _weights(self, absent: Collection[int]) -> Floats:
        """Return the shares in the data of those who take part in this round, adding up to one."""
        weights = np.array(self._terms.weights)
        if absent:
            weights[list(absent)] = 0.0
            weights /= weights.sum()
        return weights
