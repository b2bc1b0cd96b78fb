"""What each client computes and sends, where all are cut alike or each has a cut of its own."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from cosim.control.state import Amounts, CellState
from cosim.units import Floats

Cut: TypeAlias = int | tuple[int, ...]
"""Blocks kept on every client, or on each client in turn."""


@dataclass(frozen=True, eq=False)
class Loads:
    """Amounts of one local step and of one round, shape (num_clients,) but for the server's sum.

    Attributes
    ----------
    forward_flop, backward_flop
        On the client, per local step.
    server_flop
        On the main server for all clients, per local step.
    activation_bits, gradient_bits
        Per local step.
    adapter_bits, returned_bits
        What a client sends of its adapter and is sent back, per round.
    """

    forward_flop: Floats
    backward_flop: Floats
    server_flop: float
    activation_bits: Floats
    gradient_bits: Floats
    adapter_bits: Floats
    returned_bits: Floats


def loads(state: CellState, cut: Cut, lora_rank: int) -> Loads:
    """Return what clients and main server have to do at a cut and rank.

    The main server computes each client's mini-batch from that client's cut on,
    so its FLOP are the sum of what each client would cost it at its own.
    """
    if isinstance(cut, int):
        amounts = state.amounts(cut, lora_rank)
        return _laid_out([amounts] * state.num_clients, float(amounts.server_flop))
    at = {one: state.amounts(one, lora_rank) for one in set(cut)}
    server_flop = sum(at[one].server_flop for one in cut) // state.num_clients
    return _laid_out([at[one] for one in cut], float(server_flop))


def least_loads(state: CellState, cut_layers: tuple[int, ...], lora_rank: int) -> Loads:
    """Return what no cuts, one for each client, can be below: the least of each amount by itself."""
    every = [state.amounts(cut, lora_rank) for cut in cut_layers]

    def fewest(name: str) -> int:
        return min(int(getattr(one, name)) for one in every)

    least = Amounts(
        client_forward_flop=fewest("client_forward_flop"),
        client_backward_flop=fewest("client_backward_flop"),
        server_flop=fewest("server_flop"),
        activation_bits=fewest("activation_bits"),
        gradient_bits=fewest("gradient_bits"),
        adapter_bits=fewest("adapter_bits"),
        adapter_download_bits=fewest("returned_bits"),
    )
    return _laid_out([least] * state.num_clients, float(least.server_flop))


def layers_of(cuts: tuple[Cut, ...]) -> tuple[int, ...]:
    """Return those of some cuts that are common to all clients."""
    return tuple(cut for cut in cuts if isinstance(cut, int))


def _laid_out(amounts: list[Amounts], server_flop: float) -> Loads:
    def column(name: str) -> Floats:
        return np.array([getattr(one, name) for one in amounts], dtype=float)

    return Loads(
        forward_flop=column("client_forward_flop"),
        backward_flop=column("client_backward_flop"),
        server_flop=server_flop,
        activation_bits=column("activation_bits"),
        gradient_bits=column("gradient_bits"),
        adapter_bits=column("adapter_bits"),
        returned_bits=column("returned_bits"),
    )
