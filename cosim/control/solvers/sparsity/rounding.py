"""From a continuous decision to what can be sent: whole rank pairs, whole subchannels.

Source
------
Method card 2 (soft_tsfa), section 8.4: pairs are rounded down. Using what that
leaves of the band for further pairs, and assigning subchannels, are ours.
"""

import numpy as np

from cosim.control.solvers.sparsity.curves import Curves, Stepped
from cosim.control.solvers.sparsity.uplink import Uplink
from cosim.units import Floats, Ints

_ROUNDING = 1.0 + 1e-9


class WholePairs:
    """Rounds payloads down to whole rank pairs.

    With exact curves a client's next pair is the next piece of its curve. Without
    them the order is not known here; then pairs that are all equally large are
    counted, and others are left to the client, which sends no more than it is granted.
    """

    def __init__(self, curves: Curves, pair_bits: Ints, pieces: Stepped | None) -> None:
        """Take the curves, the size of each pair, and the exact pieces where they are known."""
        self._curves = curves
        self._pieces = pieces
        is_uniform = len(pair_bits) > 0 and bool((pair_bits == pair_bits[0]).all())
        self._pair_bits = float(pair_bits[0]) if is_uniform and pieces is None else 0.0

    @property
    def is_known(self) -> bool:
        """Whether it is known how large the next pair is."""
        return self._pieces is not None or self._pair_bits > 0.0

    @property
    def useful_bits(self) -> Floats:
        """From how many bits on nothing more is won, shape (num_clients,)."""
        return self._curves.useful_bits

    def down(self, bits: Floats) -> Floats:
        """Return payloads of whole pairs, none larger than those given."""
        if self._pieces is not None:
            return self._pieces.bits_of(self._pieces.num_whole(bits * _ROUNDING))
        if self._pair_bits > 0.0:
            return np.floor(bits * _ROUNDING / self._pair_bits) * self._pair_bits
        return bits

    def after(self, bits: Floats) -> Floats:
        """Return payloads of one pair more, or the same where there is none to be won."""
        if self._pieces is not None:
            whole = self._pieces.num_whole(bits * _ROUNDING)
            return self._pieces.bits_of(np.minimum(whole + 1, self._pieces.num_pieces))
        return np.minimum(bits + self._pair_bits, np.maximum(self._curves.useful_bits, bits))

    def fit(self, uplink: Uplink, bits: Floats, deadline_s: float) -> Floats:
        """Return payloads of whole pairs that get through a band by a deadline.

        Rounded down, and then, while the band has room, one pair more for the client that
        saves most energy per Hz with it.
        """
        bits = self.down(bits)
        if not self.is_known:
            return bits
        deadline = np.asarray(deadline_s)
        needed = uplink.needed_hz(uplink.overhead_bits + bits, deadline)
        for _ in range(10 * uplink.num_clients):
            larger = self.after(bits)
            widths = uplink.needed_hz(uplink.overhead_bits + larger, deadline)
            saved = self._curves.remaining(bits) - self._curves.remaining(larger)
            room = uplink.bandwidth_hz - float(needed.sum())
            fits = (larger > bits) & (saved > 0.0) & (widths - needed <= room)
            if not fits.any():
                break
            rates = np.where(fits, saved, -np.inf) / np.where(fits, np.maximum(widths - needed, 1e-300), 1.0)
            client = int(rates.argmax())
            bits[client], needed[client] = larger[client], widths[client]
        return bits


def assign_subchannels(wanted_hz: Floats, bandwidths_hz: Floats, gains: Floats) -> Ints:
    """Return the owner of each subchannel, shape (num_subchannels,), each client having at least one.

    First everybody picks one, those who want least first; then, again and again,
    the client that misses most. A pick is the best that is left.

    Parameters
    ----------
    wanted_hz
        What each client would have of the band, Hz, shape (num_clients,).
    bandwidths_hz
        Width of each subchannel, Hz, shape (num_subchannels,).
    gains
        Of each client on each subchannel, shape (num_clients, num_subchannels).
    """
    assignment = np.full(len(bandwidths_hz), -1, dtype=np.int64)
    missing = np.array(wanted_hz, dtype=float)
    left = np.where(np.isfinite(gains), gains, 0.0)

    def pick(client: int) -> None:
        number = int(left[client].argmax())
        assignment[number] = client
        left[:, number] = -np.inf
        missing[client] -= bandwidths_hz[number]

    for client in np.argsort(missing, kind="stable").tolist():
        pick(client)
    for _ in range(len(bandwidths_hz) - len(missing)):
        pick(int(missing.argmax()))
    return assignment
