"""Deadline, bandwidths and price of a round found together, by Newton steps on all conditions at once.

For curves without kinks. At the best round every client's last hertz is worth the
price, the band is used up, and one more second saves what it costs. Each client
meets the others in two sums only, so a step costs as much as looking at each once.
The steps find a lowest place near by, if they converge at all; the caller looks
elsewhere too.

Source
------
Method card 2 (soft_tsfa), section 8.4, whose two nested searches these steps
replace where they settle.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import exp, expm1, inf, log, log1p, sqrt
from typing import NamedTuple

from cosim.control.solvers.sparsity.client_demand import (
    LN2,
    SMALL,
    Pieces,
    efficiency_for,
    plain,
    rate_bend,
    saved,
)
from cosim.control.solvers.sparsity.uplink import Uplink

_MOST_STEPS = 25
_NEAR = 1e-7  # a Newton step so short leaves nothing to be made up for
_ROUGH = 0.1  # enough to see where to look next
_AIRTIME = 2.0  # by what factor a step changes it at most
_PRICE = 3.0  # by how much a step changes the price's logarithm at most
_LEAST_SHARE = 1e-12  # of the band: what a client without overhead has at least
_STRIDE = 2.5  # from one look to the next, in airtime
_EVEN_STEPS = 3
_SHORTEST = 1e-4  # airtime looked at, as a share of the first found
_NARROW = 1.3  # neighbours so near in airtime have nothing between them
_SLACK = 1e-3  # rough looks do not know better
_ALMOST = 1.0 - 1e-9

_Row = tuple[float, float, list[float], list[float], list[float], list[float], int]
_State = tuple[list[float], list[int], list[int]]


class Spot(NamedTuple):
    """A sharing for one deadline.

    Attributes
    ----------
    deadline_s, air_s
        The deadline, and how long before it the last client begins, s.
    widths_hz, unsent
        Bandwidth of each client, Hz; energy left unsent.
    total, rise
        What is left unsent and what the deadline costs, in energy; what that rises by per second.
    earlier, later
        Slopes of two lines the total is nowhere below, whether it is convex or not: it
        is what it is here plus ``earlier`` for every second before, and minus ``later``
        for every second after this deadline. They are of airtimes weighted with what
        they carry, which cannot shrink or grow faster than the longest or the shortest.
    log_price, state
        Of the descent.
    """

    deadline_s: float
    air_s: float
    widths_hz: list[float]
    unsent: float
    total: float
    rise: float
    earlier: float
    later: float
    log_price: float
    state: _State

    def can_hide(self, other: "Spot", least: float) -> bool:
        """Return whether lines leave room for a total below the least one between this and a later spot."""
        apart = other.deadline_s - self.deadline_s
        if self.later <= 0.0 or other.earlier >= 0.0:
            return min(self.total, other.total) < least
        crossing = (self.total - other.total - other.earlier * apart) / (self.later - other.earlier)
        return self.total - self.later * min(max(crossing, 0.0), apart) < least

    def looks_convex(self, other: "Spot") -> bool:
        """Return whether tangents here and at a later spot pass below each other's totals."""
        apart = other.deadline_s - self.deadline_s
        slack = _SLACK * abs(self.total)
        return (
            self.total + self.rise * apart <= other.total + slack
            and other.total - other.rise * apart <= self.total + slack
        )


def lows(uplink: Uplink, pieces: Sequence[Pieces], slope: float) -> list[Spot]:
    """Return the lowest places of what is unsent plus ``slope`` times the deadline.

    From the first that is found, looks are taken farther and farther away on both
    sides, until lines leave nothing to be found beyond; and between them where the
    total is not convex. There are none where the steps do not settle.
    """
    if not any(one.falls for one in pieces):
        return []
    descent = Descent(uplink, pieces, slope)
    if not descent.settle(moves=True):
        return []
    low = descent.spot()
    found, spots, least = [low], [low], low.total
    while (spot := spots[0]).air_s > _SHORTEST * low.air_s:
        if spot.total + min(spot.earlier, 0.0) * spot.air_s >= least * _ALMOST:
            break
        looked = descent.look(spot, spot.air_s / _STRIDE)
        if looked is None:
            break
        spots.insert(0, looked)
    while not (spot := spots[-1]).unsent <= descent.least_unsent:
        # What is left unsent falls along the line at most until nothing useful is left.
        rest = spot.unsent - descent.least_unsent
        if spot.total - rest + slope * rest / (spot.later + slope) >= least * _ALMOST:
            break
        looked = descent.look(spot, spot.air_s * _STRIDE)
        if looked is None:
            break
        spots.append(looked)
    stretches = list(pairwise(spots))
    while stretches:
        first, last = stretches.pop()
        least = min(one.total for one in found)
        if not first.can_hide(last, least * _ALMOST):
            continue
        is_narrow = last.air_s <= _NARROW * first.air_s
        if first.looks_convex(last):
            if not first.rise < 0.0 < last.rise or first in found or last in found:
                continue
            descent.go(first if first.total < last.total else last)
            if descent.settle(moves=True) and first.deadline_s < descent.deadline_s < last.deadline_s:
                found.append(descent.spot())
                continue
            if is_narrow:
                return []
        if not is_narrow:
            looked = descent.look(first, sqrt(first.air_s * last.air_s))
            if looked is None:
                return []
            stretches += [(first, looked), (looked, last)]
    return found


class Descent:
    """A round whose state moves: deadline, price, efficiency of each client, and where on its curve it is.

    Attributes
    ----------
    deadline_s, log_price
        The deadline, s, and the logarithm of energy per Hz.
    first_s, last_s
        When the first and the last client begin to send, s.
    least_unsent
        What is left unsent when everything useful is sent.
    """

    def __init__(self, uplink: Uplink, pieces: Sequence[Pieces], slope: float) -> None:
        """Take who sends over what, curves, and what a second costs in energy, positive."""
        self._band = uplink.bandwidth_hz
        self._slope, self._log_slope = slope, log(slope)
        self._rows: list[_Row] = []  # in nats, with the overhead
        for snr, start, overhead, one in plain(uplink, pieces):
            ends = [(overhead + end) * LN2 for end in one.ends]
            worth = [value - log(LN2) for value in one.log_worth]
            falls = [value / LN2 for value in one.falls]
            self._rows.append((snr, start, ends, one.rests, worth, falls, len(falls) - 1))
        self.first_s, self.last_s = float(uplink.start_s.min()), float(uplink.start_s.max())
        self.least_unsent = sum(one.rests[-1] for one in pieces)
        self.deadline_s, self.log_price = self._even()

    def _even(self) -> tuple[float, float]:
        """Return about the best deadline for even bandwidths, and the middle marginal value."""
        even = self._band / len(self._rows)
        self._efficiencies = [log1p(row[0] / even) for row in self._rows]
        self._pieces, self._held = [0] * len(self._rows), [0] * len(self._rows)
        rates = [even * u for u in self._efficiencies]
        late = max(row[1] + row[2][-1] / rate for row, rate in zip(self._rows, rates, strict=True))
        deadline = 0.5 * (late + self.last_s)
        for _ in range(_EVEN_STEPS):
            spared = bent = 0.0
            for at, ((_, start, ends, _, worth, falls, last), rate) in enumerate(
                zip(self._rows, rates, strict=True)
            ):
                nats = (deadline - start) * rate
                if last < 0 or nats >= ends[-1]:
                    continue
                piece = self._pieces[at] = max(bisect_right(ends, nats) - 1, 0)
                value = exp(worth[piece] - falls[piece] * (max(nats, ends[0]) - ends[piece])) * rate
                spared += value
                bent += falls[piece] * rate * value
            if not bent > 0.0:
                break
            deadline += (log(spared) - self._log_slope) * spared / bent
            deadline = min(max(deadline, self.last_s + 1e-3 * (late - self.last_s)), late)
        values: list[float] = []
        full: list[float] = []
        for (_, start, ends, _, worth, falls, last), u, piece, rate in zip(
            self._rows, self._efficiencies, self._pieces, rates, strict=True
        ):
            if last >= 0:
                nats = (deadline - start) * rate
                lost = falls[piece] * (min(max(nats, ends[0]), ends[-1]) - ends[piece])
                value = worth[piece] - lost + log((deadline - start) * rate_bend(u))
                (values if nats < ends[-1] else full).append(value)
        return deadline, sorted(values)[len(values) // 2] if values else min(full, default=0.0)

    def settle(self, *, moves: bool, near: float = _NEAR) -> bool:
        """Return whether steps come to an end; the deadline is one of the unknowns, or held.

        Each client's equation and the two sums they meet in (the band that is taken,
        and the band one more second frees) are made linear in the changes of
        efficiencies, of the price's logarithm (``rise``) and of the deadline (``later``).
        A client's change is ``p + q * rise + s * later``; the sums leave two equations.
        """
        band, rows, us, pieces, held = self._band, self._rows, self._efficiencies, self._pieces, self._held
        deadline, log_price = self.deadline_s, self.log_price
        clients = range(len(rows))
        steps = [(0.0, 0.0, 0.0)] * len(rows)
        largest, part_taken = inf, 1.0
        for _ in range(_MOST_STEPS):
            taken = pushed = pulled = delayed = 0.0
            freed = freed_pushed = freed_pulled = freed_delayed = 0.0
            for at in clients:
                snr, start, ends, _, worth, falls, last = rows[at]
                left = deadline - start
                u = us[at]
                part = -expm1(-u)
                bend = u - part if u > SMALL else rate_bend(u)
                width = snr * (1.0 - part) / part
                rate = width * u
                nats = left * rate
                piece = pieces[at]
                is_held = False
                if last > 0:
                    while piece < last and nats > ends[piece + 1]:
                        piece += 1
                    while piece > 0 and nats < ends[piece]:
                        piece -= 1
                    pieces[at] = piece
                if held[at] or last < 0 or not ends[0] < nats < ends[-1]:
                    # At an end of the curve: held there, unless the price lets it go.
                    is_low = held[at] < 0 if held[at] else last < 0 or nats <= ends[0]
                    goal = ends[0] if is_low else ends[-1]
                    if goal <= 0.0:
                        u = log1p(snr / (_LEAST_SHARE * band))
                    else:
                        u = efficiency_for(goal / (left * snr))
                        if u <= 0.0:
                            return False
                    part = -expm1(-u)
                    bend = u - part if u > SMALL else rate_bend(u)
                    width = snr * (1.0 - part) / part
                    rate = width * u
                    nats = goal
                    us[at] = u
                    if last < 0:
                        is_held = True
                    else:
                        value = worth[piece] - falls[piece] * (nats - ends[piece]) + log(left * bend)
                        is_held = value <= log_price if is_low else value >= log_price
                    held[at] = 0 if not is_held else -1 if is_low else 1
                lost = width / part  # by one more nat per second and Hz
                gain = rate / (left * bend)  # what a second frees
                if is_held:
                    p, q, s = 0.0, 0.0, rate / (left * lost * bend)
                else:
                    fall = falls[piece]
                    q = 1.0 / (part / bend + fall * left * lost * bend)
                    p = q * (log_price - worth[piece] + fall * (nats - ends[piece]) - log(left * bend))
                    s = q * (fall * rate - 1.0 / left)
                steps[at] = p, q, s
                taken += width
                pushed += lost * p
                pulled += lost * q
                delayed += lost * s
                freed += gain
                turn = lost / left + gain * part / bend
                freed_pushed -= turn * p
                freed_pulled -= turn * q
                freed_delayed -= turn * s + gain / left
            if not pulled > 0.0:
                return False
            over = (taken - band - pushed) / pulled
            later = 0.0
            if moves:
                push = (self._log_slope - log_price - log(freed)) * freed - freed_pushed
                push -= (freed + freed_pulled) * over
                curve = freed_delayed - (freed + freed_pulled) * delayed / pulled
                air = deadline - self.last_s
                downhill = -0.5 * air if push > 0.0 else air
                later = push / curve if curve < 0.0 else downhill
                later = min(max(later, air * (1.0 / _AIRTIME - 1.0)), air * (_AIRTIME - 1.0))
            rise = over - later * delayed / pulled
            rise = min(max(rise, -_PRICE), _PRICE)
            before, largest = largest, abs(later) / (deadline - self.last_s)
            for at in clients:
                p, q, s = steps[at]
                change = part_taken * (p + q * rise + s * later)
                u = us[at]
                following = u + change
                if following < 0.3 * u:
                    following = 0.3 * u
                elif following > 3.0 * u + 1.0:
                    following = 3.0 * u + 1.0
                us[at] = following
                change /= u
                if change > largest:
                    largest = change
                elif -change > largest:
                    largest = -change
            deadline += part_taken * later
            log_price += part_taken * rise
            # Steps that do not grow shorter go to and fro over the end of a piece.
            is_whole = part_taken == 1.0
            part_taken = 1.0 if largest < 0.8 * before else 0.5
            if largest <= near and is_whole:
                self.deadline_s, self.log_price = deadline, log_price
                return True
        return False

    def look(self, spot: Spot, air_s: float) -> Spot | None:
        """Return the sharing for another airtime, roughly, begun from a spot; None where there is none."""
        self.go(spot)
        self.deadline_s = self.last_s + air_s
        return self.spot() if self.settle(moves=False, near=_ROUGH) else None

    def go(self, spot: Spot) -> None:
        """Go to a spot."""
        self.deadline_s = spot.deadline_s
        self.log_price = spot.log_price
        us, pieces, held = spot.state
        self._efficiencies, self._pieces, self._held = us.copy(), pieces.copy(), held.copy()

    def spot(self) -> Spot:
        """Return the round as it is now."""
        widths, unsent, freed, reach = [], 0.0, 0.0, 0.0
        for (snr, start, ends, rests, worth, falls, last), u, piece, held in zip(
            self._rows, self._efficiencies, self._pieces, self._held, strict=True
        ):
            left = self.deadline_s - start
            width = snr / expm1(u)
            widths.append(width)
            one = width * u / rate_bend(u)
            freed += one / left
            reach += one
            if held < 0 or last < 0:
                unsent += rests[0]
            elif held > 0:
                unsent += rests[-1]
            else:
                nats, fall = left * width * u, falls[piece]
                value = exp(worth[piece] - fall * (nats - ends[piece]))
                unsent += rests[piece + 1] + value * saved(fall, ends[piece + 1] - nats)
        price, slope, air = exp(self.log_price), self._slope, self.deadline_s - self.last_s
        unsent += price * (sum(widths) - self._band)  # what is over the band is not for free
        return Spot(
            self.deadline_s,
            air,
            widths,
            unsent,
            unsent + slope * self.deadline_s,
            slope - price * freed,
            price * reach / (self.deadline_s - self.first_s) - slope,
            price * reach / air - slope,
            self.log_price,
            (self._efficiencies.copy(), self._pieces.copy(), self._held.copy()),
        )
