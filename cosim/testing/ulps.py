"""How far apart numbers are that differ by rounding alone, in units of the size of what was summed.

The order of a sum, and with it the last digits, is the processor's: a library picks its kernel by what the
processor can do. Numbers that two ways of computing give are therefore compared with a few ulps of the size
of what is summed; numbers of one way, computed twice with the same shapes in one process, are equal
bit for bit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def ulps_apart(found: Any, expected: Any, size: float | None = None) -> float:
    """Return the largest difference in ulps of ``size``; without one, of the largest number expected.

    Numbers, arrays, tensors, and sequences and mappings of them; an ulp is that of the coarser type found.

    >>> ulps_apart(4.0, np.nextafter(4.0, 5.0))
    1.0
    >>> ulps_apart({"w": np.array([1.0, 1e-9])}, {"w": np.array([1.0, 2e-9])}, size=1e8) < 1.0
    True
    """
    pairs = list(_pairs(found, expected))
    if size is None:
        size = max(float(np.abs(one).max(initial=0.0)) for _, one in pairs)
    coarsest = max((one.dtype for pair in pairs for one in pair), key=lambda dtype: np.finfo(dtype).eps)
    furthest = max(float(np.abs(one - other).max(initial=0.0)) for one, other in pairs)
    return furthest / float(np.spacing(np.asarray(size, coarsest)))


def _pairs(found: Any, expected: Any) -> Any:
    """Yield the arrays of both, side by side."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys()
        for name in expected:
            yield from _pairs(found[name], expected[name])
    elif isinstance(expected, Sequence):
        for one, other in zip(found, expected, strict=True):
            yield from _pairs(one, other)
    else:
        one, other = _array(found), _array(expected)
        assert one.shape == other.shape
        yield one, other


def _array(value: Any) -> np.ndarray:
    """Return a number or tensor as an array of floats."""
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
