"""The delay of a round in closed form: what the event clock will measure while the air holds still.

A round of split federated training is, for each of its local steps, a barrier
behind all forward passes and uploads, the main server's work, and a barrier
behind all downloads and backward passes; then one barrier behind all adapter
uploads. Links whose airtime is free are absent and take no time.

Source
------
FedsLLM, arXiv 2504.14667, delay model; method card 1, sections 5 and 6. The
downlinks are ours: the paper leaves them out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cosim.control.decision import Allocation
from cosim.control.loads import Cut, loads
from cosim.control.state import CellState, LinkState
from cosim.errors import AllocationError
from cosim.radio.grant import Grant
from cosim.radio.rate.shannon import Shannon
from cosim.units import Floats, Ints, db_to_linear


@dataclass(frozen=True, eq=False)
class Phase:
    """One barrier with a link in it: each client computes for a while and sends some bits.

    Attributes
    ----------
    link
        Name of the link.
    compute_s
        What each client computes within the barrier, s, shape (num_clients,).
    bits
        What each client sends, shape (num_clients,).
    gains
        Power gain over noise PSD and SNR gap, Hz/W, shape (num_clients, num_subchannels).
    bandwidths_hz
        Width of each subchannel, Hz, shape (num_subchannels,).
    max_tx_power_w, max_total_tx_power_w
        Limit of each client, W, shape (num_clients,), and of their sum.
    """

    link: str
    compute_s: Floats
    bits: Floats
    gains: Floats
    bandwidths_hz: Floats
    max_tx_power_w: Floats
    max_total_tx_power_w: float

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return int(self.gains.shape[0])

    @property
    def num_subchannels(self) -> int:
        """How many subchannels there are."""
        return int(self.gains.shape[1])

    def rates(self, owners: Ints, tx_power_w: Floats) -> Floats:
        """Return each client's rate, bit/s, shape (num_clients,).

        Parameters
        ----------
        owners, tx_power_w
            The client that owns each subchannel and its power there, W, both of
            shape (num_subchannels,).
        """
        gain = self.gains[owners, np.arange(self.num_subchannels)]
        each = self.bandwidths_hz * np.log1p(tx_power_w / self.bandwidths_hz * gain) / np.log(2.0)
        return np.bincount(owners, weights=each, minlength=self.num_clients).astype(float)

    def finish_s(self, rates_bit_per_s: Floats) -> Floats:
        """Return when each client is done, s, shape (..., num_clients); a rate of zero never ends."""
        return self.compute_s + airtime_s(self.bits, rates_bit_per_s)


@dataclass(frozen=True, eq=False)
class Delays:
    """What one round is made of, s; arrays have one entry per client."""

    client_forward_s: Floats
    activation_upload_s: Floats
    server_s: float
    gradient_download_s: Floats
    client_backward_s: Floats
    adapter_upload_s: Floats
    adapter_download_s: Floats
    local_steps: int

    @property
    def local_step_s(self) -> float:
        """One split step, s."""
        before = float((self.client_forward_s + self.activation_upload_s).max())
        return before + self.server_s + float((self.gradient_download_s + self.client_backward_s).max())

    @property
    def round_s(self) -> float:
        """One round, s."""
        adapters = float(self.adapter_upload_s.max()) + float(self.adapter_download_s.max())
        return self.local_steps * self.local_step_s + adapters

    def total_s(self, rounds: float) -> float:
        """Return what this many rounds take, s."""
        return rounds * self.round_s


def airtime_s(bits: Floats, rates_bit_per_s: Floats) -> Floats:
    """Return how long bits take, s; nothing to send takes no time, a rate of zero takes for ever."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(bits) > 0.0, bits / np.asarray(rates_bit_per_s), 0.0)


def normalised_gains(link: LinkState) -> Floats:
    """Return the gains over noise PSD and SNR gap, Hz/W, shape (num_clients, num_subchannels).

    Raises
    ------
    AllocationError
        If the link's rate is not Shannon's, on whose form power control rests.
    """
    if not isinstance(link.rate, Shannon):
        kind = getattr(link.rate, "kind", type(link.rate).__name__)
        raise AllocationError(
            f"{link.name}: power control needs the rate model 'shannon', not {kind!r}; choose that rate "
            "model, or an allocator that does not set power, such as 'equal'."
        )
    return np.asarray(link.gains / (link.noise_psd_w_per_hz * db_to_linear(link.rate.snr_gap_db)))


def link_rates(link: LinkState, grants: tuple[Grant, ...]) -> Floats:
    """Return the rate each grant has while the gains stay as they are, bit/s, shape (num_clients,)."""
    rates = np.zeros(link.num_clients)
    for client, grant in enumerate(grants):
        bandwidth_hz, gain = grant.bandwidths_hz, link.gains[client, grant.subchannels]
        if bandwidth_hz is None:
            bandwidth_hz = link.bandwidths_hz[grant.subchannels]
        else:
            gain = np.full(len(bandwidth_hz), link.gains[client].mean())
        snr = (grant.tx_power_w / bandwidth_hz) * gain / link.noise_psd_w_per_hz
        rates[client] = link.rate.rates(snr, bandwidth_hz)
    return rates


def predict(state: CellState, allocation: Allocation) -> Delays:
    """Return the delays of a round under an allocation, for any allocator and rate model.

    Every client is taken to have its grant for itself: grants that take turns
    on a subchannel, or are lent while their owner is silent, are not foreseen.
    """
    rates = {name: link_rates(link, allocation.grants[name]) for name, link in state.links.items()}
    return delays_at_rates(state, allocation.cut, allocation.lora_rank, rates)


def delays_at_rates(
    state: CellState, cut: Cut, lora_rank: int, rates_bit_per_s: Mapping[str, Floats]
) -> Delays:
    """Return the delays of a round at given rates; a link without rates is free.

    Parameters
    ----------
    cut
        Blocks kept on every client, or on each.
    rates_bit_per_s
        For each link that counts, each client's rate, bit/s, shape (num_clients,).
    """
    load = loads(state, cut, lora_rank)
    speeds = np.asarray(state.client_flop_per_s, dtype=float)

    def air(link: str, bits: Floats) -> Floats:
        if link not in rates_bit_per_s:
            return np.zeros(state.num_clients)
        return airtime_s(bits, rates_bit_per_s[link])

    return Delays(
        client_forward_s=load.forward_flop / speeds,
        activation_upload_s=air("main_uplink", load.activation_bits),
        server_s=load.server_flop / state.main_server_flop_per_s,
        gradient_download_s=air("main_downlink", load.gradient_bits),
        client_backward_s=load.backward_flop / speeds,
        adapter_upload_s=air("federated_uplink", load.adapter_bits),
        adapter_download_s=air("federated_downlink", load.returned_bits),
        local_steps=state.local_steps,
    )
