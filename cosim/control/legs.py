"""Rounds laid out as arrays, for those who search: barriers in each of which clients compute and send once.

A round has this form if in each barrier a client sends or receives at most once, over a link that no
other barrier uses, and only clients, and servers jointly, compute. Rounds of ``split_federated``
and ``federated`` have it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from cosim.control.stages import (
    CLIENT,
    FEDERATED_SERVER,
    MAIN_SERVER,
    Barrier,
    Chain,
    Compute,
    Round,
    Transfer,
    barriers_of,
)
from cosim.control.state import CellState
from cosim.errors import AllocationError
from cosim.units import Floats


@dataclass(frozen=True, eq=False)
class Leg:
    """One barrier.

    Attributes
    ----------
    name
        The link sent over; without one, the first stage.
    flop, bits
        What each client computes and sends within it, shape (num_clients,).
    server_flop, federated_flop
        What the main server and the federated server compute once it has fallen.
    times
        How often it is waited for in a round.
    is_step
        Whether it is one of a local step's.
    """

    name: str
    flop: Floats
    bits: Floats
    server_flop: float
    federated_flop: float
    times: int
    is_step: bool


def legs_of(round_: Round) -> tuple[Leg, ...]:
    """Return the barriers of a round.

    Raises
    ------
    AllocationError
        If the round has another form; says which stage is to blame.
    """
    legs = tuple(_leg(*one) for one in barriers_of(round_))
    names = [leg.name for leg in legs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if not legs or twice is not None:
        what = "says no stages" if twice is None else f"waits twice for {twice!r}"
        raise AllocationError(_refused(f"the round of this scheme {what}"))
    return legs


def refuse_measured(state: CellState) -> None:
    """Refuse seconds that were measured, in an allocator that plans with FLOP over speed.

    Raises
    ------
    AllocationError
        With the first that was.
    """
    measured = next((name for one in state.measured_s for name in one), None)
    if measured is not None:
        raise AllocationError(
            f"this allocator plans with FLOP over speed, and clients.table has measured seconds "
            f"({measured}_s); leave these columns out, or take an allocator such as 'equal'."
        )


def servers_s(state: CellState, waited: Collection[tuple[float, Leg]]) -> float:
    """Return what servers compute behind barriers, each of which is waited for so often, s."""
    main_flop = sum(times * leg.server_flop for times, leg in waited)
    federated_flop = sum(times * leg.federated_flop for times, leg in waited)
    return main_flop / state.main_server_flop_per_s + federated_flop / state.federated_server_flop_per_s


def least_of(several: Sequence[tuple[Leg, ...]]) -> tuple[Leg, ...]:
    """Return barriers that none of several rounds can be below: the least of each amount by itself."""
    names = dict.fromkeys(leg.name for legs in several for leg in legs)
    return tuple(
        _least([leg for legs in several for leg in legs if leg.name == name], len(several)) for name in names
    )


def _least(legs: Sequence[Leg], num_rounds: int) -> Leg:
    is_in_all = float(len(legs) == num_rounds)
    return Leg(
        legs[0].name,
        is_in_all * np.min([leg.flop for leg in legs], axis=0),
        is_in_all * np.min([leg.bits for leg in legs], axis=0),
        is_in_all * min(leg.server_flop for leg in legs),
        is_in_all * min(leg.federated_flop for leg in legs),
        min(leg.times for leg in legs),
        legs[0].is_step,
    )


def _leg(barrier: Barrier, times: int, is_step: bool) -> Leg:
    sums = {id(chain): _sums(chain) for chain in barrier.chains}  # clients that are alike share a chain
    each = [sums[id(chain)] for chain in barrier.chains]
    links = {link for _, _, link in each if link}
    if len(links) > 1:
        raise AllocationError(_refused(f"clients send over {' and '.join(sorted(links))} side by side"))
    first = next((chain[0].name for chain in (*barrier.chains, barrier.joint) if chain), "nothing")
    return Leg(
        next(iter(links), first),
        np.array([flop for flop, _, _ in each], dtype=float),
        np.array([bits for _, bits, _ in each], dtype=float),
        _joint_flop(barrier, MAIN_SERVER),
        _joint_flop(barrier, FEDERATED_SERVER),
        times,
        is_step,
    )


def _sums(chain: Chain) -> tuple[int, int, str]:
    """Return FLOP, bits and link of what a client does within a barrier."""
    transfers = [stage for stage in chain if isinstance(stage, Transfer)]
    if len(transfers) > 1:
        raise AllocationError(
            _refused(f"{transfers[0].name!r} and {transfers[1].name!r} are waited for together")
        )
    flop = 0
    for stage in chain:
        if isinstance(stage, Compute):
            if stage.actor != CLIENT:
                raise AllocationError(_refused(f"{stage.name!r} waits in the queue of the {stage.actor}"))
            flop += stage.flop * stage.count
    return flop, sum(one.bits for one in transfers), transfers[0].link if transfers else ""


def _joint_flop(barrier: Barrier, actor: str) -> float:
    """Return what a server computes once a barrier has fallen."""
    total = 0
    for stage in barrier.joint:
        if isinstance(stage, Transfer) or (stage.flop and stage.actor not in (MAIN_SERVER, FEDERATED_SERVER)):
            raise AllocationError(_refused(f"{stage.name!r} is done by all together"))
        total += stage.flop * stage.count if stage.actor == actor else 0
    return float(total)


def _refused(why: str) -> str:
    return (
        f"this allocator searches rounds of barriers in each of which every client sends once, and {why}; "
        "take one that looks at links alone, such as 'equal' or 'time_shared'."
    )
