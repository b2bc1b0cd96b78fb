"""Named random streams: what a draw gives depends on its name, never on who drew before.

Each stream is a Philox generator keyed by a hash of the seed and the stream's
name. Philox is counter-based: the value at any position can be asked for
directly, in any order, which is what makes a fading gain a pure function of
(seed, link, time).

Source
------
J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox).
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from cosim.units import Floats

_WORDS_PER_COUNTER = 4  # Philox4x64 gives four 64-bit words for one value of its counter


@dataclass(frozen=True, slots=True)
class Stream:
    """One named source of chance; ``key`` is the Philox key its name hashes to."""

    key: int

    def child(self, *names: str | int) -> "Stream":
        """Return the stream of this name below this one."""
        return Stream(_digest(self.key.to_bytes(16, "big"), names))

    def generator(self) -> np.random.Generator:
        """Return a fresh generator at the beginning of the stream."""
        return np.random.Generator(np.random.Philox(key=self.key))

    def torch_seed(self) -> int:
        """Return a seed for torch, which takes 64 bits and keeps the sign bit clear."""
        return self.key & (2**63 - 1)

    def uniforms(self, first: int, count: int, width: int) -> Floats:
        """Return rows ``first`` to ``first + count - 1`` of an endless table of uniforms.

        Any row is the same whichever rows are asked for with it, before it or
        after it.

        Parameters
        ----------
        first, count
            First row, at least 0, and number of rows.
        width
            Numbers in a row; the same at every call, or the table is another one.

        Returns
        -------
        ndarray
            Uniform on the open interval (0, 1), shape (count, width).

        Examples
        --------
        >>> table = stream(1, "fading").uniforms(0, 10, 3)
        >>> bool((stream(1, "fading").uniforms(7, 2, 3) == table[7:9]).all())
        True
        """
        counters_per_row = -(-width // _WORDS_PER_COUNTER)
        words_per_row = counters_per_row * _WORDS_PER_COUNTER
        bits = np.random.Philox(key=self.key, counter=first * counters_per_row)
        words = bits.random_raw(count * words_per_row).reshape(count, words_per_row)[:, :width]
        return np.asarray(((words >> np.uint64(12)) + 0.5) * 2.0**-52)  # 53 bits, so 1.0 is never reached


def stream(seed: int, *names: str | int) -> Stream:
    """Return the stream of this seed and name.

    Examples
    --------
    >>> stream(1, "fading", 3) == stream(1, "fading").child(3)
    True
    >>> stream(1, "fading", 3) == stream(1, "fading", "3")
    False
    """
    return Stream(_digest(b"cosim", (seed,))).child(*names)


def _digest(start: bytes, names: tuple[str | int, ...]) -> int:
    """Fold names one by one, so that child(a).child(b) is child(a, b)."""
    digest = start
    for name in names:
        digest = blake2b(digest + f"{type(name).__name__}:{name}".encode(), digest_size=16).digest()
    return int.from_bytes(digest, "big")
