"""Water-filling: the most rate for some power, the least power for some rate, both exactly.

With rate ``B log2(1 + p g)`` on each subchannel (``p`` in W/Hz, ``g`` the gain
over noise in Hz/W), both optima fill to a level: ``p = (level - 1/g)+``. Which
subchannels lie under water changes at break points that depend on the gains
alone, so the level for a given rate or power is found by looking up its place
among them. There is no iteration, whatever the widths. Where the rate is capped, a subchannel
that carries its cap takes no more power, so the level has a second break point for each.

Source
------
R. G. Gallager, "Information theory and reliable communication", Wiley, 1968,
sec. 7.5; the minimum-power form is method card 1 (FedsLLM), section 7.2.
"""

from typing import Any

import numpy as np

from cosim.units import Floats

_LN2 = float(np.log(2.0))
_HIGHEST = 1e300
_NO_CAP = 500.0  # bit/s/Hz, beyond what a float can fill
_ROUNDING = 1.0 + 1e-9  # a rate above the cap by so little is the cap


class WaterFilling:
    """The subchannels of each client, ready to be filled again and again.

    Gains are held relative to the client's best one, so that equal gains leave
    no rounding and gains of any size can be compared.
    """

    def __init__(self, gains: Floats, bandwidths_hz: Floats, cap_bit_per_s_per_hz: float = np.inf) -> None:
        """Sort the subchannels of each client from best to worst.

        Parameters
        ----------
        gains
            Power gain over noise PSD, Hz/W, shape (..., num_owned); zero where
            there is no subchannel.
        bandwidths_hz
            Widths, Hz, of a shape that broadcasts to that of ``gains``.
        cap_bit_per_s_per_hz
            The most that a subchannel carries.

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
        self._cap = cap_bit_per_s_per_hz if cap_bit_per_s_per_hz < _NO_CAP else np.inf
        depths = 1.0 / self._relative - 1.0  # how far the level must rise to reach a subchannel
        self._clients = np.indices(gains.shape[:-1], sparse=True)
        widths, heights = self._widths, -self._logs  # of what each break adds, and where it lies
        logs, under = self._widths * self._logs, self._widths * depths
        if np.isfinite(self._cap):
            widths, heights, usable, logs, under, depths = self._with_caps(usable, logs, under)
        self._heights = heights
        self._width_sums = widths.cumsum(axis=-1)
        if np.isfinite(self._cap):  # where all that began are full, sums may leave a rounding of a width
            rising = np.where(widths > 0.0, 1, np.where(widths < 0.0, -1, 0)).cumsum(axis=-1)
            self._width_sums = np.where(rising > 0, self._width_sums, 0.0)
        self._log_sums = logs.cumsum(axis=-1)
        self._depth_sums = under.cumsum(axis=-1)
        self._rate_breaks = np.where(usable, self._log_sums + self._width_sums * heights, np.inf)
        self._fill_breaks = np.where(usable, self._width_sums * depths - self._depth_sums, np.inf)

    def _with_caps(self, usable: np.ndarray, logs: Floats, under: Floats) -> tuple[Any, ...]:
        """Return what breaks add, both where a subchannel begins to fill and where it is full, by height."""
        most = 2.0**self._cap
        full = -self._widths, self._cap - self._logs, usable, self._widths * self._cap - logs
        under_full = -self._widths * (np.minimum(most / self._relative, _HIGHEST) - 1.0)
        begun = self._widths, -self._logs, usable, logs
        pairs = [*zip(begun, full, strict=True), (under, under_full)]
        joined = [np.concatenate(pair, axis=-1) for pair in pairs]
        order = np.argsort(np.where(joined[2], joined[1], np.inf), axis=-1, kind="stable")
        found = [np.take_along_axis(one, order, axis=-1) for one in joined]
        return *found, np.minimum(np.exp2(np.minimum(found[1], 1e3)), _HIGHEST) - 1.0

    def max_rate(self, power_w: Floats) -> Floats:
        """Return the most rate that ``power_w`` allows, bit/s, shape (...)."""
        fill = np.asarray(power_w, dtype=float) * self._best
        last = _last_below(self._fill_breaks, fill)
        width, depth, log = self._sums_at(last)
        rate = width * np.log1p((fill + depth) / np.where(width > 0.0, width, 1.0)) / _LN2 + log
        return np.where(fill > 0.0, rate, 0.0)

    @property
    def _most(self) -> Floats:
        """The most rate at any power, bit/s, shape (...)."""
        return np.asarray(self._cap * self._widths.sum(axis=-1))

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
        can = self._best > 0.0
        if np.isfinite(self._cap):
            can &= np.asarray(rate_bit_per_s) <= self._most * _ROUNDING
        power = np.where(idle, 0.0, np.where(can, np.maximum(power, 0.0), np.inf))
        return power, np.where(can, slope, np.inf)

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
        level = _LN2 * (rate - log) / np.where(width > 0.0, width, 1.0)
        if np.isfinite(self._cap):  # all is full: the level is where the last one became so
            level = np.where(width > 0.0, level, _LN2 * self._heights[(*self._clients, last)])
        return level, width, depth

    def _sums_at(self, last: np.ndarray) -> tuple[Floats, Floats, Floats]:
        """Return the running sums of widths, depths and logarithms of each client up to a subchannel."""
        at = (*self._clients, last)
        return self._width_sums[at], self._depth_sums[at], self._log_sums[at]

    def _fill(self, heights: Floats) -> Floats:
        """Return the PSD at natural logarithms of level times gain, in the order the gains were given."""
        scale = self._relative * np.where(self._best > 0.0, self._best, 1.0)[..., None]
        with np.errstate(over="ignore"):
            heights = np.clip(heights, 0.0, self._cap * _LN2)
            psd = np.where(self._widths > 0.0, np.expm1(heights) / scale, 0.0)
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


def min_power(
    rate_bit_per_s: Floats, gains: Floats, bandwidths_hz: Floats, cap_bit_per_s_per_hz: float = np.inf
) -> Floats:
    """Return the least power that carries a rate over some subchannels, W, shape (...).

    The inverse of :func:`max_rate`; infinite above what caps allow.

    Examples
    --------
    >>> min_power(np.array(4.0), gains=np.array([3.0, 3.0]), bandwidths_hz=np.array([1.0, 1.0]))
    array(2.)
    """
    return WaterFilling(gains, bandwidths_hz, cap_bit_per_s_per_hz).min_power(rate_bit_per_s)


def _last_below(breaks: Floats, value: Floats) -> np.ndarray:
    """Return the index of the last subchannel whose break point lies below a value, at least 0."""
    return np.asarray(np.maximum((breaks < value[..., None]).sum(axis=-1) - 1, 0))
