"""Weights of a sum over the air that trade bias for noise, from statistics of the channel.

Lengths and powers are relative: a mean amplitude of one is that of a sum whose noise on a
number is as large as the values may be, and updates have the norm of the clip.

Source
------
M. Faraz Ul Abrar and N. Michelusi, "Biased federated learning under wireless
heterogeneity", arXiv 2503.06078 (method card 1: the model is recalled, the algebra
re-derived). Rayleigh fading, one gain a client and transmission, truncated inversion.
"""

from dataclasses import dataclass

import numpy as np

from cosim.cores import one_blas_thread
from cosim.units import Floats

_MOST_SEARCHED = 50
_RANGE, _STEP = 12.0, 1e-6  # of logarithms: how far below the most, and for slopes
_POINTS = 401


@dataclass(frozen=True, eq=False)
class Front:
    """What designs there are.

    A client with factor ``f`` sends where its gain is at least ``f^2`` over its power, so
    its mean amplitude is ``f exp(-f^2 / snr)``, ``snr`` being of its mean gain.

    Attributes
    ----------
    snr
        At full power and mean gain, over the whole band, shape (num_clients,), positive.
    wanted
        Its share in the data, positive, adding up to one, shape (num_clients,).
    threshold
        Gain over its mean below which the weakest for its weight is silent, at most one half.
    """

    snr: Floats
    wanted: Floats
    threshold: float = 0.5

    @property
    def most(self) -> Floats:
        """Largest mean amplitude of each client, shape (num_clients,)."""
        return np.asarray(np.sqrt(self.threshold * self.snr) * np.exp(-self.threshold))

    def at(self, theta: float) -> Floats:
        """Return the mean amplitudes at a place on the front, shape (num_clients,).

        0 is no bias: all in proportion to what is wanted, as the weakest can. 1 is least
        noise: all as large as can be. Between them amplitudes are those wanted up to a
        common level, or the most a client can: of all designs with as much noise those
        with the least bias.
        """
        levels = self.most / self.wanted
        level = float(levels.min()) ** (1.0 - theta) * float(levels.max()) ** theta
        return np.asarray(np.minimum(self.most, level * self.wanted))

    def factors(self, amplitudes: Floats) -> Floats:
        """Return the factors that make mean amplitudes, both of shape (..., num_clients)."""
        from scipy.special import lambertw

        share = np.asarray(amplitudes / np.sqrt(self.snr))
        inside = np.maximum(-2.0 * share**2, -np.exp(-1.0) * (1.0 - 1e-12))  # short of the branch point
        return np.asarray(np.sqrt(-0.5 * lambertw(inside).real * self.snr))


@dataclass(frozen=True, eq=False)
class Bound:
    """What is minimised: a bound on how far from its optimum a training with a constant step ends.

    ``bias + gain x (fading + noise)``, each by the norm of the clip, squared.

    Attributes
    ----------
    front
        What designs there are.
    bias_weight
        ``num_clients kappa^2 / mu^2``, with kappa in norms of the clip.
    noise_gain
        ``eta / (mu (2 - eta mu))``.
    """

    front: Front
    bias_weight: float
    noise_gain: float

    def terms(self, amplitudes: Floats) -> tuple[Floats, Floats, Floats]:
        """Return bias, fading and noise of designs, amplitudes of shape (..., num_clients)."""
        total = amplitudes.sum(axis=-1)
        weights = amplitudes / total[..., None]
        bias = ((weights - self.front.wanted) ** 2).sum(axis=-1)
        fading = (weights * (self.front.factors(amplitudes) / total[..., None] - weights)).sum(axis=-1)
        return bias, fading, 1.0 / total**2

    def __call__(self, amplitudes: Floats) -> Floats:
        """Return the bound of designs, shape (...)."""
        bias, fading, noise = self.terms(amplitudes)
        return np.asarray(self.bias_weight * bias + self.noise_gain * (fading + noise))

    def optimum(self) -> Floats:
        """Return the mean amplitudes of the least bound, shape (num_clients,).

        Begins at the best place on the front, which does not know of the fading term. One
        client is the weakest for its weight, and as loud as it can be; for up to 50 clients
        each is tried as that one, by a local search over the amplitudes of the others.
        """
        front = self.front
        tried = np.stack([front.at(theta) for theta in np.linspace(0.0, 1.0, _POINTS).tolist()])
        best = tried[int(self(tried).argmin())]
        if len(front.wanted) <= _MOST_SEARCHED:
            designs = np.stack([best, *(self._with_loudest(one, best) for one in range(len(best)))])
            best = designs[int(self(designs).argmin())]
        return np.asarray(best)

    def _with_loudest(self, client: int, begin: Floats) -> Floats:
        """Return the best amplitudes nearby with this client at the most it can."""
        from scipy.optimize import minimize

        most = np.log(self.front.most)
        least = np.where(np.arange(len(most)) == client, most, most - _RANGE)
        scale = float(self(begin))
        steps = np.concatenate([np.zeros((1, len(most))), -_STEP * np.eye(len(most))])

        def value_and_slopes(logs: Floats) -> tuple[float, Floats]:
            values = self(np.exp(np.clip(logs, least, most) + steps)) / scale
            return float(values[0]), (values[0] - values[1:]) / _STEP

        with one_blas_thread():
            found = minimize(
                value_and_slopes,
                np.clip(np.log(begin), least, most),
                jac=True,
                method="SLSQP",
                bounds=list(zip(least.tolist(), most.tolist(), strict=True)),
                options={"maxiter": 200, "ftol": 1e-10},
            )
        return np.asarray(np.exp(np.clip(found.x, least, most)))
