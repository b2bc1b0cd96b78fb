"""The uplink of a round: who sends how much from when on, and the earliest common end of given uploads."""

from dataclasses import dataclass

import numpy as np

from cosim.control.solvers.sparsity.flat_rate import bandwidth_for_rate, flat_rate, rate_slope
from cosim.units import Floats

_TOLERANCE = 1e-13
_MOST_STEPS = 100


@dataclass(frozen=True, eq=False)
class Uplink:
    """A barrier behind uploads over one band that is cut into a channel of any width for each client.

    Attributes
    ----------
    snr_hz
        SNR each client would have in one hertz: received power over noise PSD
        and SNR gap, Hz, positive, shape (..., num_clients).
    bandwidth_hz
        Width of the whole band, Hz.
    start_s
        When each client has computed and begins to send, s, shape (num_clients,).
    overhead_bits
        What each sends in any case (mask, curve), shape (num_clients,).
    dense_bits
        What it sends on top at sparsification ratio 1, positive, shape (num_clients,).
    """

    snr_hz: Floats
    bandwidth_hz: float
    start_s: Floats
    overhead_bits: Floats
    dense_bits: Floats

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return int(np.shape(self.snr_hz)[-1])

    def needed_hz(self, sent_bits: Floats, deadline_s: Floats) -> Floats:
        """Return the bandwidth with which each client is done by a deadline, Hz, shape (..., num_clients).

        Infinite where none is enough. ``sent_bits`` counts the overhead too;
        ``deadline_s`` has shape (..., 1) or is a number.
        """
        left = np.maximum(np.asarray(deadline_s) - self.start_s, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = np.where(sent_bits > 0.0, sent_bits / left, 0.0)
        return bandwidth_for_rate(self.snr_hz, rates)

    def carried_bits(self, bandwidth_hz: Floats, deadline_s: Floats) -> Floats:
        """Return what each client gets through by a deadline, overhead included, shape (..., num_clients)."""
        return np.maximum(np.asarray(deadline_s) - self.start_s, 0.0) * flat_rate(self.snr_hz, bandwidth_hz)

    def finish_s(self, sent_bits: Floats, bandwidth_hz: Floats) -> Floats:
        """Return when each client is done, s, shape (..., num_clients); nothing to send takes no time."""
        rates = flat_rate(self.snr_hz, bandwidth_hz)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.start_s + np.where(sent_bits > 0.0, sent_bits / rates, 0.0)

    def earliest_s(self, sent_bits: Floats) -> Floats:
        """Return the earliest deadline by which all can be done, s, shape (...).

        Both sides of the search are known: nobody is faster than alone with the
        whole band, and equal shares are one way to share it. What all need
        together is convex and falling in the deadline; Newton steps on its
        logarithm are kept inside the bracket.

        Parameters
        ----------
        sent_bits
            What each client sends, overhead included, shape (..., num_clients).
        """
        sends = sent_bits > 0.0
        number = np.maximum(sends.sum(axis=-1, keepdims=True), 1)
        early = self.finish_s(sent_bits, np.full(self.num_clients, self.bandwidth_hz))
        early = early.max(axis=-1, keepdims=True)
        late = self.finish_s(sent_bits, self.bandwidth_hz / number).max(axis=-1, keepdims=True)
        deadline, done = early, np.zeros(early.shape, dtype=bool)
        for _ in range(_MOST_STEPS):
            widths = self.needed_hz(sent_bits, deadline)
            together = widths.sum(axis=-1, keepdims=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                excess = np.log(together / self.bandwidth_hz)
                rates = flat_rate(self.snr_hz, widths)
                slopes = rate_slope(self.snr_hz, np.where(widths > 0.0, widths, 1.0))
                falls = np.where(sends, rates / ((deadline - self.start_s) * slopes), 0.0)
                step = excess * together / falls.sum(axis=-1, keepdims=True)
            early = np.where(excess > 0.0, deadline, early)
            late = np.where(excess > 0.0, late, deadline)
            done |= (np.abs(step) <= _TOLERANCE * deadline) | (late - early <= _TOLERANCE * late)
            if done.all():
                break
            with np.errstate(invalid="ignore"):
                inside = (early < deadline + step) & (deadline + step < late)
            following = np.where(inside, deadline + step, 0.5 * (early + late))
            deadline = np.where(done, deadline, following)
        return np.asarray(deadline[..., 0])

    def fair_widths_hz(self, sent_bits: Floats) -> Floats:
        """Return the bandwidths with which the last is done as early as possible, Hz, shape (num_clients,).

        All of the band is given away, and all clients that send anything are done together.
        """
        widths = self.needed_hz(sent_bits, self.earliest_s(sent_bits))
        total = float(widths.sum())
        return widths * (self.bandwidth_hz / total) if total > 0.0 else widths
