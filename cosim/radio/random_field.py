"""Chance over the plane: normal draws that the same place meets again, and draws of a client's own."""

from functools import lru_cache

import numpy as np

from cosim.rng import Stream
from cosim.units import Floats

NUM_WAVES = 100
"""Sinusoids in a field; one realisation's autocorrelation differs from the model's by some hundredths."""

_MOST_PLACES = 4096  # at once, so that what is computed for each wave stays in the processor's cache
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def normals(stream: Stream, count: int) -> Floats:
    """Return standard normal draws, shape (count,); draw ``i`` is the same however many there are."""
    table = stream.uniforms(0, count, 2)  # Box-Muller: two uniforms for each
    return np.asarray(np.sqrt(-2.0 * np.log(table[:, 0])) * np.cos(2.0 * np.pi * table[:, 1]))


def field(stream: Stream, positions_m: Floats, correlation_m: float) -> Floats:
    """Return a Gaussian random field at some places, mean zero and variance one, shape (...).

    A pure function of stream and place. Over realisations (streams) its
    autocorrelation is exp(-distance / ``correlation_m``), exactly and for any number
    of sinusoids; its values are normal in the limit of many. The wave vectors are drawn
    from the field's spectrum, 1 / (1 + (k correlation_m)^2)^(3/2), by inverting the
    distribution of the wave number: one from each of :data:`NUM_WAVES` strata of equal
    probability, their directions spread by the golden ratio from a random start.

    Parameters
    ----------
    positions_m
        Places, m, shape (..., 2).
    correlation_m
        Distance over which the correlation falls to 1/e, m.

    Source
    ------
    S. Jaeckel et al., "Efficient sum-of-sinusoids based spatial consistency for the
    3GPP New-Radio channel model", IEEE Globecom Workshops, 2018; exponential
    autocorrelation: 3GPP TR 38.901, clause 7.4.4. Theirs have fixed wave vectors that
    are optimised for one autocorrelation function; here they are drawn.
    """
    along_x, along_y, phases = _waves(stream, correlation_m)
    places = positions_m.reshape(-1, 2)
    values = np.empty(len(places))
    for first in range(0, len(places), _MOST_PLACES):
        x, y = places[first : first + _MOST_PLACES, :, np.newaxis].transpose(1, 0, 2)
        waves = np.cos(x * along_x + y * along_y + phases)  # (num_places, NUM_WAVES)
        values[first : first + _MOST_PLACES] = waves.sum(axis=-1)
    return np.asarray(np.sqrt(2.0 / NUM_WAVES) * values).reshape(positions_m.shape[:-1])


@lru_cache(maxsize=1024)
def _waves(stream: Stream, correlation_m: float) -> Floats:
    """Return the waves of a field: wave numbers along x and y, 1/m, and phases, shape (3, NUM_WAVES)."""
    table = stream.uniforms(0, NUM_WAVES, 3)
    numbers = np.arange(NUM_WAVES)
    beyond = 1.0 - (numbers + table[:, 0]) / NUM_WAVES  # probability of a larger wave number
    wave_numbers = np.sqrt(1.0 / beyond**2 - 1.0) / correlation_m
    directions = 2.0 * np.pi * (numbers * _GOLDEN + table[0, 1])
    along_x, along_y = wave_numbers * np.cos(directions), wave_numbers * np.sin(directions)
    waves = np.stack([along_x, along_y, 2.0 * np.pi * table[:, 2]])
    waves.flags.writeable = False
    return waves
