"""Copies of a scenario's cell that are played round by round, each on an air of its own."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from cosim.control.allocators.equal import Equal
from cosim.control.closed_form import predict
from cosim.control.decision import Allocation, Plan
from cosim.control.decisions import Decisions
from cosim.control.knobs import PARTICIPATION, SPARSIFICATION_RATIO, Cut, Setting
from cosim.control.learned import (
    RATIO_STEPS,
    Bools,
    Choice,
    Form,
    Singles,
    compute_s,
    decoded,
    observed,
    owners_of,
    powers_of,
    snr_db,
)
from cosim.control.stages import Transfer, barriers_of, is_closed
from cosim.control.state import CellState
from cosim.control.terms import Terms
from cosim.envs.air import Airs, Band
from cosim.envs.alone import FEW, play_few
from cosim.envs.program import UPLOAD, Played, Program
from cosim.errors import ScenarioError
from cosim.radio.access.orthogonal import Orthogonal
from cosim.radio.blocks import shortest_block_ns
from cosim.radio.channel import Channel
from cosim.radio.settings import Radio
from cosim.scenario.build import prepare
from cosim.scenario.settings import Scenario
from cosim.tensor.refusals import reasons
from cosim.units import NS_PER_S, Floats, Ints
from cosim.world import FEDERATED_SERVER, MAIN_SERVER


class Outcome(NamedTuple):
    """What came of a round, s and J, of shape (num_copies,)."""

    round_s: Floats
    energy_j: Floats


class Cells:
    """Copies of a scenario's cell.

    Parameters
    ----------
    scenario
        What is played; its own allocator is not asked.
    num_copies
        How many.
    sets, ranks
        Of a policy, as :meth:`cosim.control.learned.Form.of` has them.

    Raises
    ------
    ScenarioError
        If its rounds are not of barriers that last as their stages say; names the setting.
    AllocationError
        If a policy cannot decide on it.

    Attributes
    ----------
    form
        The shape of the cell.
    time_ns, round
        Where each copy is, and the number of its round, from 1; shape (num_copies,).
    seeds
        Of the air of each copy.
    """

    def __init__(
        self, scenario: Scenario, num_copies: int, sets: Sequence[str] = (), ranks: Sequence[int] = ()
    ) -> None:
        scenario = scenario.model_copy(update={"allocator": Equal()})
        _refuse(scenario)
        self._prepared = prepare(scenario)
        self._radio = scenario.radio
        self._state = state = self._prepared.decisions().state(0, 1)
        _refuse_open(self._prepared.terms, state)
        self.form = Form.of(state, sets, ranks)
        self._links = list(state.links.values())
        self.block_ns = shortest_block_ns(scenario.radio)
        self._airs = Airs(scenario.radio, self._links, num_copies, state.num_clients)
        self._programs: dict[tuple[Cut, int, tuple[float, ...]], Program] = {}
        self._bits_at: dict[tuple[Cut, int], Ints] = {}  # of an upload, by steps of its share
        self._computes_s: dict[tuple[Cut, int], Floats] = {}
        self.seeds = np.zeros(num_copies, dtype=np.int64)
        self.time_ns, self.round = np.zeros(num_copies, dtype=np.int64), np.ones(num_copies, dtype=np.int64)
        self._last_ns = np.zeros(num_copies, dtype=np.int64)
        own_cut = state.client_cut_layers or state.cut_layer
        self._settings: list[tuple[Cut, int]] = [(own_cut, state.lora_rank)] * num_copies
        self._first = self._settings[0]
        self._gains = np.ones((num_copies, state.num_clients, len(self._airs.widths_hz)))
        shape = num_copies, state.num_clients  # what is seen of gains, worked out when they change
        self._mean_snr_db = {one.name: np.zeros(shape, np.float32) for one in self._links}
        self._snr_db = {one.name: np.zeros((*shape, one.num_subchannels), np.float32) for one in self._links}
        self._drawn_block = np.full(num_copies, -1)

    @property
    def num_copies(self) -> int:
        """How many copies there are."""
        return len(self.seeds)

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return self.form.num_clients

    def take(self, radio: Radio) -> None:
        """Let airs that begin from now on have these settings.

        Raises
        ------
        ScenarioError
            If they change more of the links than a policy may meet.
        """
        _refuse(self._prepared.scenario.model_copy(update={"radio": radio}))
        channel = Channel.build(radio, self.num_clients, 0)
        prepared = replace(
            self._prepared,
            scenario=self._prepared.scenario.model_copy(update={"radio": radio}),
            channel=channel,
        )
        state = prepared.decisions().state(0, 1)
        self.form.check(state)
        self._prepared, self._radio, self._state = prepared, radio, state
        self._links = list(state.links.values())
        self._airs = Airs(radio, self._links, self.num_copies, self.num_clients)
        self.block_ns = shortest_block_ns(radio)

    def begin(self, copies: Ints, seeds: Sequence[int]) -> None:
        """Begin copies again at time zero, each on the air of a seed."""
        for copy, seed in zip(copies.tolist(), seeds, strict=True):
            self._airs.begin(copy, seed)
            self.seeds[copy], self._settings[copy] = seed, self._first
            self._drawn_block[copy] = -1
        for link in self._links:
            self._mean_snr_db[link.name][copies] = snr_db(link, self._airs.means[copies, :, np.newaxis])[
                ..., 0
            ]
        self.time_ns[copies], self.round[copies], self._last_ns[copies] = 0, 1, 0

    def observe(self) -> dict[str, Singles]:
        """Return what a controller sees at the beginning of each copy's round."""
        blocks = self._blocks()
        new = np.flatnonzero(blocks != self._drawn_block)
        if len(new):
            gains = self._gains[new] = self._airs.gains(new, blocks[new])
            for link, columns in zip(self._links, self._airs.columns, strict=True):
                self._snr_db[link.name][new] = snr_db(link, gains[:, :, columns])
            self._drawn_block = blocks
        return observed(
            self._links,
            {name: one.copy() for name, one in self._snr_db.items()},
            {name: one.copy() for name, one in self._mean_snr_db.items()},
            np.array([self._computing_s(*one) for one in self._settings]),
            self._state.weights,
            self._last_ns / NS_PER_S,
            self.round,
        )

    def _blocks(self) -> Ints:
        return np.zeros_like(self.time_ns) if self.block_ns is None else self.time_ns // self.block_ns

    def _computing_s(self, cut: Cut, rank: int) -> Floats:
        if (cut, rank) not in self._computes_s:
            round_ = self._state.phases(Setting(cut, rank))
            self._computes_s[cut, rank] = compute_s(self._state, round_)
        return self._computes_s[cut, rank]

    def play(self, choice: Choice, on: Bools) -> Outcome:
        """Play a round in some copies, after they were observed; the others stay as they are."""
        self._settle(choice, on)
        powers_w = [powers_of(one, choice.powers[one.name], choice.takes_part) for one in self._links]
        owners = [owners_of(choice.scores[one.name], choice.takes_part) for one in self._links]
        rates = _Rates(self._airs, Band(self._airs, owners, powers_w), self._gains, self._blocks())
        lasts_ns, energy_j = np.zeros(self.num_copies, dtype=np.int64), np.zeros(self.num_copies)
        for program, copies in self._by_program(choice, on):
            begin_ns = self.time_ns[copies]
            upload_bits = None if choice.sent_steps is None else self._upload_bits(choice.sent_steps, copies)
            play = partial(play_few, program) if len(copies) <= FEW else program.play
            played = play(copies, begin_ns, self.block_ns, rates, upload_bits)
            lasts_ns[copies] = played.end_ns - begin_ns
            sent_w = np.stack([one[copies] for one in powers_w], axis=1) if powers_w else 0.0
            energy_j[copies] = program.compute_j + self._sending_j(played, sent_w)
        self.time_ns += lasts_ns
        self._last_ns[on] = lasts_ns[on]
        self.round[on] += 1
        return Outcome(lasts_ns / NS_PER_S, energy_j)

    def _settle(self, choice: Choice, on: Bools) -> None:
        """Let the cut and rank of a first round hold from then on."""
        if choice.cut is None and choice.rank is None:
            return
        for copy in np.flatnonzero(on & (self.round == 1)).tolist():
            cut, rank = self._first
            cut = cut if choice.cut is None else self.form.cut_layers[int(choice.cut[copy])]
            rank = rank if choice.rank is None else self.form.ranks[int(choice.rank[copy])]
            self._settings[copy] = cut, rank

    def _by_program(self, choice: Choice, on: Bools) -> list[tuple[Program, Ints]]:
        """Return the copies that play the same stages, with these."""
        groups: dict[tuple[Cut, int, tuple[float, ...]], list[int]] = {}
        chooses = "participation" in self.form.sets
        for copy in np.flatnonzero(on).tolist():
            who = tuple(choice.takes_part[copy].astype(float).tolist()) if chooses else ()
            groups.setdefault((*self._settings[copy], who), []).append(copy)
        return [(self._program(*key), np.array(copies)) for key, copies in groups.items()]

    def _program(self, cut: Cut, rank: int, who: tuple[float, ...]) -> Program:
        if (cut, rank, who) not in self._programs:
            setting = Setting(cut, rank, {PARTICIPATION.name: who} if who else {})
            servers = {
                MAIN_SERVER: self._prepared.main_server,
                FEDERATED_SERVER: self._prepared.federated_server,
            }
            round_ = self._state.phases(setting)
            self._programs[cut, rank, who] = Program.of(round_, self._state, self._prepared.clients, servers)
        return self._programs[cut, rank, who]

    def _upload_bits(self, sent_steps: Ints, copies: Ints) -> Ints:
        """Return what clients of some copies of one cut and rank upload at these shares of their adapters."""
        (cut, rank), steps = self._settings[int(copies[0])], sent_steps[copies]
        known = self._bits_at.setdefault((cut, rank), np.full(RATIO_STEPS + 1, -1))
        for step in set(steps[known[steps] < 0].tolist()):
            ratios = (step / RATIO_STEPS,) * self.num_clients
            round_ = self._state.phases(Setting(cut, rank, {SPARSIFICATION_RATIO.name: ratios}))
            chains = (barrier.chains[0] for barrier, _, _ in barriers_of(round_))
            known[step] = sum(
                one.bits
                for chain in chains
                for one in chain
                if isinstance(one, Transfer) and one.name == UPLOAD
            )
        return np.asarray(known[steps])

    def _sending_j(self, played: Played, sent_w: Floats | float) -> Floats | float:
        """Return what all transfers of a round cost in each copy, J, shape (num_copies,)."""
        if not self._links:
            return 0.0
        airtime_ns, bits, cost = played.airtime_ns, played.bits, self._radio.uplink_energy
        radiated_j = sent_w * airtime_ns / NS_PER_S
        is_up = np.array([one.name.endswith("uplink") for one in self._links])[:, np.newaxis]
        own_j = cost.baseline_w * airtime_ns / NS_PER_S + cost.j_per_bit * bits
        up_j = own_j + radiated_j * float(cost.counts_radiated)
        return np.asarray(np.where(is_up, up_j, radiated_j).sum(axis=(1, 2)))

    def state(self, copy: int = 0) -> CellState:
        """Return the snapshot that an allocator sees of a copy, at the beginning of its round."""
        radio = self._radio.model_copy(update={"seed": int(self.seeds[copy])})
        channel = Channel.build(radio, self.num_clients, self._prepared.scenario.seed)
        scenario = self._prepared.scenario.model_copy(update={"radio": radio})
        decisions: Decisions = replace(self._prepared, scenario=scenario, channel=channel).decisions()
        if self.round[copy] > 1:
            cut, rank = self._settings[copy]
            cuts = None if isinstance(cut, int) else cut
            least = cut if isinstance(cut, int) else min(cut)
            decisions.current = Allocation({}, least, rank, client_cut_layers=cuts)
        state = decisions.state(int(self.time_ns[copy]), int(self.round[copy]))
        last_s = float(self._last_ns[copy]) / NS_PER_S if self.round[copy] > 1 else None
        return replace(state, last_round_s=last_s)

    def bound_s(self, choice: Choice, copy: int = 0) -> tuple[float, float]:
        """Return what no decision beats on the gains of this instant, s, and how far this one is above it.

        The bound is on a round at the cut, rank and participation chosen, while gains hold still; the
        gap is a share of it.

        Raises
        ------
        AllocationError
            If there is no bound, as where a rate is not Shannon's.
        """
        from cosim.control.bounding import with_bound  # loads the solvers

        state = self.state(copy)
        allocation = decoded(state, self.form, choice.of_copy(copy))
        round_s = predict(state, allocation).round_s
        plan = with_bound(state, allocation, Plan(round_s, 1.0, round_s), Equal())
        assert plan.lower_bound_s is not None
        return plan.lower_bound_s, round_s / plan.lower_bound_s - 1.0


class _Rates:
    """The rates that a decision has in each copy, as far as they have been asked for."""

    def __init__(self, airs: Airs, band: Band, gains: Floats, first: Ints) -> None:
        self._airs, self._band, self._first = airs, band, first
        copies, every = np.arange(len(first)), np.arange(band.owners.shape[1])
        own = gains[copies[:, np.newaxis], band.owners, every]
        self._known = band.rates(copies, own[:, np.newaxis])  # from the first block on
        self._count = np.ones_like(first)  # of blocks known
        self._foreseen = np.ones_like(first)

    def first(self, copies: Ints) -> Floats:
        """Return those of the blocks in which the decision is taken, (num, num_links, num_clients)."""
        return np.asarray(self._known[copies, 0])

    def foresee(self, copies: Ints, blocks: Ints) -> None:
        """Take in which block is likely the last that is asked for."""
        self._foreseen[copies] = blocks - self._first[copies] + 1

    def at(self, copies: Ints, blocks: Ints) -> Floats:
        """Return bit/s of copies in blocks, shape (num, num_links, num_clients)."""
        ahead = self._known_at(copies, blocks)  # first, as it may make another table
        return np.asarray(self._known[copies, ahead])

    def of(self, copies: Ints, blocks: Ints, links: Ints, clients: Ints) -> Floats:
        """Return bit/s of a link and a client each, shape (num,)."""
        ahead = self._known_at(copies, blocks)
        return np.asarray(self._known[copies, ahead, links, clients])

    def over(self, copy: int, first: int, count: int) -> Floats:
        """Return the rates of one copy in some blocks, bit/s, shape (count, num_links, num_clients)."""
        return np.asarray(self._drawn(np.array([copy]), np.array([first]), count)[0])

    def _drawn(self, copies: Ints, first: Ints, count: int) -> Floats:
        own_gains = self._airs.owned(copies, first, count, self._band.owners[copies])
        return self._band.rates(copies, own_gains)

    def _known_at(self, copies: Ints, blocks: Ints) -> Ints:
        """Return how far blocks are from the first ones, after their rates have been worked out.

        The exact sum looks at windows that may begin before, and uses nothing of that.
        """
        ahead: Ints = np.maximum(blocks - self._first[copies], 0)
        if (short := ahead >= self._count[copies]).any():
            self._extend(np.unique(copies[short]), int(ahead[short].max()))
        return ahead

    def _extend(self, copies: Ints, last: int) -> None:
        """Work out some copies up to a block and as far as is foreseen, or a quarter more than is known."""
        have = int(self._count[copies].min())
        until = max(last + 1, int(self._foreseen[copies].mean()), have + have // 4)
        if until > self._known.shape[1]:
            wider = np.empty((len(self._first), until + until // 2, *self._known.shape[2:]))
            wider[:, : self._known.shape[1]] = self._known
            self._known = wider
        more = self._drawn(copies, self._first[copies] + have, until - have)
        self._known[copies, have:until], self._count[copies] = more, until


def _refuse(scenario: Scenario) -> None:
    """Refuse what rounds of barriers cannot say.

    Raises
    ------
    ScenarioError
        With the first reason and its setting.
    """
    radio = scenario.radio
    whys = list(reasons(scenario))
    if not radio.is_plain:
        whys.append("radio: clients move, or the fading, a surface or interference ties instants together")
    if radio.uplink_p0_dbm is not None:
        whys.append("radio.uplink_p0_dbm: sets the powers that a policy decides on")
    if not isinstance(radio.access, Orthogonal):
        whys.append(f"radio.access: {radio.access.kind!r} lets clients send on each other's subchannels")
    for why in whys[:1]:
        raise ScenarioError(
            f"{why}; an environment steps rounds of barriers on a channel that goes its own way."
        )


def _refuse_open(terms: Terms, state: CellState) -> None:
    setting = Setting(state.client_cut_layers or state.cut_layer, state.lora_rank)
    first, *others = (terms.phases(round_, setting, ()) for round_ in range(1, 5))
    if not terms.is_closed_form or not is_closed(first) or any(one != first for one in others):
        raise ScenarioError(
            "scheme: its rounds differ, wait in queues, or send what values decide; an environment takes "
            "rounds of barriers in which all take part, as those of 'split_federated', and 'federated' with "
            "a dense codec."
        )
