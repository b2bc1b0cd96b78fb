"""What a learned policy sees of a cell, and what its numbers decide: for one cell or many copies at once.

An environment and the allocator ``policy`` share these definitions, so a policy meets in any
scenario what it was trained on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cosim.control.closed_form import durations_s
from cosim.control.decision import Allocation
from cosim.control.knobs import PARTICIPATION, SPARSIFICATION_RATIO, Setting
from cosim.control.stages import Compute, Round, barriers_of
from cosim.control.state import CellState, LinkState
from cosim.errors import AllocationError
from cosim.radio.grant import Grant
from cosim.units import Floats, Ints

Singles = NDArray[np.float32]
Bools = NDArray[np.bool_]

CHOICES = ("cut", "rank", "participation", "sparsification")
"""What a policy may set beside subchannels and powers; the last two for each client."""

RATIO_STEPS = 100
"""Steps of the share of its adapter that a client sends."""

LEAST_POWER = 1e-3
"""Share of a client's power limit that the lowest power is, so that every transfer ends."""


@dataclass(frozen=True)
class Form:
    """The shape of a cell, as policies depend on it.

    Attributes
    ----------
    num_clients
        How many clients there are.
    links
        Each link that takes time, with its number of subchannels.
    sets
        Of :data:`CHOICES`, what is set beside subchannels and powers.
    cut_layers, ranks
        What is chosen from, where that is set; else empty.
    """

    num_clients: int
    links: tuple[tuple[str, int], ...]
    sets: tuple[str, ...] = ()
    cut_layers: tuple[int, ...] = ()
    ranks: tuple[int, ...] = ()

    @classmethod
    def of(cls, state: CellState, sets: Iterable[str] = (), ranks: Sequence[int] = ()) -> Self:
        """Return the form of a cell for a policy that sets these.

        Raises
        ------
        AllocationError
            If the cell cannot have it set, or a link has too few subchannels.
        """
        chosen = tuple(sorted(sets))
        for name in set(chosen).difference(CHOICES):
            raise AllocationError(f"sets: a policy cannot set {name!r}; it can set {', '.join(CHOICES)}.")
        if "cut" in chosen and state.client_cut_layers is not None:
            raise AllocationError("sets: clients have cut layers of their own; leave 'cut' out.")
        if "rank" in chosen and (not ranks or min(ranks) < 1):
            raise AllocationError(
                "ranks: a policy that sets 'rank' needs the ranks to choose from, each >= 1."
            )
        if "participation" in chosen and PARTICIPATION not in state.knobs:
            raise AllocationError("sets: clients of this scheme always take part; leave 'participation' out.")
        if "sparsification" in chosen and (SPARSIFICATION_RATIO not in state.knobs or state.sparsity is None):
            raise AllocationError(
                "sets: nobody may say here how much of an adapter is sent; leave 'sparsification' out, or "
                "take the scheme 'federated' with a codec that leaves a share of the bits out, such as "
                "adapter_codec = { kind = 'soft' }."
            )
        for link in state.links.values():
            if link.num_subchannels < link.num_clients:
                raise AllocationError(
                    f"{link.name}: {link.num_clients} clients share {link.num_subchannels} subchannels; a "
                    "policy needs one for each client."
                )
        links = tuple((name, link.num_subchannels) for name, link in state.links.items())
        cuts = state.cut_layers if "cut" in chosen else ()
        return cls(state.num_clients, links, chosen, cuts, tuple(ranks) if "rank" in chosen else ())

    @property
    def num_observed(self) -> int:
        """How many numbers a policy sees."""
        return sum(self.num_clients * (count + 1) for _, count in self.links) + 3 * self.num_clients + 2

    @property
    def num_decided(self) -> int:
        """How many numbers a policy gives."""
        each = sum(self.num_clients * (count + 1) for _, count in self.links)
        per_client = len({"participation", "sparsification"}.intersection(self.sets))
        return each + len(self.sets) + per_client * (self.num_clients - 1)

    def check(self, state: CellState) -> None:
        """Refuse a cell of another shape.

        Raises
        ------
        AllocationError
            With both shapes.
        """
        own = Form.of(state, self.sets, self.ranks)
        cuts_fit = state.is_settled or own.cut_layers == self.cut_layers
        if (own.num_clients, own.links) != (self.num_clients, self.links) or not cuts_fit:
            raise AllocationError(f"the policy is for {self}, and the scenario has {own}; train one for it.")

    def __str__(self) -> str:
        links = ", ".join(f"{count} subchannels of {name}" for name, count in self.links)
        cuts = f" and cut layers {list(self.cut_layers)}" if self.cut_layers else ""
        return f"{self.num_clients} clients, {links or 'no link that takes time'}{cuts}"


@dataclass(frozen=True, eq=False)
class Choice:
    """What was decided in each of some copies of a cell.

    Attributes
    ----------
    scores
        For each link, shape (num_copies, num_clients, num_subchannels); the highest has the subchannel.
    powers
        For each link the share of each client's limit, 0 to 1, shape (num_copies, num_clients).
    cut, rank
        Number of the choice in the form, shape (num_copies,); None where it is not set.
    takes_part
        Shape (num_copies, num_clients).
    sent_steps
        Share of its adapter that each client sends, in :data:`RATIO_STEPS`, at least one, shape (num_copies,
        num_clients); None where it is not set.
    """

    scores: Mapping[str, Floats]
    powers: Mapping[str, Floats]
    takes_part: Bools
    cut: Ints | None = None
    rank: Ints | None = None
    sent_steps: Ints | None = None

    @classmethod
    def of_numbers(cls, form: Form, numbers: Floats | Singles) -> Self:
        """Return what numbers from -1 to 1 mean, shape (num_copies, num_decided).

        By link scores and powers, then a number each for cut and rank, from the first choice to the last;
        one for each client, who takes part from zero on; and one for the share of an adapter that it sends.
        """
        clients, at = form.num_clients, 0
        numbers = np.asarray(np.clip(numbers, -1.0, 1.0), dtype=np.float64)
        scores, powers = {}, {}
        for name, count in form.links:
            scores[name] = numbers[:, at : at + clients * count].reshape(-1, clients, count)
            at += clients * count
            powers[name] = (numbers[:, at : at + clients] + 1.0) / 2.0
            at += clients
        picked: dict[str, Ints] = {}
        for name, choices in (("cut", form.cut_layers), ("rank", form.ranks)):
            if choices:
                place = ((numbers[:, at] + 1.0) / 2.0 * len(choices)).astype(np.int64)
                picked[name], at = np.minimum(place, len(choices) - 1), at + 1
        takes_part = np.ones((len(numbers), clients), dtype=bool)
        if "participation" in form.sets:
            takes_part, at = somebody(numbers[:, at : at + clients]), at + clients
        sent_steps = None
        if "sparsification" in form.sets:
            sent_steps = steps_of((numbers[:, at : at + clients] + 1.0) / 2.0)
        return cls(scores, powers, takes_part, picked.get("cut"), picked.get("rank"), sent_steps)

    def of_copy(self, copy: int) -> Self:
        """Return what was decided in one copy, as of one."""
        one = slice(copy, copy + 1)
        several = (self.cut, self.rank, self.sent_steps)
        return type(self)(
            {name: each[one] for name, each in self.scores.items()},
            {name: each[one] for name, each in self.powers.items()},
            self.takes_part[one],
            *(None if each is None else each[one] for each in several),
        )


def steps_of(shares: Floats) -> Ints:
    """Return shares from 0 to 1 as whole steps, at least one."""
    return np.clip(np.rint(shares * RATIO_STEPS), 1, RATIO_STEPS).astype(np.int64)


def somebody(wish: Floats) -> Bools:
    """Return who takes part: those with zero or more, or else the one with the most; shape as given."""
    takes_part = np.asarray(wish >= 0.0)
    nobody = np.flatnonzero(~takes_part.any(axis=1))
    takes_part[nobody, wish[nobody].argmax(axis=1)] = True
    return takes_part


def owners_of(scores: Floats, takes_part: Bools) -> Ints:
    """Return who has each subchannel, shape (num_copies, num_subchannels).

    The client of the highest score of those who take part. One that is left without any is given, in
    the order of the clients, the subchannel it scores highest among those whose owner has another.
    """
    if not takes_part.all():
        scores = np.where(takes_part[:, :, np.newaxis], scores, -np.inf)
    owners, goes_without = scores.argmax(axis=1), takes_part.copy()
    goes_without[np.arange(len(owners))[:, np.newaxis], owners] = False
    for copy in np.flatnonzero(goes_without.any(axis=1)).tolist():
        own, count = owners[copy], np.bincount(owners[copy], minlength=scores.shape[1])
        for client in np.flatnonzero(goes_without[copy]).tolist():
            given = int(np.where(count[own] > 1, scores[copy, client], -np.inf).argmax())
            count[own[given]] -= 1
            own[given], count[client] = client, 1
    return np.asarray(owners)


def powers_of(link: LinkState, share: Floats, takes_part: Bools) -> Floats:
    """Return each client's power over all its subchannels, W, within all limits, shaped as its share."""
    powers_w = link.max_tx_power_w * (LEAST_POWER + (1.0 - LEAST_POWER) * share) * takes_part
    together_w = powers_w.sum(axis=1, keepdims=True)
    return np.asarray(powers_w * np.minimum(1.0, link.max_total_tx_power_w / together_w))


def snr_db(link: LinkState, gains: Floats) -> Singles:
    """Return the SNR, dB, of clients that send at full power over the whole band, shaped as the gains.

    Parameters
    ----------
    gains
        Shape (num_copies, num_clients, num_subchannels).
    """
    psd = link.max_tx_power_w / link.bandwidths_hz.sum() / link.noise_psd_w_per_hz
    with np.errstate(divide="ignore"):
        levels = 10.0 * np.log10(gains * psd[:, np.newaxis])
    return np.asarray(np.clip(levels, -200.0, 200.0), dtype=np.float32)


def compute_s(state: CellState, round_: Round) -> Floats:
    """Return what each client computes in a round, s, shape (num_clients,)."""
    each, lasts_s = np.zeros(state.num_clients), durations_s(state, {})
    for barrier, times, _ in barriers_of(round_):
        for client, chain in enumerate(barrier.chains):
            each[client] += times * sum(lasts_s(one, client) for one in chain if isinstance(one, Compute))
    return each


def observed(
    links: Sequence[LinkState],
    snrs_db: Mapping[str, Singles],
    mean_snrs_db: Mapping[str, Singles],
    computes_s: Floats,
    weights: Floats,
    last_round_s: Floats,
    round_: Ints,
) -> dict[str, Singles]:
    """Return what a policy sees of some copies, by name; the copies are the first axis.

    Parameters
    ----------
    links, weights
        What all copies have in common.
    snrs_db, mean_snrs_db
        By link, :func:`snr_db` of its gains, and of those before fading, shapes (num_copies, num_clients,
        num_subchannels) and (num_copies, num_clients).
    computes_s, last_round_s, round_
        Of each copy; no last round lasts 0 s.
    """
    num_copies, num_clients = computes_s.shape
    seen: dict[str, Singles] = {}
    limits_w = np.zeros(num_clients)
    for link in links:
        seen[f"{link.name}_snr_db"] = snrs_db[link.name]
        seen[f"{link.name}_mean_snr_db"] = mean_snrs_db[link.name]
        if link.name.endswith("uplink"):
            limits_w = link.max_tx_power_w
    dbm = 10.0 * np.log10(np.maximum(limits_w, 1e-23) * 1e3)
    for label, value in (("max_tx_power_dbm", dbm), ("weights", weights)):
        seen[label] = np.broadcast_to(value.astype(np.float32), (num_copies, num_clients))
    seen["compute_s"] = computes_s.astype(np.float32)
    seen["last_round_s"] = last_round_s[:, np.newaxis].astype(np.float32)
    seen["round"] = round_[:, np.newaxis].astype(np.float32)
    return seen


def flat(seen: Mapping[str, Singles]) -> Singles:
    """Return what is seen as one row for each copy."""
    return np.concatenate([one.reshape(len(one), -1) for one in seen.values()], axis=1)


def seen_by_controller(state: CellState) -> dict[str, Singles]:
    """Return what a policy sees of a cell, as one copy."""
    setting = Setting(state.client_cut_layers or state.cut_layer, state.lora_rank)
    links = list(state.links.values())
    means = np.zeros(state.num_clients) if not links else links[0].mean_gains[:, 0]
    return observed(
        links,
        {one.name: snr_db(one, one.gains[np.newaxis]) for one in links},
        {one.name: snr_db(one, means[np.newaxis, :, np.newaxis])[..., 0] for one in links},
        compute_s(state, state.phases(setting))[np.newaxis],
        state.weights,
        np.array([state.last_round_s or 0.0]),
        np.array([state.round]),
    )


def decoded(state: CellState, form: Form, choice: Choice) -> Allocation:
    """Return the decision that the first of some copies has chosen; always within the limits of the cell."""
    takes_part, grants = choice.takes_part[:1], {}
    for name, link in state.links.items():
        (owners,) = owners_of(choice.scores[name][:1], takes_part)
        (powers_w,) = powers_of(link, choice.powers[name][:1], takes_part).tolist()
        grants[name] = tuple(
            Grant.spread(np.flatnonzero(owners == client), power) for client, power in enumerate(powers_w)
        )
    cut, rank = state.cut_layer, state.lora_rank
    if not state.is_settled:
        cut = cut if choice.cut is None else form.cut_layers[int(choice.cut[0])]
        rank = rank if choice.rank is None else form.ranks[int(choice.rank[0])]
    knobs = {}
    if "participation" in form.sets:
        knobs[PARTICIPATION.name] = tuple(takes_part[0].astype(float).tolist())
    if choice.sent_steps is not None:
        knobs[SPARSIFICATION_RATIO.name] = tuple((choice.sent_steps[0] / RATIO_STEPS).tolist())
    return Allocation(grants, cut, rank, client_cut_layers=state.client_cut_layers, knobs=knobs)
