"""FedsLLM of 2024: bandwidth shares and local accuracy chosen jointly, in closed form but for one search."""

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cosim.control.allocators import Allocator
from cosim.control.closed_form import normalised_gains, predict
from cosim.control.decision import Allocation, Plan
from cosim.control.knobs import Setting
from cosim.control.legs import legs_of, refuse_measured, servers_s
from cosim.control.solvers.assignment import check_enough, grants_of, scaled, spread_powers
from cosim.control.state import CellState, LinkState
from cosim.errors import AllocationError
from cosim.units import Floats, Ints

_LN2 = float(np.log(2.0))


class Fedsllm2024(Allocator):
    """The predecessor: every client at full power, bandwidth shares that make all finish together.

    Its band may be divided at will. Here each share is rounded to subchannels:
    every client is owed its share of the width, and the widest free subchannel
    goes to the client that is owed most, a client with none coming first when there are
    only enough left. Powers stay at the limits, scaled to the limit on the sum
    and spread evenly. A client's gain is its mean over the subchannels; the paper
    knows no frequency selectivity.

    It trains to a local accuracy eta in each round: ``accuracy_scale / (1 - eta)``
    rounds of ``iterations_scale * log2(1 / eta)`` local steps. Its best value and
    both counts are in ``plan.notes``; cut layer and rank are the scenario's. The
    local steps of the run are the scenario's as well: set them to the noted ones
    to follow the paper. The plan's totals are those of the run, with the
    rounds that eta asks for.

    Attributes
    ----------
    rounds_scale, steps_scale
        The constants a and v of the paper, which describe the learning problem.
    is_optimised
        False gives the paper's baseline: equal shares and an eta of one half.

    Source
    ------
    FedsLLM, arXiv 2407.09250; formulas as in method card 1, section 11. The line
    search over eta is replaced by its closed form.
    """

    kind: Literal["fedsllm_2024"] = "fedsllm_2024"
    rounds_scale: float = Field(default=10.0, gt=0.0)
    steps_scale: float = Field(default=5.0, gt=0.0)
    is_optimised: bool = True
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"is_optimised": False})

    def allocate(self, state: CellState) -> Allocation:
        """Return the rounded shares."""
        setting = Setting(state.client_cut_layers or state.cut_layer, state.lora_rank)
        refuse_measured(state)
        legs = {leg.name: leg for leg in legs_of(state.phases(setting))}
        steps = [leg for leg in legs.values() if leg.is_step]
        if not steps:
            raise AllocationError(
                f"{self.kind!r} trades local steps for rounds, and in the rounds of this scheme no step is "
                "waited for; take the scheme 'split_federated', or an allocator such as 'nested'."
            )
        none = np.zeros(state.num_clients)
        both_ways = sum((leg.flop for leg in steps), none) / state.client_flop_per_s
        barriers = {name: (both_ways if leg is steps[0] else none, leg.bits) for name, leg in legs.items()}
        grants, times = {}, {}
        for name, link in state.links.items():
            compute_s, bits = barriers.get(name, (none, none))
            widths, times[name] = self._widths(link, compute_s, bits)
            assignment = owners_by_width(link, widths)
            powers = scaled(link.max_tx_power_w, link)
            grants[name] = grants_of(assignment, spread_powers(assignment, powers), link.num_clients)
        free_s = {name: float(compute_s.max()) for name, (compute_s, _) in barriers.items()}
        step_s = servers_s(state, [(1, leg) for leg in steps]) + sum(
            times.get(leg.name, free_s[leg.name]) for leg in steps
        )
        others = [leg for leg in legs.values() if not leg.is_step]
        average_s = servers_s(state, [(1, leg) for leg in others])
        average_s += sum(times.get(leg.name, 0.0) for leg in others)
        eta = best_accuracy(self.steps_scale * step_s, average_s) if self.is_optimised else 0.5
        rounds = self.rounds_scale / (1.0 - eta)
        num_steps = self.steps_scale * float(np.log2(1.0 / eta))
        bare = Allocation(grants, state.cut_layer, state.lora_rank, client_cut_layers=state.client_cut_layers)
        round_s = predict(state, bare).round_s
        notes = {
            "local_accuracy": eta,
            "local_steps": num_steps,
            "model_total_s": rounds * (num_steps * step_s + average_s),
        }
        plan = Plan(round_s, rounds, rounds * round_s, notes=notes)
        return replace(bare, plan=plan)

    def _widths(self, link: LinkState, compute_s: Floats, bits: Floats) -> tuple[Floats, float]:
        """Return each client's share of the band, Hz, and when the last client is done, s."""
        gains = normalised_gains(link).mean(axis=1)
        snr_hz = scaled(link.max_tx_power_w, link) * gains
        total_hz = float(link.bandwidths_hz.sum())
        equal = np.full(link.num_clients, total_hz / link.num_clients)
        if not (snr_hz > 0.0).all():
            client = int(snr_hz.argmin())
            raise AllocationError(
                f"{link.name}: client {client} is not heard at its limit of "
                f"{link.max_tx_power_w[client]:.6g} W; raise it, or bring the client nearer."
            )
        rates = equal * np.log1p(snr_hz / equal) / _LN2
        latest = float((compute_s + bits / rates).max())
        if not self.is_optimised or not bits.any():
            return equal, latest
        early = float((compute_s + bits * _LN2 / snr_hz).max())
        for _ in range(200):
            if latest - early <= 1e-13 * latest:
                break
            middle = 0.5 * (early + latest)
            if width_for_rate(bits / (middle - compute_s), snr_hz).sum() <= total_hz:
                latest = middle
            else:
                early = middle
        return width_for_rate(bits / (latest - compute_s), snr_hz), latest


def width_for_rate(rate_bit_per_s: Floats, snr_hz: Floats) -> Floats:
    """Return the least width over which a client carries a rate at its power, Hz; infinite if none does.

    Solves ``w log2(1 + snr_hz / w) = rate`` by the branch -1 of Lambert's W.

    Parameters
    ----------
    rate_bit_per_s
        Rates, bit/s.
    snr_hz
        Power received over noise PSD, Hz, of the same shape.

    Examples
    --------
    >>> width_for_rate(np.array([2.0]), np.array([3.0])).round(9)
    array([1.])
    """
    from scipy.special import lambertw

    z = np.asarray(rate_bit_per_s * _LN2 / snr_hz, dtype=float)
    inside = np.where((z > 0.0) & (z < 1.0), z, 0.5)
    snr = -lambertw(-inside * np.exp(-inside), k=-1).real / inside - 1.0
    with np.errstate(divide="ignore"):
        width = np.where(snr > 0.0, snr_hz / snr, np.inf)
    return np.where(z <= 0.0, 0.0, np.where(z < 1.0, width, np.inf))


def best_accuracy(step_s: float, average_s: float) -> float:
    """Return the local accuracy that minimises ``(log2(1 / eta) step_s + average_s) / (1 - eta)``.

    The slope has a single root; with ``y = 1 / eta`` it is ``y - ln y = 1 +
    average_s ln 2 / step_s``, on the branch -1 of Lambert's W.

    Examples
    --------
    >>> eta = best_accuracy(1.0, 1.0)
    >>> cost = lambda eta: (np.log2(1 / eta) + 1.0) / (1 - eta)
    >>> bool(cost(eta) < min(cost(eta * 0.99), cost(eta * 1.01)))
    True
    """
    from scipy.special import lambertw

    beyond = average_s * _LN2 / step_s
    if beyond < 1e-8:  # averaging is free: one step a round, eta close to one
        return float(1.0 / (1.0 + np.sqrt(2.0 * max(beyond, 1e-16))))
    if beyond > 600.0:  # the argument of W would vanish
        return float(1.0 / (1.0 + beyond + np.log(1.0 + beyond)))
    return float(-1.0 / lambertw(-np.exp(-1.0 - beyond), k=-1).real)


def owners_by_width(link: LinkState, widths_hz: Floats) -> Ints:
    """Return an owner for each subchannel so that each client's widths come close to what it is owed.

    Parameters
    ----------
    widths_hz
        What each client is owed, Hz, shape (num_clients,).

    Raises
    ------
    AllocationError
        If there are fewer subchannels than clients.
    """
    check_enough(link.name, link.num_clients, link.num_subchannels)
    assignment = np.empty(link.num_subchannels, dtype=np.int64)
    owed = widths_hz * (float(link.bandwidths_hz.sum()) / float(widths_hz.sum()))
    counts = np.zeros(link.num_clients, dtype=np.int64)
    for given, subchannel in enumerate(np.argsort(-link.bandwidths_hz, kind="stable").tolist()):
        left = link.num_subchannels - given
        is_short = left == int((counts == 0).sum())
        client = int(np.where(is_short & (counts > 0), -np.inf, owed).argmax())
        assignment[subchannel] = client
        owed[client] -= link.bandwidths_hz[subchannel]
        counts[client] += 1
    return assignment
