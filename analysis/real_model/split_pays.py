"""When does splitting pay? The client speed below which it does: in closed form, and by the event kernel.

Five phones that are alike train a GPT-2 of 12 blocks, whole or split behind its first block. Everything in
the closed form is worked out here from the sizes, with nothing of what the kernel computes with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, log2, log10
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt

from analysis.drawing import save, write
from analysis.fedsllm.cells import mean_and_interval
from analysis.real_model.jobs import HERE, Asked, Job
from cosim.calibrate import first_crossing, smoothed
from cosim.report.span_style import LINE_COLOURS
from cosim.studies.results import Results
from cosim.units import Floats

_CLIENTS, _BLOCKS, _WORDS, _RANK, _STEPS = 5, 12, 50257, 4, 4
_SERVER_FLOP_PER_S = 5.0e9 * 1024
_ADAPTED = 4
"""Numbers of an adapter over rank times width, of one block: ``c_attn``, d to 3 d."""
_BITS = {"32 bits": 32.0, "16 bits": 16.0, "8 bits": 8.0 + 32.0 / 512.0, "4 bits": 4.0 + 32.0 / 512.0}
"""Of a number in the air; a bucket of 512 has a norm of 32 bits."""


@dataclass(frozen=True)
class Sizes:
    """What decides whether splitting pays, for one mini-batch of one client.

    Attributes
    ----------
    texts, tokens, width
        The mini-batch, and the width of the model.
    bits
        Of a number of activations and gradients in the air.
    """

    texts: int
    tokens: int
    width: int
    bits: float

    @property
    def block_flop(self) -> float:
        """There and back through a block with adapters (method card 1, section 4; eager attention)."""
        n, d = self.tokens, self.width
        return self.texts * (48.0 * n * d**2 + 12.0 * n**2 * d + 6.0 * n * _ADAPTED * d * _RANK)

    @property
    def client_flop(self) -> float:
        """Of the first block, whose input needs no gradient."""
        n, d = self.tokens, self.width
        return self.block_flop - self.texts * (6.0 * n * d**2 + 2.0 * n * d * _RANK)

    @property
    def server_flop(self) -> float:
        """Of all other blocks and the head: what the split takes off a client."""
        return (_BLOCKS - 1) * self.block_flop + 4.0 * self.texts * self.tokens * self.width * _WORDS

    @property
    def activation_bits(self) -> float:
        """One way across the cut."""
        return self.texts * self.tokens * self.width * self.bits

    @property
    def activations_s(self) -> float:
        """Airtime of activations up and gradients down, s a local step."""
        return self.activation_bits * (1.0 / rate_bit_per_s(_UPLINK_W) + 1.0 / rate_bit_per_s(_DOWNLINK_W))

    @property
    def adapters_s(self) -> float:
        """Airtime of the adapters that a client behind a cut need not send, s a local step."""
        saved = (_BLOCKS - 1) * _ADAPTED * self.width * _RANK * 32.0
        return saved / _STEPS / rate_bit_per_s(_UPLINK_W)

    def critical_flop_per_s(self, more_rounds: float = 1.0) -> float:
        """Return the client speed below which splitting pays, FLOP/s; infinite if it always does.

        Parameters
        ----------
        more_rounds
            Rounds to the target with the split over rounds without it.
        """
        first_s = _ADAPTED * self.width * _RANK * 32.0 / _STEPS / rate_bit_per_s(_UPLINK_W)
        split_s = self.activations_s + first_s + _CLIENTS * self.server_flop / _SERVER_FLOP_PER_S
        lost_s = more_rounds * split_s - (first_s + self.adapters_s)
        spared = self.server_flop + self.client_flop * (1.0 - more_rounds)
        return max(spared, 0.0) / lost_s if lost_s > 0.0 else inf


_UPLINK_W = 10 ** ((27.8 - 30.0) / 10.0) / _CLIENTS
"""Transmit power of a client: its share of the limit on the sum, which is below its own."""
_DOWNLINK_W = 10 ** ((43.0 - 30.0) / 10.0) / _CLIENTS


def rate_bit_per_s(power_w: float, bandwidth_hz: float = 10e6 / _CLIENTS, distance_km: float = 0.15) -> float:
    """Return Shannon's rate over a client's share of the band, bit/s."""
    gain_db = 10.0 - 128.1 - 37.6 * log10(distance_km)
    noise_w = bandwidth_hz * 10 ** ((-174.0 + 9.0 - 30.0) / 10.0)
    return bandwidth_hz * log2(1.0 + power_w * 10 ** (gain_db / 10.0) / noise_w)


def crossing(speeds: Sequence[float], whole_s: Sequence[float], split_s: Sequence[float]) -> float:
    """Return the speed at which both take as long, FLOP/s: measured delays are straight in its inverse.

    0 if the whole model is always quicker, infinite if never.

    Examples
    --------
    >>> crossing([1.0, 2.0, 4.0], [4.0, 2.0, 1.0], [3.0, 2.5, 2.25])
    1.5
    """
    excess = [split - whole for split, whole in zip(split_s, whole_s, strict=True)]
    if excess[0] >= 0.0:
        return 0.0
    for (slow, quick), (below, above) in zip(pairwise(speeds), pairwise(excess), strict=True):
        if above >= 0.0:
            share = below / (below - above)
            return 1.0 / (1.0 / slow + share * (1.0 / quick - 1.0 / slow))
    return inf


class Line(NamedTuple):
    """One row of the table: sizes, and the client speeds, FLOP/s, below which splitting pays there."""

    width: int
    texts: int
    tokens: int
    number: str
    activation_bits: float
    closed_form: float
    measured: float
    rounds_over_whole: float
    with_learning: float
    activations_over_adapters: float
    spared_over_adapters: float


def split_pays(asked: Asked) -> None:
    """Measure by the event kernel how quick clients must be, and compare with the closed form."""
    results = asked.study(
        HERE / "split_pays.toml",
        quick_cases=("whole", "32 bits", "8 bits"),
        quick_grid={"model.base.config.n_embd": (192, 768)},
        has_own_model=True,
    )
    rounds = _more_rounds(asked)
    lines = []
    for (width, texts, tokens), delays in _delays(results).items():
        speeds, whole_s = zip(*sorted(delays.pop("whole").items()), strict=True)
        for name, by_speed in delays.items():
            measured = crossing(speeds, whole_s, [by_speed[one] for one in speeds])
            lines.append(_line(Sizes(texts, tokens, width, _BITS[name]), name, measured, rounds[name]))
    write(asked.out / "split_pays.csv", Line._fields, lines)
    crossed = [one for one in lines if 0.0 < one.measured < inf]
    off = max(abs(one.measured / one.closed_form - 1.0) for one in crossed)
    print(
        f"  {len(crossed)} of {len(lines)} lines crossed; the kernel is within {off:.1e} of the closed form"
    )
    for one in lines:
        told = f"width {one.width}, {one.texts} x {one.tokens} tokens, {one.number}"
        print(f"    {told}: pays below {_gflops(one.measured)}, {_gflops(one.with_learning)} with learning")
    _draw(lines, asked)


def _gflops(flop_per_s: float) -> str:
    return "any speed" if flop_per_s == inf else f"{flop_per_s / 1e9:.0f} GFLOP/s"


def _line(sizes: Sizes, name: str, measured: float, more_rounds: float) -> Line:
    per_flop_s = (1.0 / measured if measured else inf) - _CLIENTS / _SERVER_FLOP_PER_S
    return Line(
        sizes.width,
        sizes.texts,
        sizes.tokens,
        name,
        sizes.activation_bits,
        sizes.critical_flop_per_s(),
        measured,
        more_rounds,
        sizes.critical_flop_per_s(more_rounds),
        sizes.activations_s / sizes.adapters_s,
        sizes.server_flop * per_flop_s / sizes.adapters_s,
    )


def _delays(results: Results) -> dict[tuple[int, int, int], dict[str, dict[float, float]]]:
    """Return the delay of a round, s, by width and mini-batch, by what is in the air, and by client speed."""
    found: dict[tuple[int, int, int], dict[str, dict[float, float]]] = {}
    for row in results.table.to_pylist():
        size = tuple(
            int(row[path])
            for path in ("model.base.config.n_embd", "training.batch_size", "data.sequence_length")
        )
        name = row["case"].rpartition(", ")[2]
        speed = 1e9 * row["clients.flop_per_cycle"]
        found.setdefault(size, {}).setdefault(name, {})[speed] = row["value"]  # type: ignore[arg-type]
    return found


def _more_rounds(asked: Asked) -> Mapping[str, float]:
    """Return rounds to one held-out loss with coarser numbers at the cut, over those of the whole model.

    Means over paired seeds; infinite where a seed does not come down to the loss.
    """
    results = asked.study(
        HERE / "split_codecs.toml", quick_cases=("whole", "32 bits", "8 bits"), has_own_model=True
    )
    curves: dict[str, dict[int, list[float]]] = {}
    for row in results.curves.to_pylist():
        curves.setdefault(row["case"], {}).setdefault(row["replication"], []).append(row["eval_loss"])
    losses = {name: smoothed(np.array([own[one] for one in sorted(own)])) for name, own in curves.items()}
    target = _target(losses["whole"])
    rounds = {name: np.array([first_crossing(one, target) for one in own]) for name, own in losses.items()}
    found: dict[str, float] = {}
    print(f"  rounds to held-out loss {target:.3f}:")
    for name, each in rounds.items():
        mean, half = mean_and_interval(each / rounds["whole"]) if np.isfinite(each).all() else (inf, np.nan)
        found[name] = float(mean)
        print(
            f"    {name}: {each.mean():.2f}, {float(mean):.3f} +- {float(half):.3f} times those of the whole"
        )
    return found


def _target(losses: Floats) -> float:
    """Return what the whole model reached at three quarters of its rounds, in its worst seed."""
    last = losses.shape[-1] - 1
    return float(max(np.interp(0.75 * last, np.arange(last + 1), one) for one in losses))


def _draw(lines: Sequence[Line], asked: Asked) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.0))
    widths = sorted({one.width for one in lines})
    batches = sorted({(one.texts, one.tokens) for one in lines})
    for width, colour, size in zip(widths, LINE_COLOURS, (9, 6, 3), strict=False):
        for (texts, tokens), mark, style in zip(batches, "os^", ("-", "--", ":"), strict=False):
            own = [one for one in lines if (one.width, one.texts, one.tokens) == (width, texts, tokens)]
            sizes = [Sizes(texts, tokens, width, bits) for bits in np.geomspace(2.0, 32.0, 30)]
            along = [one.activation_bits for one in sizes]
            left.plot(along, [one.critical_flop_per_s() for one in sizes], style, color=colour, lw=1)
            label = f"width {width}, {texts} x {tokens} tokens"
            measured = [one.measured for one in own]
            left.plot([one.activation_bits for one in own], measured, mark, color=colour, ms=4, label=label)
            shares = [one.activations_over_adapters for one in own]
            right.plot(
                shares, [one.spared_over_adapters for one in own], mark, mfc="none", color=colour, ms=size
            )
    left.set_xlabel("activation bits of a mini-batch")
    left.set_ylabel("split pays below this client speed, FLOP/s")
    left.legend(fontsize=6)
    share = np.geomspace(1.01, max(one.activations_over_adapters for one in lines), 100)
    right.plot(share, share - 1.0, color="black", lw=0.8, label="closed form: y = x - 1")
    right.axvspan(0.1, 1.0, color="tab:green", alpha=0.15, lw=0, label="split always pays")
    right.set_xlim(0.1)
    right.set_xlabel("airtime of activations over that of adapters saved")
    right.set_ylabel("client time spared over airtime of adapters saved", fontsize=8)
    right.legend(fontsize=7)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
    save(figure, asked.out / "split_pays.png")


JOBS = (Job("split_pays", 240.0, 45.0, split_pays),)
"""Time measured on two cores."""
