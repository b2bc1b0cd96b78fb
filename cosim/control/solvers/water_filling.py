"""Water-filling: the most rate for some power, the least power for some rate, both exactly.

With rate ``B log2(1 + p g)`` on each subchannel (``p`` in W/Hz, ``g`` the gain
over noise in Hz/W), both optima fill to a level: ``p = (level - 1/g)+``. Which
subchannels lie under water changes at break points that depend on the gains
alone, so the level for a given rate or power is found by looking up its place
among them. There is no iteration, whatever the widths.

Source
------
R. G. Gallager, "Information theory and reliable communication", Wiley, 1968,
sec. 7.5; the minimum-power form is method card 1 (FedsLLM), section 7.2.
"""

import numpy as np

from cosim.units import Floats

_LN2 = float(np.log(2.0))


class WaterFilling:
    """The subchannels of each client, ready to be filled again and again.

    Gains are held relative to the client's best one, so that equal gains leave
    no rounding and gains of any size can be compared.
    """

    def __init__(self, gains: Floats, bandwidths_hz: Floats) -> None:
        """Sort the subchannels of each client from best to worst.

        Parameters
        ----------
        gains
            Power gain over noise PSD, Hz/W, shape (..., num_owned); zero where
            there is no subchannel.
        bandwidths_hz
            Widths, Hz, of a shape that broadcasts to that of ``gains``.

        Raises
        ------
        ValueError
            If there is no subchannel at all, or a gain or width is negative or
            not finite.
        """
        gains, widths = np.broadcast_arrays(
            np.asarray(gains, dtype=float), np.asarray(bandwidths_hz, dtype=float)
        )
        if gains.ndim == 0 or gains.shape[-1] == 0:
            raise ValueError("water-filling needs at least one subchannel")
        for name, values in (("gains", gains), ("bandwidths_hz", widths)):
            if not (np.isfinite(values) & (values >= 0.0)).all():
                raise ValueError(f"{name} must be finite and not negative, got {values.tolist()}")
        usable = (gains > 0.0) & (widths > 0.0)
        self._order = np.argsort(np.where(usable, -gains, np.inf), axis=-1, kind="stable")
        usable = np.take_along_axis(usable, self._order, axis=-1)
        sorted_gains = np.take_along_axis(gains, self._order, axis=-1)
        self._widths = np.where(usable, np.take_along_axis(widths, self._order, axis=-1), 0.0)
        self._best = np.where(usable[..., 0], sorted_gains[..., 0], 0.0)
        relative = np.where(usable, sorted_gains, 1.0) / np.where(usable[..., :1], sorted_gains[..., :1], 1.0)
        self._relative = np.where(usable, relative, 1.0)
        self._logs = np.log2(self._relative)
        depths = 1.0 / self._relative - 1.0  # how far the level must rise to reach a subchannel
        self._clients = np.indices(gains.shape[:-1], sparse=True)
        self._width_sums = self._widths.cumsum(axis=-1)
        self._log_sums = (self._widths * self._logs).cumsum(axis=-1)
        self._depth_sums = (self._widths * depths).cumsum(axis=-1)
        self._rate_breaks = np.where(usable, self._log_sums - self._width_sums * self._logs, np.inf)
        self._fill_breaks = np.where(usable, self._width_sums * depths - self._depth_sums, np.inf)

    def max_rate(self, power_w: Floats) -> Floats:
        """Return the most rate that ``power_w`` allows, bit/s, shape (...)."""
        fill = np.asarray(power_w, dtype=float) * self._best
        last = _last_below(self._fill_breaks, fill)
        width, depth, log = self._sums_at(last)
        rate = width * np.log1p((fill + depth) / np.where(width > 0.0, width, 1.0)) / _LN2 + log
        return np.where(fill > 0.0, rate, 0.0)

    def min_power(self, rate_bit_per_s: Floats) -> Floats:
        """Return the least power that carries a rate, W, shape (...); infinite where nothing would."""
        return self.min_power_and_slope(rate_bit_per_s)[0]

    def min_power_and_slope(self, rate_bit_per_s: Floats) -> tuple[Floats, Floats]:
        """Return the least power, W, and what one more bit/s would add to it, W s/bit, shapes (...)."""
        level, width, depth = self._level(rate_bit_per_s)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            power = (width * np.expm1(level) - depth) / self._best
            slope = _LN2 * np.exp(level) / self._best
        idle = np.asarray(rate_bit_per_s) <= 0.0
        power = np.where(idle, 0.0, np.where(self._best > 0.0, np.maximum(power, 0.0), np.inf))
        return power, np.where(self._best > 0.0, slope, np.inf)

    def psd_for_rate(self, rate_bit_per_s: Floats) -> Floats:
        """Return the least PSD of each subchannel that carries a rate, W/Hz, shape (..., num_owned)."""
        level, _, _ = self._level(rate_bit_per_s)
        level = np.where(np.asarray(rate_bit_per_s) > 0.0, level, 0.0)
        return self._fill(np.asarray(level)[..., None] + self._logs * _LN2)

    def _level(self, rate_bit_per_s: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the natural logarithm of level times best gain, and the sums under water."""
        rate = np.asarray(rate_bit_per_s, dtype=float)
        last = _last_below(self._rate_breaks, rate)
        width, depth, log = self._sums_at(last)
        return _LN2 * (rate - log) / np.where(width > 0.0, width, 1.0), width, depth

    def _sums_at(self, last: np.ndarray) -> tuple[Floats, Floats, Floats]:
        """Return the running sums of widths, depths and logarithms of each client up to a subchannel."""
        at = (*self._clients, last)
        return self._width_sums[at], self._depth_sums[at], self._log_sums[at]

    def _fill(self, heights: Floats) -> Floats:
        """Return the PSD at natural logarithms of level times gain, in the order the gains were given."""
        scale = self._relative * np.where(self._best > 0.0, self._best, 1.0)[..., None]
        with np.errstate(over="ignore"):
            psd = np.where(self._widths > 0.0, np.expm1(np.maximum(heights, 0.0)) / scale, 0.0)
        unsorted = np.empty_like(psd)
        np.put_along_axis(unsorted, np.broadcast_to(self._order, psd.shape), psd, axis=-1)
        return unsorted


def max_rate(power_w: Floats, gains: Floats, bandwidths_hz: Floats) -> Floats:
    """Return the most rate that a power allows over some subchannels, bit/s, shape (...).

    Parameters
    ----------
    power_w
        Power over all subchannels of each client, W, shape (...).
    gains, bandwidths_hz
        As for :class:`WaterFilling`.

    Examples
    --------
    >>> max_rate(np.array(2.0), gains=np.array([3.0, 3.0]), bandwidths_hz=np.array([1.0, 1.0]))
    array(4.)
    """
    return WaterFilling(gains, bandwidths_hz).max_rate(power_w)


def min_power(rate_bit_per_s: Floats, gains: Floats, bandwidths_hz: Floats) -> Floats:
    """Return the least power that carries a rate over some subchannels, W, shape (...).

    The inverse of :func:`max_rate`.

    Examples
    --------
    >>> min_power(np.array(4.0), gains=np.array([3.0, 3.0]), bandwidths_hz=np.array([1.0, 1.0]))
    array(2.)
    """
    return WaterFilling(gains, bandwidths_hz).min_power(rate_bit_per_s)


def _last_below(breaks: Floats, value: Floats) -> np.ndarray:
    """Return the index of the last subchannel whose break point lies below a value, at least 0."""
    return np.asarray(np.maximum((breaks < value[..., None]).sum(axis=-1) - 1, 0))
