"""Phases of a reflecting surface: what they make of gains, and ways to look for good ones.

Everything is worked out for many candidates at once, with an axis of candidates in front.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from cosim.control.state import SurfaceState
from cosim.radio.surface import Complexes
from cosim.units import Floats, Ints

_SWEEPS = 5
_GENERATIONS = 10
_ELITE = 0.25
_LEAST_SPREAD = 1e-2

Latency = Callable[[Ints], Floats]
"""How long a round lasts under the levels of each candidate, (num_candidates, num_elements), s."""


@dataclass(frozen=True, eq=False)
class Users:
    """What the surface can do for the clients on one link, in the mean over its subchannels.

    Attributes
    ----------
    direct
        Mean amplitude of the direct path, shape (num_clients,).
    power
        Mean power of the direct path, shape (num_clients,).
    reflected
        Amplitudes over each element at phase zero, shape (num_clients, num_elements).
    """

    direct: Complexes
    power: Floats
    reflected: Complexes

    @classmethod
    def of(cls, surface: SurfaceState, link: str) -> Self:
        """Return the users of a link."""
        direct = surface.direct[link]
        return cls(direct.mean(axis=1), (np.abs(direct) ** 2).mean(axis=1), surface.reflected[link])

    def amplitudes(self, turns: Complexes) -> Complexes:
        """Return direct and reflected amplitude together, shape (num_candidates, num_clients).

        ``turns`` are the factors of the elements, shape (num_candidates, num_elements).
        """
        return np.asarray(self.direct + turns @ self.reflected.T)

    def gains(self, turns: Complexes) -> Floats:
        """Return the mean gains over the subchannels, shape (num_candidates, num_clients)."""
        reflected = turns @ self.reflected.T
        return np.asarray(self.power + 2.0 * (reflected.conj() * self.direct).real + np.abs(reflected) ** 2)


def turns_of(levels: Ints, num_levels: int) -> Complexes:
    """Return by what elements at these levels multiply what they reflect."""
    return np.asarray(np.exp(2j * np.pi / num_levels * levels))


def levels_of(phases: Floats, num_levels: int) -> Ints:
    """Return the nearest levels to some phases in radians."""
    return np.asarray(np.rint(phases * num_levels / (2.0 * np.pi)) % num_levels, dtype=np.int64)


def fixed_point(users: Sequence[Users], weights: Floats, num_levels: int) -> Ints:
    """Return the levels that serve clients by weights, shape (num_candidates, num_elements).

    Each sweep turns every element into phase with the weighted sum of the amplitudes that
    the sweep before left, the first with the direct paths:
    ``phase_n = -angle(sum_k conj(w_k exp(j angle h_k)) g_n f_kn)``.
    The sum of the weighted amplitudes never falls. Quantised behind the last sweep.

    Parameters
    ----------
    users
        Of each link that counts.
    weights
        Of each client, shape (num_candidates, num_clients).

    Source
    ------
    Method card 10 (arXiv 2008.12938), the inner problem; re-derived.
    """
    turns = np.zeros((len(weights), users[0].reflected.shape[1]), dtype=complex)
    for _ in range(_SWEEPS):
        pull = np.zeros_like(turns)
        for one in users:
            amplitudes = one.amplitudes(turns)
            size = np.abs(amplitudes)
            unit = np.divide(amplitudes, size, out=np.ones_like(amplitudes), where=size > 0.0)
            pull += (weights * unit.conj()) @ one.reflected
        turns = np.exp(-1j * np.angle(pull))
    return levels_of(np.angle(turns), num_levels)


@dataclass(frozen=True, eq=False)
class Found:
    """The best levels, how long a round lasts under them, s, and where the search ended."""

    levels: Ints
    latency_s: float
    centre: Floats
    trace_s: tuple[float, ...] = ()


def search(
    make: Callable[[Floats], Ints],
    latency: Latency,
    chance: np.random.Generator,
    centre: Floats,
    spread: float,
    num_evaluations: int,
) -> Found:
    """Return the best of so many candidates by the cross-entropy method.

    Each generation is drawn around the mean of the best quarter of the one before, with
    their spread; the first has the centre itself in it.

    Parameters
    ----------
    make
        Returns levels from what is searched over, shape (num_candidates, num_numbers).
    centre, spread
        Where to begin, shape (num_numbers,), and how far around.
    """
    per_generation = max(num_evaluations // _GENERATIONS, 1)
    spreads = np.full(len(centre), spread)
    best: Found | None = None
    left, trace = num_evaluations, []
    while left > 0:
        count = min(per_generation, left)
        left -= count
        drawn = centre + spreads * chance.standard_normal((count, len(centre)))
        if best is None:
            drawn[0] = centre
        levels = make(drawn)
        lasts_s = latency(levels)
        order = np.argsort(lasts_s, kind="stable")
        elite = drawn[order[: max(int(np.ceil(_ELITE * count)), 1)]]
        centre, spreads = elite.mean(axis=0), np.maximum(elite.std(axis=0), _LEAST_SPREAD * spread)
        first = int(order[0])
        if best is None or lasts_s[first] < best.latency_s:
            best = Found(levels[first], float(lasts_s[first]), centre)
        trace.append(best.latency_s)
    assert best is not None
    return Found(best.levels, best.latency_s, centre, tuple(trace))
