"""What the grid shows: losses over ratios, energy against chance, and what predicts which is ahead."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt

from analysis.curves import MARKS, Asked, told
from analysis.drawing import save, write
from analysis.soft_real.methods import PAIRED, SELECTIONS, VARIANTS, Cell
from analysis.soft_tsfa.trainings import Training
from cosim.report.span_style import LINE_COLOURS
from cosim.statistics.interval import Interval, student_t
from cosim.units import Floats

Found = Mapping[Cell, Sequence[Training]]
"""By cell; one for each seed, in the order of the seeds."""

_COLOURS = (*LINE_COLOURS, "black", "tab:pink", "tab:olive", "tab:cyan")


def draw(found: Found, what: Asked) -> None:
    """Write every table and figure of the grid."""
    draw_ratios(found, what, "ratios")
    tell_cells(found, what, "grid.csv")
    _tell_options(found, what)
    _draw_chance(found, what)


def ends(each: Sequence[Training]) -> Floats:
    """Return the last held-out loss of each seed."""
    return np.array([one.losses[-1] for one in each])


def mean_of(one: Training, name: str) -> float:
    """Return a metric of the server's, the mean of its rounds; not a number where nobody recorded it."""
    values = [value for _, actor, value in one.metrics.get(name, ()) if actor == "federated-server"]
    return float(np.mean(values)) if values else float("nan")


def dropped_share(one: Training) -> float:
    """Return the share of the energy of all pairs that was not sent, in the mean of rounds."""
    dropped, whole = (
        np.array([value for _, actor, value in one.metrics.get(name, ()) if actor == "federated-server"])
        for name in ("dropped_energy", "pair_energy")
    )
    return float(np.mean(dropped / whole)) if len(whole) else float("nan")


def draw_ratios(found: Found, what: Asked, name: str) -> None:
    """Draw the last loss of every selection over the ratio, and that of dense uploads as a band."""
    plain = {cell: each for cell, each in found.items() if cell.variant == "plain"}
    of_clients = list(dict.fromkeys(cell.clients for cell in plain))
    figure, panels = plt.subplots(
        1, len(of_clients), figsize=(5.2 * len(of_clients), 4.0), sharey=True, squeeze=False
    )
    for axes, clients in zip(panels[0], of_clients, strict=True):
        for selection, colour, mark in zip(SELECTIONS, _COLOURS, cycle(MARKS), strict=False):
            cells = [cell for cell in plain if (cell.selection, cell.clients) == (selection, clients)]
            if not cells:
                continue
            losses = student_t(np.array([ends(plain[cell]) for cell in cells]))
            if selection == "dense":
                axes.axhspan(losses.low[0], losses.high[0], color="black", alpha=0.15, lw=0, label="dense")
                continue
            style = {"ls": "--" if selection.endswith("no feedback") else "-", "color": colour}
            ratios = [cell.ratio for cell in cells]
            axes.errorbar(
                ratios,
                losses.mean,
                losses.half_width,
                marker=mark,
                ms=4,
                capsize=2,
                label=selection,
                **style,
            )
        axes.set_xscale("log")
        ticks = sorted({cell.ratio for cell in plain} - {1.0})
        axes.set_xticks(ticks, [f"{one:g}" for one in ticks])
        axes.minorticks_off()
        axes.set_xlabel("sparsification ratio (share of the dense bits)")
        axes.set_title(clients, fontsize=9)
    panels[0][0].set_ylabel("held-out loss at the end (nats)")
    panels[0][-1].legend(fontsize=7)
    figure.suptitle(what.word, fontsize=9)
    save(figure, what.out / name)


_HEADING = (
    *("selection", "ratio", "clients", "variant", "seed", "uplink_mbit", "eval_loss"),
    *("dropped_share", "pair_energy", "effective_pairs", "coherence", "covariance_error"),
)


def tell_cells(found: Found, what: Asked, file: str) -> None:
    """Print the last loss of every cell, and write what was measured of each seed."""
    rows = []
    for cell, each in found.items():
        sent = np.mean([one.uplink_mbit[-1] for one in each])
        spread = np.mean([mean_of(one, "effective_pairs") for one in each])
        unsent = np.mean([dropped_share(one) for one in each])
        print(
            f"{cell.method.name}: {told(student_t(ends(each)))}, {sent:.1f} Mbit, "
            f"unsent {unsent:.2f} of the energy, effective pairs {spread:.2f}"
        )
        for one in each:
            figures = [mean_of(one, name) for name in _HEADING[-4:]]
            numbers = (one.uplink_mbit[-1], one.losses[-1], dropped_share(one), *figures)
            rows.append((*cell, one.seed, *numbers))
    write(what.out / file, _HEADING, rows)


class Contest(NamedTuple):
    """Choice by energy beside choice by chance, all else equal.

    Attributes
    ----------
    behind
        How far chance is behind energy in held-out loss, by seed.
    effective_pairs
        Of the same clients' updates where all is sent: how evenly energy is spread over pairs, at most 1.
    kept
        The share of energy that energy sends beyond what chance sends.
    """

    cell: Cell
    has_feedback: bool
    behind: Floats
    effective_pairs: float
    kept: float


def contests(found: Found) -> Iterator[Contest]:
    """Yield every choice by energy that has its counterpart by chance."""
    for cell, each in found.items():
        by_chance = _by_chance(cell)
        other = None if by_chance is None else found.get(by_chance)
        if by_chance is None or other is None:
            continue
        dense = found.get(Cell("dense", 1.0, by_chance.clients, by_chance.variant))
        spread = [mean_of(one, "effective_pairs") for one in dense or ()]
        kept = [dropped_share(two) - dropped_share(one) for one, two in zip(each, other, strict=True)]
        yield Contest(
            cell._replace(variant=by_chance.variant),
            "no feedback" not in cell.selection,
            ends(other) - ends(each),
            float(np.mean(spread)) if spread else float("nan"),
            float(np.mean(kept)),
        )


def _by_chance(cell: Cell) -> Cell | None:
    """Return the cell that draws its pairs and is otherwise the same; None for other selections."""
    if (cell.selection, cell.variant) == ("SOFT", "plain"):
        return cell._replace(selection=PAIRED[0][1], variant="regularised")
    chance = dict(PAIRED).get(cell.selection)
    return None if chance is None else cell._replace(selection=chance)


def _draw_chance(found: Found, what: Asked) -> None:
    """Draw how far chance is behind energy, over the ratio, over the spread, and over the energy kept."""
    from scipy.stats import spearmanr

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12.5, 3.8), sharey=True)
    rows, every = [], list(contests(found))
    for one, colour in zip(every, cycle(_COLOURS), strict=False):
        behind = student_t(one.behind)
        style = {
            "marker": "o" if one.has_feedback else "s",
            "mfc": "none" if one.has_feedback else colour,
            "color": colour,
            "capsize": 2,
        }
        for axes, place in (
            (left, one.cell.ratio),
            (middle, one.effective_pairs),
            (right, one.kept),
        ):
            axes.errorbar(place, behind.mean, behind.half_width, **style)
        named = f"{one.cell.clients}, {one.cell.variant}, {one.cell.ratio:g}"
        feedback = "feedback" if one.has_feedback else "no feedback"
        verdict = _verdict(behind)
        rows.append(
            (*one.cell[1:], feedback, one.effective_pairs, one.kept, *(float(x) for x in behind), verdict)
        )
        print(f"chance behind energy, {named}, {feedback}: {told(behind, '+')}, {verdict}")
    for axes, label in ((left, "sparsification ratio"), (middle, "effective pairs, dense"), (right, "kept")):
        axes.axhline(0.0, color="black", lw=0.7)
        axes.set_xlabel(label)
    left.set_xscale("log")
    ticks = sorted({one.cell.ratio for one in every})
    left.set_xticks(ticks, [f"{one:g}" for one in ticks])
    left.minorticks_off()
    right.set_xlabel("share of energy sent, energy less chance")
    left.set_ylabel("random pairs behind energy (nats)")
    left.set_title("hollow: error feedback, filled: none", fontsize=8)
    figure.suptitle(what.word, fontsize=9)
    save(figure, what.out / "energy_or_chance")
    heading = ("ratio", "clients", "variant", "feedback", "effective_pairs", "kept", "behind", "low", "high")
    write(what.out / "energy_or_chance.csv", (*heading, "verdict"), rows)
    for has_feedback in (True, False):
        chosen = [one for one in every if one.has_feedback is has_feedback]
        for name in ("effective_pairs", "kept"):
            pairs = [(getattr(one, name), one.behind.mean()) for one in chosen]
            known = np.array([pair for pair in pairs if np.isfinite(pair).all()])
            if len(known) > 2 and np.ptp(known, axis=0).all():
                found_ = spearmanr(known[:, 0], known[:, 1])
                which = "with" if has_feedback else "without"
                print(
                    f"rank correlation with {name}, {which} feedback: {found_.statistic:+.2f} "
                    f"(p {found_.pvalue:.3f}, {len(known)} conditions)"
                )


def _verdict(behind: Interval) -> str:
    """Return who is ahead, where the interval says so."""
    if behind.low > 0.0:
        return "energy ahead"
    return "chance ahead" if behind.high < 0.0 else "no detectable difference"


def _tell_options(found: Found, what: Asked) -> None:
    """Print and write what each variant changes of the last loss, against the same without it."""
    rows = []
    for cell, each in found.items():
        plain = found.get(cell._replace(variant="plain"))
        if cell.variant == "plain" or plain is None:
            continue
        change = student_t(ends(each) - ends(plain))
        rows.append((cell.variant, cell.selection, cell.ratio, *(float(one) for one in change)))
        print(f"{cell.variant}, {cell.selection}, {cell.ratio:g}: {told(change, '+')} over plain")
    rows.sort(key=lambda row: list(VARIANTS).index(str(row[0])))
    heading = ("variant", "selection", "ratio", "over_plain", "low", "high")
    write(what.out / "options.csv", heading, rows)
