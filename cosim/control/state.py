"""The snapshot an allocator sees: frozen, plain numbers, SI units."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np

from cosim.control.knobs import Knob, Setting
from cosim.control.reports import Outcome, Reported
from cosim.control.stages import Round
from cosim.radio.channel import Channel
from cosim.radio.rate import RateModel
from cosim.radio.surface import Complexes
from cosim.rng import Stream
from cosim.units import Floats, Ints


@dataclass(frozen=True)
class Sparsity:
    """What may be left out of the adapters that are sent, where the scheme's codec can.

    Attributes
    ----------
    dense_bits
        The numbers of all rank pairs.
    overhead_bits
        What goes with them however few they are, such as which ones they are.
    pair_bits
        Bits of each rank pair, in the codec's order, shape (num_pairs,).
    energies
        For each client what is lost if a pair is not sent, shape (num_pairs,);
        None where nobody has reported it.
    """

    dense_bits: int
    overhead_bits: int
    pair_bits: Ints
    energies: tuple[Floats, ...] | None = None


@dataclass(frozen=True)
class LinkState:
    """One link whose airtime counts.

    Attributes
    ----------
    bandwidths_hz
        Width of each subchannel, Hz, shape (num_subchannels,).
    gains
        Linear power gains, shape (num_clients, num_subchannels), scaled down where
        there is interference: with the noise alone they give the right SNR.
    mean_gains
        The same before fading: path loss, shadowing and antennas alone.
    noise_psd_w_per_hz
        Noise at the receiver with its noise figure, W/Hz.
    max_tx_power_w
        Limit of each client's power over its subchannels, W, shape (num_clients,).
        On a downlink the server sends, and this is the server's own limit.
    max_total_tx_power_w
        Limit of the sum over all subchannels, W; infinite where there is none.
    rate
        Turns SNR into bit/s.
    data_share
        Share of that rate that is left for data.
    client_rates
        That of each client, where a trace gives each its own.
    """

    name: str
    bandwidths_hz: Floats
    gains: Floats
    mean_gains: Floats
    noise_psd_w_per_hz: float
    max_tx_power_w: Floats
    max_total_tx_power_w: float
    rate: RateModel
    data_share: float = 1.0
    client_rates: tuple[RateModel, ...] | None = None

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return len(self.max_tx_power_w)

    @property
    def num_subchannels(self) -> int:
        """How many subchannels there are."""
        return len(self.bandwidths_hz)


class LateLinkState(LinkState):
    """A link whose gains are drawn when they are asked for: an allocator that sees none pays for none."""

    draw: Callable[[], Floats]
    draw_mean: Callable[[], Floats]

    @classmethod
    def of(cls, draw: Callable[[], Floats], draw_mean: Callable[[], Floats], **known: Any) -> Self:
        """Return a link, with what gives its gains in the place of them."""
        link = cls(gains=_NOTHING, mean_gains=_NOTHING, **known)
        vars(link).update(draw=draw, draw_mean=draw_mean)
        for name in ("gains", "mean_gains"):
            del vars(link)[name]
        return link

    gains = cached_property(lambda self: self.draw())
    mean_gains = cached_property(lambda self: self.draw_mean())


_NOTHING = np.zeros((0, 0))


@dataclass(frozen=True, eq=False)
class SurfaceState:
    """A surface whose phases a decision may set.

    Attributes
    ----------
    num_elements, num_levels
        How many elements, and how many phases each can have, evenly around the circle.
    direct, reflected
        For each link the amplitudes of every client's direct path, shape (num_clients,
        num_subchannels), and of its paths over each element at phase zero, shape
        (num_clients, num_elements); scaled down by interference as gains are, in the mean
        over the subchannels for the latter.
    """

    num_elements: int
    num_levels: int
    direct: Mapping[str, Complexes]
    reflected: Mapping[str, Complexes]

    @classmethod
    def of(cls, cell: Channel, links: Iterable[str], time_ns: int) -> Self:
        """Return the surface of a channel at an instant."""
        direct, reflected = {}, {}
        for link in links:
            now, gains = cell.gain_over_noise_alone_at(link, time_ns), cell.gain_at(link, time_ns)
            scale = np.divide(now, gains, out=np.ones_like(gains), where=gains > 0.0)
            amplitudes = cell.surface_amplitudes(link, time_ns)
            direct[link] = np.sqrt(scale) * amplitudes[0]
            reflected[link] = np.sqrt(scale.mean(axis=1, keepdims=True)) * amplitudes[1]
        return cls(cell.radio.surface.elements, cell.radio.surface.levels, direct, reflected)

    def gains(self, link: str, levels: Ints) -> Floats:
        """Return the gains of a link under phases, shape (num_clients, num_subchannels)."""
        turned = self.reflected[link] @ np.exp(2j * np.pi / self.num_levels * levels)
        return np.asarray(np.abs(self.direct[link] + turned[:, np.newaxis]) ** 2)


@dataclass(frozen=True)
class CellState:
    """All an allocator may know.

    Attributes
    ----------
    links
        The links whose airtime counts, by name.
    client_flop_per_s, main_server_flop_per_s, federated_server_flop_per_s
        Speeds, FLOP/s, shape (num_clients,) and two numbers.
    phases
        ``phases(setting)`` gives the stages of the round, or of what is left of it; empty
        where the scheme says none.
    cut_layer, lora_rank
        What the scenario asks for; an allocator may choose otherwise among
        ``cut_layers`` and any positive rank.
    client_cut_layers
        Blocks each client keeps, where that is given or was decided; they stay as
        they are. None where all are cut alike.
    may_cut_apart
        Whether the scheme can keep another number of blocks on each client.
    local_steps
        Mini-batches of each client in a round.
    weights
        Share of each client in the data of those who take part in the round, adding up to
        one, shape (num_clients,); 0 for who does not take part.
    is_settled
        Whether cut layer and rank were decided before and stay as they are.
    stream
        Chance for an allocator that draws, of its own for each decision.
    elapsed_s
        How much of the round has passed, s; 0 at its beginning.
    last_round_s
        How long the round before lasted, s; None where none has ended since the last decision.
    memory, arrays
        What the allocator's last decision asked to be reminded of.
    gains_at, block_ns
        Gains of a link at any instant, and how long they hold, None for ever: for a baseline
        that knows more than a controller can. None where nobody can tell.
    sparsity
        What may be left out of the adapters; None where they are sent whole.
    knobs
        What a decision may set beside grants, cut and rank.
    reported
        The scalars the allocator asked for, as they last arrived.
    outcomes
        What came of the last decision, client by client; empty before there is one.
    surface
        The surface whose phases may be set; None without one.
    model_hash, data_hash
        What is trained, to be held against a table of measured rounds; empty
        where nobody says.
    measured_s
        Seconds of each client's mini-batch by computation, where they were measured; FLOP over
        speed elsewhere.
    """

    time_ns: int
    round: int
    links: Mapping[str, LinkState]
    client_flop_per_s: Floats
    main_server_flop_per_s: float
    federated_server_flop_per_s: float
    phases: Callable[[Setting], Round]
    cut_layer: int
    cut_layers: tuple[int, ...]
    lora_rank: int
    local_steps: int
    weights: Floats
    stream: Stream
    client_cut_layers: tuple[int, ...] | None = None
    may_cut_apart: bool = False
    is_settled: bool = False
    elapsed_s: float = 0.0
    last_round_s: float | None = None
    memory: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, Floats] = field(default_factory=dict)
    gains_at: Callable[[str, int], Floats] | None = None
    block_ns: int | None = None
    sparsity: Sparsity | None = None
    knobs: tuple[Knob, ...] = ()
    reported: Reported = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    surface: SurfaceState | None = None
    model_hash: str = ""
    data_hash: str = ""
    measured_s: tuple[Mapping[str, float], ...] = ()

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return len(self.client_flop_per_s)

    def measured(self, name: str, client: int | None) -> float | None:
        """Return the seconds of a client's computation of that name; None where it was not measured."""
        return None if client is None or not self.measured_s else self.measured_s[client].get(name)
