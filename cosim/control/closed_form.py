"""The delay of a round in closed form: what the event clock will measure while the air holds still.

A walk over the stages of a round. Links whose airtime is free take no time.

Source
------
For the rounds of ``split_federated`` it is the delay model of FedsLLM, arXiv
2504.14667; method card 1, sections 5 and 6. The downlinks are ours: the paper
leaves them out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cosim.control.decision import Allocation, Plan
from cosim.control.stages import CLIENT, FEDERATED_SERVER, MAIN_SERVER, Compute, Duration, Round, Stage, lasts
from cosim.control.state import CellState, LinkState
from cosim.errors import AllocationError
from cosim.radio.grant import Grant
from cosim.radio.rate.shannon import Shannon
from cosim.radio.rate.truncated_shannon import TruncatedShannon
from cosim.units import Floats, Ints, db_to_linear, drain_ns, seconds_to_ns


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
    cap_bit_per_s_per_hz
        The most that a subchannel carries.
    """

    link: str
    compute_s: Floats
    bits: Floats
    gains: Floats
    bandwidths_hz: Floats
    max_tx_power_w: Floats
    max_total_tx_power_w: float
    cap_bit_per_s_per_hz: float = np.inf

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return int(self.gains.shape[0])

    @property
    def num_subchannels(self) -> int:
        """How many subchannels there are."""
        return int(self.gains.shape[1])

    def rates(self, assignment: Ints, tx_power_w: Floats) -> Floats:
        """Return each client's rate, bit/s, shape (num_clients,).

        Parameters
        ----------
        assignment, tx_power_w
            The client that owns each subchannel and its power there, W, both of
            shape (num_subchannels,).
        """
        gain = self.gains[assignment, np.arange(self.num_subchannels)]
        each = self.bandwidths_hz * self.nats(tx_power_w / self.bandwidths_hz * gain) / np.log(2.0)
        return np.bincount(assignment, weights=each, minlength=self.num_clients).astype(float)

    def nats(self, snr: Floats) -> Floats:
        """Return what is carried at an SNR over the gap, nat/s/Hz, of its shape."""
        return np.asarray(np.minimum(np.log1p(snr), self.cap_bit_per_s_per_hz * np.log(2.0)))

    def finish_s(self, rates_bit_per_s: Floats) -> Floats:
        """Return when each client is done, s, shape (..., num_clients); a rate of zero never ends."""
        return self.compute_s + airtime_s(self.bits, rates_bit_per_s)


class Forecast(NamedTuple):
    """How long a round lasts while the air holds still.

    Attributes
    ----------
    round_ns
        What the clock will measure, each span rounded up to the nanosecond by itself; None if never.
    round_s
        The same in floats, not rounded; infinite if never.
    """

    round_ns: int | None
    round_s: float


def airtime_s(bits: Floats, rates_bit_per_s: Floats) -> Floats:
    """Return how long bits take, s; nothing to send takes no time, a rate of zero takes for ever."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(bits) > 0.0, bits / np.asarray(rates_bit_per_s), 0.0)


def normalised_gains(link: LinkState) -> Floats:
    """Return the gains over noise PSD and SNR gap, Hz/W, shape (num_clients, num_subchannels).

    Raises
    ------
    AllocationError
        If the link's rate is not Shannon's, on whose form the allocator rests.
    """
    if not isinstance(link.rate, Shannon):
        raise AllocationError(
            f"{link.name}: what the allocator decides rests on the rate model 'shannon', not "
            f"{_kind_of(link)!r}; {_WAYS_OUT}"
        )
    return np.asarray(link.gains / (link.noise_psd_w_per_hz * db_to_linear(link.rate.snr_gap_db)))


def phase_of(link: LinkState, compute_s: Floats, bits: Floats) -> Phase:
    """Return the barrier of a link whose rate is Shannon's, or a share of it up to a cap.

    A share ``a`` of the rate over a width is the rate over ``a`` times the width at ``a`` times the gain,
    whatever the power.

    Raises
    ------
    AllocationError
        If the rate has another form, or begins above an SNR only, where least power is no convex problem.
    """
    rate, scale, cap = link.rate, 1.0, float("inf")
    if isinstance(rate, TruncatedShannon) and rate.min_snr_db is None:
        scale, cap = rate.attenuation, rate.max_bit_per_s_per_hz / rate.attenuation
        gains = scale * link.gains / link.noise_psd_w_per_hz
    elif isinstance(rate, Shannon):
        gains = normalised_gains(link)
    else:
        raise AllocationError(
            f"{link.name}: power control needs the rate model 'shannon', or 'truncated_shannon' without "
            f"min_snr_db, not {_kind_of(link)!r}; {_WAYS_OUT}"
        )
    return Phase(
        link=link.name,
        compute_s=compute_s,
        bits=bits,
        gains=gains,
        bandwidths_hz=link.bandwidths_hz if scale == 1.0 else scale * link.bandwidths_hz,
        max_tx_power_w=np.asarray(link.max_tx_power_w, dtype=float),
        max_total_tx_power_w=link.max_total_tx_power_w,
        cap_bit_per_s_per_hz=cap,
    )


_WAYS_OUT = (
    "choose that rate model, let decisions assume it by radio.assumed_rate = { kind = 'shannon' }, or take "
    "an allocator that does not set power, such as 'equal'."
)


def _kind_of(link: LinkState) -> str:
    return getattr(link.rate, "kind", type(link.rate).__name__)


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
        rate = link.rate if link.client_rates is None else link.client_rates[client]
        rates[client] = rate.rates(snr, bandwidth_hz)
    return rates if link.data_share == 1.0 else link.data_share * rates


def predict(state: CellState, allocation: Allocation) -> Forecast:
    """Return how long a round lasts under an allocation, for any allocator and rate model.

    Every client is taken to have its grant for itself: grants that take turns
    on a subchannel, or are used by others while their owner is silent, are not predicted.
    """
    rates = {name: link_rates(link, allocation.grants[name]) for name, link in state.links.items()}
    round_ = state.phases(allocation.setting)
    try:
        round_ns = int(lasts(round_, durations_ns(state, rates)))
    except ValueError:  # a rate of zero
        round_ns = None
    return Forecast(round_ns, lasts_s(round_, state, rates))


def lasts_s(round_: Round, state: CellState, rates_bit_per_s: Mapping[str, Floats]) -> float:
    """Return how long a round lasts at given rates, s."""
    return float(lasts(round_, durations_s(state, rates_bit_per_s)))


def durations_s(state: CellState, rates_bit_per_s: Mapping[str, Floats]) -> Duration:
    """Return what says how long each stage lasts at given rates, s; a link without rates is free.

    Parameters
    ----------
    rates_bit_per_s
        For each link that counts, each client's rate, bit/s, shape (num_clients,).
    """

    def duration(stage: Stage, client: int | None) -> float:
        if isinstance(stage, Compute):
            measured_s = state.measured(stage.name, client)
            if measured_s is not None and stage.flop:
                return stage.count * measured_s
            return stage.count * stage.flop / speed_of(state, stage.actor, client) if stage.flop else 0.0
        rates = rates_bit_per_s.get(stage.link)
        if rates is None or not stage.bits:
            return 0.0
        return float(stage.bits / rates[client]) if rates[client] > 0.0 else float("inf")

    return duration


def durations_ns(state: CellState, rates_bit_per_s: Mapping[str, Floats]) -> Duration:
    """Return what says how many nanoseconds the clock counts for each stage; arguments as for seconds.

    Raises
    ------
    ValueError
        When asked for a stage that never ends.
    """

    def duration(stage: Stage, client: int | None) -> int:
        if isinstance(stage, Compute):
            measured_s = state.measured(stage.name, client)
            if measured_s is not None and stage.flop:
                return stage.count * seconds_to_ns(measured_s)
            speed = speed_of(state, stage.actor, client) if stage.flop else 1.0
            return stage.count * drain_ns(stage.flop, speed)
        rates = rates_bit_per_s.get(stage.link)
        return 0 if rates is None or not stage.bits else drain_ns(stage.bits, float(rates[client]))

    return duration


def speed_of(state: CellState, actor: str, client: int | None) -> float:
    """Return the speed of who computes a stage, FLOP/s.

    Raises
    ------
    AllocationError
        If nobody says it.
    """
    if actor == CLIENT and client is not None:
        return float(state.client_flop_per_s[client])
    if actor == MAIN_SERVER:
        return state.main_server_flop_per_s
    if actor == FEDERATED_SERVER:
        return state.federated_server_flop_per_s
    raise AllocationError(f"nobody says how fast the {actor} is; give work to clients or to a server.")


def plan_of(state: CellState, allocation: Allocation) -> Plan:
    """Return the allocator's own plan, or the closed form of the round where it made none.

    Rounds to target count as one for an allocator that knows nothing of them.
    """
    if allocation.plan is not None:
        return allocation.plan
    round_s = predict(state, allocation).round_s
    return Plan(round_s=round_s, rounds_to_target=1.0, total_s=round_s)
