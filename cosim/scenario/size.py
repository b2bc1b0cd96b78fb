"""How large a scenario may be: what could not even be looked at in seconds is refused by its numbers."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

import numpy as np

from cosim.control.decision import Allocation
from cosim.control.stages import Transfer, barriers_of
from cosim.control.state import CellState
from cosim.errors import ScenarioError
from cosim.kernel.job import NEVER_NS
from cosim.learning.shape import ModelShape
from cosim.radio.channel import Channel
from cosim.scenario.settings import Scenario
from cosim.units import NS_PER_S

MOST_CLIENTS = 100_000
MOST_MINI_BATCHES = 1_000_000_000
MOST_GAINS = 50_000_000
"""Gains of one link that are in memory together: a decision sees all of them."""

MOST_PAIRS_SEARCHED = 50_000
"""Clients times subchannels of a link; a search over more takes minutes for each decision."""

MOST_PATHS = 5_000_000
"""Paths between clients and base stations whose large scale is in memory together."""

MOST_CUTS_SEARCHED = 256
MOST_DRAWS = 10**12
"""Gains drawn in a run; about a day of nothing else."""

MOST_DECISIONS = 5_000_000
"""Decisions of a run whose allocator is asked in every block; hours of nothing else."""

_BLOCKS_AT_ONCE = 64  # of fading; a cell draws so many at least
_MANY_BLOCKS = 10_000
_MOST_LOOKED_AT = 1000  # clients of a link, for how long theirs and their neighbours' transfers last


def too_large(scenario: Scenario) -> Iterator[ScenarioError]:
    """Return a fault for each number that is too large; nothing is drawn or read for it."""
    clients, scheme = scenario.num_clients, scenario.scheme
    if clients > MOST_CLIENTS:
        yield ScenarioError(
            f"clients.count: {_count(clients)} clients; a run has {_count(MOST_CLIENTS)} at most."
        )
        return
    batches = scheme.num_rounds * scheme.local_steps * clients
    if batches > MOST_MINI_BATCHES:
        yield ScenarioError(
            f"scheme.num_rounds: {_count(scheme.num_rounds)} rounds of {_count(scheme.local_steps)} local "
            f"step(s) with {_count(clients)} client(s) are {_count(batches)} mini-batches; a run has "
            f"{_count(MOST_MINI_BATCHES)} at most."
        )
    yield from _paths(scenario)
    radio = scenario.radio
    is_drawn_alone = radio.fading.block_ns is None or radio.is_plain
    rows = 1 if is_drawn_alone else _BLOCKS_AT_ONCE
    for name in sorted(link.name for link in scenario.scheme.links):
        link = scenario.radio.link(name)
        if not link.is_modelled:
            continue
        pairs, width = clients * link.num_subchannels, _count(link.num_subchannels)
        told = (
            f"radio.{name}.num_subchannels: {width} for {_count(clients)} client(s) are {_count(pairs)} pairs"
        )
        if pairs * rows > MOST_GAINS:
            yield ScenarioError(f"{told}; a link has {_count(MOST_GAINS // rows)} at most under this fading.")
        elif pairs > MOST_PAIRS_SEARCHED and scenario.allocator.searches:
            yield ScenarioError(
                f"{told}; the allocator {scenario.allocator.kind!r} searches "
                f"{_count(MOST_PAIRS_SEARCHED)} at most."
            )


def _paths(scenario: Scenario) -> Iterator[ScenarioError]:
    """Return a fault if there are too many paths to base stations, of clients or of users of other cells."""
    radio, clients = scenario.radio, scenario.num_clients
    stations = len(radio.base_stations.site_of_station())
    instants = 1 if radio.mobility.block_ns is None else _BLOCKS_AT_ONCE
    users = stations * radio.interference.users_of_each
    for who, number in (
        (f"{_count(clients)} client(s) at {instants} instant(s)", clients * instants),
        (f"{_count(users)} users of other cells", users),
    ):
        if stations > 1 and number * stations > MOST_PATHS:
            yield ScenarioError(
                f"radio.base_stations: {_count(stations)} of them and {who} are {_count(number * stations)} "
                f"paths; a run has {_count(MOST_PATHS)} at most."
            )


def too_many_cuts(scenario: Scenario, shape: ModelShape) -> ScenarioError | None:
    """Return a fault where a search would try more cut layers than it can in seconds."""
    allocator = scenario.allocator
    tried = allocator.num_cuts_tried(len(scenario.scheme.cut_layers(shape)))
    if scenario.client_cut_layers is not None or tried <= MOST_CUTS_SEARCHED:
        return None
    return ScenarioError(
        f"allocator.cut_layers: {allocator.kind!r} would try {_count(tried)} cut layers of a model of "
        f"{_count(shape.num_layers)}; it tries {MOST_CUTS_SEARCHED} at most, so name those to be tried."
    )


class FadingBlocks(NamedTuple):
    """How many blocks of fading a run meets, about.

    Attributes
    ----------
    of_longest
        Blocks in the longest transfer.
    draws
        Gains drawn in the whole run.
    coherence_s
        How long a block lasts, s.
    decisions
        Blocks in which the allocator is asked; none where it is not asked in each.
    """

    of_longest: float
    draws: float
    coherence_s: float
    decisions: float = 0.0

    @property
    def note(self) -> str | None:
        """What to say where transfers see very many blocks."""
        if self.of_longest <= _MANY_BLOCKS:
            return None
        return (
            f"a transfer sees about {self.of_longest:.2g} blocks of fading of {self.coherence_s:.3g} s each, "
            f"and a run draws about {self.draws:.2g} gains; a longer coherence time runs faster."
        )

    def refuse(self) -> None:
        """Refuse a run that would take days to draw its gains.

        Raises
        ------
        ScenarioError
            With their number.
        """
        if self.draws > MOST_DRAWS:
            raise ScenarioError(
                f"radio.fading: blocks of {self.coherence_s:.3g} s are about {self.of_longest:.2g} in a "
                f"transfer, and {self.draws:.2g} gains in a run; it draws {MOST_DRAWS:.0e} at most, so take "
                "a longer coherence time, or send less."
            )
        if self.decisions > MOST_DECISIONS:
            raise ScenarioError(
                f"allocator.reallocate: 'every_block' would decide about {self.decisions:.2g} times, in "
                f"blocks of {self.coherence_s:.3g} s; a run does {MOST_DECISIONS:.0e} times at most, so take "
                "'every_round', a longer coherence time, or more transmit power."
            )


def fading_blocks(
    scenario: Scenario,
    channel: Channel,
    state: CellState,
    allocation: Allocation,
    transfers: Mapping[str, int],
) -> FadingBlocks | None:
    """Return how many blocks of fading a run meets under its first decision; None where gains never change.

    A transfer that would never end counts as none: it is reported by itself. ``transfers`` are those of one
    client's round, where the scheme has no stages.
    """
    if channel.block_ns is None:
        return None
    per_bit = {link: _blocks_per_bit(channel, link, allocation) for link in state.links}
    longest, draws, lasts = 0.0, 0.0, 0.0

    def see(link: str, client: int, bits: float, times: float) -> float:
        nonlocal longest, draws
        blocks = _if_ever(channel, bits * per_bit[link][client])
        longest = max(longest, blocks)
        draws += times * blocks * state.links[link].num_subchannels
        return blocks

    for barrier, times, _ in barriers_of(state.phases(allocation.setting)):
        lasts += times * max(
            sum(
                see(stage.link, client, stage.bits, times)
                for stage in chain
                if isinstance(stage, Transfer) and stage.link in per_bit
            )
            for client, chain in enumerate(barrier.chains)
        )
    if not lasts:  # clients that wait for nobody: a round is one client's
        share = 1.0 / scenario.num_clients
        each = [
            sum(see(link, client, bits, share) for link, bits in transfers.items() if link in per_bit)
            for client in range(scenario.num_clients)
        ]
        lasts = share * max(each)
    rounds, asked = scenario.scheme.num_rounds, scenario.allocator.reallocate == "every_block"
    return FadingBlocks(
        longest, rounds * draws, channel.block_ns / NS_PER_S, rounds * lasts if asked else 0.0
    )


def _blocks_per_bit(channel: Channel, link: str, allocation: Allocation) -> list[float]:
    """Return about how many blocks each client needs for a bit on a link; infinite if it never arrives."""
    found = []
    grants = allocation.grants[link]
    stride = -(-len(grants) // _MOST_LOOKED_AT)
    for client, grant in islice(enumerate(grants), 0, None, stride):
        rates = channel.rates(
            link, client, grant.subchannels, grant.tx_power_w, 0, _BLOCKS_AT_ONCE, grant.bandwidths_hz
        )
        mean = float(np.mean(rates))
        found.append(NS_PER_S / (mean * channel.block_ns) if mean > 0.0 and channel.block_ns else np.inf)
    return [found[client // stride] for client in range(len(grants))]


def _if_ever(channel: Channel, blocks: float) -> float:
    """Return a number of blocks; none where the transfer would not end before simulated time does."""
    return 0.0 if not blocks * (channel.block_ns or 0) < NEVER_NS else blocks


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")
