"""What decisions are about, as scheme and task say it: plain numbers, and functions of them."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from cosim.control.knobs import Knob, Setting
from cosim.control.reports import Report
from cosim.control.stages import Round
from cosim.control.state import Sparsity

Phases = Callable[[int, Setting, tuple[Report, ...]], Round]
"""The stages of a round under a setting, with the reports that somebody wants."""


class Terms(NamedTuple):
    """What a task and its scheme say.

    Attributes
    ----------
    phases
        The stages of a round; empty where the scheme says none.
    sparsity
        ``sparsity(lora_rank, round)``: what may be left out of the adapters, None if nothing.
    knobs, reportable
        What decisions may set, and what clients can report.
    links
        The links that are sent over.
    cut_layer, lora_rank
        What the scenario asks for.
    cut_layers
        Cut layers the scheme can take, ascending.
    local_steps
        Mini-batches of each client in a round.
    weights
        Each client's share in the data.
    client_cut_layers
        Cut layers of the clients where they are given and differ.
    may_cut_apart
        Whether the scheme lets them differ.
    backoff
        By what factor the SNR is taken to be lower than what is known, where clients send at fixed
        rates chosen from that; None where they do not.
    is_closed_form
        Whether rounds last as their stages say while the air holds still.
    summed
        Those of the links on which what is sent at once arrives as a sum: it takes its own pilots.
    model_hash, data_hash
        What is trained.
    """

    phases: Phases
    sparsity: Callable[[int, int], Sparsity | None]
    links: Collection[str]
    cut_layer: int
    lora_rank: int
    cut_layers: tuple[int, ...]
    local_steps: int
    weights: tuple[float, ...]
    knobs: tuple[Knob, ...] = ()
    reportable: frozenset[str] = frozenset()
    client_cut_layers: tuple[int, ...] | None = None
    may_cut_apart: bool = False
    backoff: float | None = None
    is_closed_form: bool = False
    summed: frozenset[str] = frozenset()
    model_hash: str = ""
    data_hash: str = ""
