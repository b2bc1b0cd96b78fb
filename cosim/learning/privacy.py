"""What clients give away of their data: kept account of at each release, and held against a budget."""

from functools import cache, lru_cache
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.update import Release
from cosim.parts import Table
from cosim.units import Floats, Ints

if TYPE_CHECKING:
    from cosim.learning.task import Task

Level = Literal["client", "example"]
Positive = Annotated[float, Field(gt=0.0)]

ORDERS = (1.25, 1.5, 1.75, *range(2, 64), 72, 80, 96, 128, 192, 256, 512, 1024)
"""Orders of Renyi divergence that are looked at."""

MOST_SHIFT, MOST_NOISE = 50.0, 1e6
"""By how many deviations of the noise a release may move before epsilon, above 1000, is called infinite;
and the largest noise multiplier anything is worked out for: more counts as that."""

LEAST_INTERVAL, MOST_INTERVAL = 5e-4, 3e-2
"""Steps of privacy loss that distributions are rounded up to: a hundredth of the shift, within these."""


class Privacy(Table):
    """Account of what each client gives away, and a budget after which it takes no more part.

    Two data sets of a client are neighbours where one example, or at the level of clients all of
    them, are replaced by others. A sum whose parts are no longer than C then moves by 2 C at most.

    Who takes part is no secret from the server, so a client's release counts in full however it was
    chosen. Mini-batches are a secret of the client. Those drawn ``independent`` count by their rate
    (sampling without replacement). Of shuffled epochs no such bound is claimed: an example counts in
    full each time it is in a mini-batch, as if the order were known.

    Attributes
    ----------
    level
        Whether ``scheme.update`` hides a client, or ``training.gradients`` each of its examples.
    epsilon
        What a client may spend, one for all or one for each; a client that cannot afford another
        round stops, and the run ends when none can. Left out, account is kept and nobody stops.
    delta
        The delta of every epsilon.
    accountant
        ``rdp``, a bound by moments, or ``pld``, privacy loss distributions, which is nearly exact.

    Source
    ------
    K. Wei et al., "Low-latency federated learning over wireless channels with differential
    privacy", IEEE JSAC 2022, arXiv 2106.13039 (method card 9; its accounting is re-derived).
    I. Mironov, "Renyi differential privacy", CSF 2017; Y.-X. Wang, B. Balle,
    S. Kasiviswanathan, "Subsampled Renyi differential privacy and analytical moments
    accountant", AISTATS 2019, as the library ``dp-accounting`` has them.
    """

    level: Level = "client"
    epsilon: Positive | tuple[Positive, ...] | None = None
    delta: float = Field(default=1e-5, gt=0.0, lt=1.0)
    accountant: Literal["rdp", "pld"] = "rdp"


class Accountant:
    """Epsilon by the number of releases of one kind; each is worked out once.

    Parameters
    ----------
    noise_multiplier
        Standard deviation of the noise over the most that neighbours differ by.
    sampled
        Examples of a mini-batch and of the share it is drawn from; None where nothing is sampled.

    Raises
    ------
    ScenarioError
        If ``dp-accounting`` is not installed, or has no bound for this.
    """

    def __init__(
        self, kind: str, noise_multiplier: float, delta: float, sampled: tuple[int, int] | None = None
    ) -> None:
        self._library, self._delta = _library(), delta
        self._noise_multiplier = min(max(noise_multiplier, 1.0 / MOST_SHIFT), MOST_NOISE)
        self._hides = noise_multiplier > 1.0 / MOST_SHIFT
        self._event = self._library.GaussianDpEvent(self._noise_multiplier)
        self._rdp: Floats | None = None
        if kind == "rdp":
            if sampled is not None:
                self._event = self._library.SampledWithoutReplacementDpEvent(*sampled[::-1], self._event)
            relation = self._library.NeighboringRelation.REPLACE_ONE
            one = self._library.rdp.RdpAccountant(ORDERS, relation).compose(self._event)
            self._rdp = np.asarray(one.rdp)
        elif sampled is not None:
            raise ScenarioError(
                "scheme.privacy.accountant: 'pld' has no bound for mini-batches drawn without replacement; "
                "take 'rdp', or training.draws = 'epochs'."
            )
        self.epsilon = cache(self._epsilon)

    def _epsilon(self, count: int) -> float:
        """Return what so many releases come to."""
        shift = count**0.5 / self._noise_multiplier
        if count == 0:
            return 0.0
        if not self._hides or (shift > MOST_SHIFT and self._rdp is None):
            return inf
        if self._rdp is not None:
            found = self._library.rdp.compute_epsilon(ORDERS, count * self._rdp, self._delta)
            return float(found[0])
        # any relation: that neighbours may replace is in the multiplier, and here it would count twice
        interval = min(max(0.01 * shift, LEAST_INTERVAL), MOST_INTERVAL)
        accountant = self._library.pld.PLDAccountant(value_discretization_interval=interval)
        return float(accountant.compose(self._event, count).get_epsilon(self._delta))


_accountant = lru_cache(maxsize=1024)(Accountant)


def _library() -> Any:
    try:
        found, *_ = map(import_module, ("dp_accounting", "dp_accounting.pld", "dp_accounting.rdp"))
    except ModuleNotFoundError:
        raise ScenarioError(
            "scheme.privacy: accounting needs the package dp-accounting; "
            "run 'pip install cosim-fl[privacy]', or leave scheme.privacy out."
        ) from None
    return found


class Ledger:
    """What each client of a task has given away so far.

    Parameters
    ----------
    update
        What leaves of a whole update; None where it has no noise.

    Raises
    ------
    ScenarioError
        If nothing adds noise, or bounds what it is added to, or a budget does not last for a round.
    """

    def __init__(self, task: "Task", privacy: Privacy, update: Release | None, local_steps: int) -> None:
        self._task, self._privacy = task, privacy
        self._is_of_clients = privacy.level == "client"
        self._is_sampled = not self._is_of_clients and task.training.draws == "independent"
        self._budgets = _budgets(privacy, task.num_clients)
        release = update if self._is_of_clients else task.training.gradients.release
        self._noise_multiplier = _noise_multiplier(release, privacy.level)
        self._counts = [0] * task.num_clients
        # of each row how often it was in a mini-batch, those of one mini-batch together squared
        self._rows: list[Ints] = [np.zeros(len(share), dtype=np.int64) for share in task.shares]
        self._draws = [task.draws(client) for client in range(task.num_clients)]
        for client in range(task.num_clients):
            spent = self._epsilon(client, self._after(client, range(local_steps))[0])
            if spent > self._budgets[client]:
                raise ScenarioError(
                    f"scheme.privacy.epsilon: {self._budgets[client]:g} is spent before the first round, in "
                    f"which client-{client} gives away {spent:.4g} at delta {privacy.delta:g}; allow for "
                    "more, add more noise, or take fewer local steps."
                )

    def affords(self, client: int, steps: range) -> bool:
        """Return whether a client's budget lasts for these of its local steps."""
        return self._epsilon(client, self._after(client, steps)[0]) <= self._budgets[client]

    def release(self, client: int, steps: range) -> float:
        """Take in what a client gives away by these local steps; returns its epsilon so far."""
        self._counts[client], self._rows[client] = self._after(client, steps)
        return self._epsilon(client, self._counts[client])

    def _epsilon(self, client: int, count: int) -> float:
        told, sampled = self._privacy, None
        if self._is_sampled:
            sampled = self._task.training.batch_size, len(self._task.shares[client])
        return float(_accountant(told.accountant, self._noise_multiplier, told.delta, sampled).epsilon(count))

    def _after(self, client: int, steps: range) -> tuple[int, Ints]:
        """Return how many releases there are after these local steps, and how often each row was in one.

        An example that is m times in one mini-batch moves it m times as far, which is worth m * m
        releases: Gaussian noise composes by the squares of what it hides.
        """
        count, rows = self._counts[client], self._rows[client]
        if self._is_of_clients:
            return count + 1, rows
        if self._is_sampled:
            return count + len(steps), rows
        drawn = (np.bincount(self._draws[client].rows(step), minlength=len(rows)) for step in steps)
        rows = rows + sum(one * one for one in drawn)
        return int(rows.max()), rows


def _budgets(privacy: Privacy, num_clients: int) -> tuple[float, ...]:
    """Return what each client may spend."""
    given = privacy.epsilon
    if not isinstance(given, tuple):
        return (inf if given is None else given,) * num_clients
    if len(given) != num_clients:
        raise ScenarioError(
            f"scheme.privacy.epsilon: {len(given)} are given for {num_clients} clients; give one for each, "
            "or one for all."
        )
    return given


def _noise_multiplier(release: Release | None, level: Level) -> float:
    """Return the noise over what neighbours differ by at most, twice what one part of the sum can be."""
    noise = {
        "client": "scheme.update = [{ kind = 'clip' }, { kind = 'noise' }]",
        "example": "training.gradients = { kind = 'dp_sgd' }",
    }[level]
    if release is None:
        raise ScenarioError(
            f"scheme.privacy: an epsilon needs noise, and nothing adds any at the level of a {level}; "
            f"set {noise}, or leave scheme.privacy out."
        )
    if release.sensitivity == inf:
        raise ScenarioError(
            f"scheme.privacy: nothing bounds what noise is added to; clip ahead of it, as by {noise}."
        )
    return release.noise_std / (2.0 * release.sensitivity)
