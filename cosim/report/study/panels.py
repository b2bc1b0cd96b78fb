"""The panels of a study's figure: each draws one question into its axes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cosim.report.learning import of_task
from cosim.report.lettering import legend_label
from cosim.report.study.labels import axis_label, scale_of
from cosim.units import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1)), "-.")
_HATCHES = ("", "////", "....", "xxxx")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_FAINT = "#8A8A8A"
_GRID: dict[str, Any] = {"color": "#E3E3E3", "linewidth": 0.4}
MOST_FOREST = 24


def style(number: int) -> dict[str, Any]:
    """Return colour, dashes and marker of a line: three cues, so that print without colour does."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": _LINES[number % len(_LINES)],
        "marker": _MARKERS[number % len(_MARKERS)],
    }


def draw_response(axes: "Axes", content: dict[str, Any], measure: dict[str, Any]) -> None:
    """Draw means with intervals over one factor, a line for each level of another."""
    response = measure["response"]
    across = content["factors"][response["across"]]
    by = content["factors"][response["by"]] if response["by"] is not None else None
    _draw_lines(axes, across, measure, response["lines"], [""] if by is None else by["levels"])
    if by is not None:
        axes.legend(title=by["label"], frameon=False, fontsize=6, title_fontsize=6)
    if response["over"]:
        axes.set_title(f"mean over {response['over']} other factor(s)", fontsize=6, loc="right", color=_FAINT)


def draw_effect(
    axes: "Axes", content: dict[str, Any], measure: dict[str, Any], effect: dict[str, Any]
) -> None:
    """Draw the mean at every level of a factor, over all the others."""
    _draw_lines(axes, content["factors"][effect["factor"]], measure, [effect], [""])


def _draw_lines(
    axes: "Axes",
    across: dict[str, Any],
    measure: dict[str, Any],
    lines: Sequence[dict[str, Any]],
    labels: Sequence[str],
) -> None:
    places, step = _places(axes, across)
    for number, (line, label) in enumerate(zip(lines, labels, strict=True)):
        mean, low, high = (_floats(line[end]) / measure["scale"] for end in ("mean", "low", "high"))
        aside = 0.14 * step * (number - (len(lines) - 1) / 2.0) / max(len(lines) - 1, 1)
        drawn = style(number)
        if not across["numeric"]:
            drawn["linestyle"] = "none"  # nothing lies between two names
        axes.errorbar(
            places * 1.02 ** (number - (len(lines) - 1) / 2.0) if across["log"] else places + aside,
            mean,
            yerr=_arms(mean, low, high),
            label=legend_label(label),
            markersize=3.0,
            linewidth=1.0,
            elinewidth=0.8,
            capsize=1.8,
            capthick=0.8,
            **drawn,
        )
    _name(axes, across, measure)


def draw_points(axes: "Axes", content: dict[str, Any], measure: dict[str, Any], factor: int) -> None:
    """Draw each case over one factor, where cases were drawn from ranges."""
    across = content["factors"][factor]
    rows = [
        (case["levels"][factor], row) for case, row in zip(content["cases"], measure["cases"], strict=True)
    ]
    shown = [(across["values"][level], row) for level, row in rows if row["mean"] is not None]
    at = np.array([value for value, _ in shown])
    mean, low, high = (
        _floats([row[end] for _, row in shown]) / measure["scale"] for end in ("mean", "low", "high")
    )
    factor_scale, unit = scale_of(float(np.abs(at).max(initial=0.0)), across["unit"])
    colour = COLOURS[factor % len(COLOURS)]
    axes.errorbar(
        at / factor_scale,
        mean,
        yerr=_arms(mean, low, high),
        linestyle="none",
        marker="o",
        markersize=2.2,
        elinewidth=0.5,
        color=colour,
        ecolor="#BBBBBB",
    )
    if across["log"]:
        _make_log(axes)
    axes.set_xlabel(axis_label(across["label"], unit), labelpad=1.5)
    axes.set_ylabel(axis_label(measure["label"], measure["shownUnit"]), labelpad=1.5)
    axes.grid(**_GRID)


def draw_forest(axes: "Axes", content: dict[str, Any], measure: dict[str, Any]) -> None:
    """Draw each case's difference to its baseline, hollow where none is detectable."""
    rows = forest_rows(content, measure)
    scale = measure["scale"]
    for place, (_, row, _) in enumerate(rows):
        mean, low, high = (
            _floats([row[end]]) / scale for end in ("difference", "difference_low", "difference_high")
        )
        found = row["detectable"] == "yes"
        censored = row["detectable"] == "censored"
        colour = _FAINT if not found else "#0072B2" if mean[0] < 0 else "#D55E00"
        axes.errorbar(
            mean,
            [place],
            xerr=_arms(mean, low, high),
            marker="X" if censored else "o",
            markersize=3.6,
            color=colour,
            markerfacecolor=colour if found else "white",
            markeredgewidth=0.8,
            elinewidth=1.0,
            capsize=1.8,
            linestyle="none",
        )
    axes.axvline(0.0, color="black", linewidth=0.6, zorder=0)
    size = 5.6 if len(rows) > 12 else 6.2
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=size)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(
        axis_label(f"{measure['label']} less that of {content['against']}", measure["shownUnit"]),
        labelpad=1.5,
        fontsize=6.5,
    )
    axes.grid(axis="x", **_GRID)
    axes.tick_params(axis="y", length=0)


def forest_rows(content: dict[str, Any], measure: dict[str, Any]) -> list[tuple[str, dict[str, Any], int]]:
    """Return label, row and baseline of each case that is compared; the largest where they are very many."""
    rows = [
        (case["label"], row, case["baseline"])
        for case, row in zip(content["cases"], measure["cases"], strict=True)
        if case["baseline"] is not None and row["difference"] is not None
    ]
    if len(rows) > MOST_FOREST:
        order = sorted(range(len(rows)), key=lambda at: -abs(rows[at][1]["difference"]))
        kept = set(order[:MOST_FOREST])
        rows = [row for at, row in enumerate(rows) if at in kept]
    return rows


def draw_heat(axes: "Axes", content: dict[str, Any], measure: dict[str, Any], heat: dict[str, Any]) -> None:
    """Draw the mean at every pair of levels, and write it in."""
    one, other = (content["factors"][at] for at in heat["factors"])
    means = _floats(heat["mean"]) / measure["scale"]
    if means.shape[0] > means.shape[1]:
        one, other, means = other, one, means.T
    image = axes.imshow(means, cmap="cividis", aspect="auto")
    middle = (means.min() + means.max()) / 2.0
    if means.size <= 80:
        for row, column in np.ndindex(*means.shape):
            ink = "white" if means[row, column] < middle else "black"
            axes.text(
                column, row, f"{means[row, column]:.3g}", ha="center", va="center", fontsize=5.6, color=ink
            )
    axes.set_xticks(
        range(means.shape[1]), _thinned(other["levels"]), fontsize=6, rotation=_turn(other["levels"])
    )
    axes.set_yticks(range(means.shape[0]), _thinned(one["levels"]), fontsize=6)
    axes.set_xlabel(other["label"], labelpad=1.5)
    axes.set_ylabel(one["label"], labelpad=1.5)
    axes.tick_params(length=0)
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=18)
    bar.set_label(axis_label(measure["label"], measure["shownUnit"]), fontsize=6)
    bar.ax.tick_params(labelsize=5.6, width=0.4, length=2)
    bar.outline.set_linewidth(0.4)


def draw_front(axes: "Axes", content: dict[str, Any], front: dict[str, Any]) -> None:
    """Draw every case by two measures with intervals, and the front through those no other beats."""
    across, up = (content["measures"][front[axis]] for axis in ("x", "y"))
    ends = {
        name: [_floats([row[end] for row in one["cases"]]) / one["scale"] for end in ("mean", "low", "high")]
        for name, one in (("x", across), ("y", up))
    }
    members = np.array(front["cases"], dtype=np.int64)
    by = _lines_of(content, across)
    groups = [0] * len(content["cases"]) if by is None else [case["levels"][by] for case in content["cases"]]
    for number in sorted(set(groups)):
        mine = np.array([group == number for group in groups])
        arms = [_arms(*(end[mine] for end in ends[name])) for name in ("x", "y")]
        axes.errorbar(
            ends["x"][0][mine],
            ends["y"][0][mine],
            xerr=arms[0],
            yerr=arms[1],
            markersize=3.0,
            ecolor="#D4D4D4",
            elinewidth=0.5,
            label=None if by is None else legend_label(content["factors"][by]["levels"][number]),
            **{**style(number), "linestyle": "none"},
        )
    axes.plot(
        ends["x"][0][members],
        ends["y"][0][members],
        color="black",
        marker="o",
        markersize=6.0,
        markerfacecolor="none",
        markeredgewidth=0.8,
        linewidth=0.7,
        drawstyle="steps-post",
        label="no case beats it",
    )
    spans = [max(float(np.nanmax(ends[name][0]) - np.nanmin(ends[name][0])), 1e-300) for name in ("x", "y")]
    named: list[Floats] = []
    for case in members[:4]:
        at = np.array([ends["x"][0][case] / spans[0], ends["y"][0][case] / spans[1]])
        if all(np.abs(at - other).max() > 0.12 for other in named):  # names would lie on each other
            named.append(at)
            axes.annotate(
                content["cases"][case]["label"],
                (ends["x"][0][case], ends["y"][0][case]),
                xytext=(5, -8),
                textcoords="offset points",
                fontsize=5.4,
            )
    axes.set_xlabel(axis_label(across["label"], across["shownUnit"]), labelpad=1.5)
    axes.set_ylabel(axis_label(up["label"], up["shownUnit"]), labelpad=1.5)
    axes.legend(frameon=False, fontsize=6, loc="best")
    axes.grid(**_GRID)


def _lines_of(content: dict[str, Any], measure: dict[str, Any]) -> int | None:
    """Return the factor whose levels are lines in the measure's own panel, None where there is none."""
    if measure["response"] is None:
        return None
    found: int | None = measure["response"]["by"]
    return found


def draw_convergence(axes: "Axes", content: dict[str, Any]) -> None:
    """Draw the held-out loss over simulated time, with bands over the replications."""
    course = content["convergence"]
    shown = [course["cases"][at] for at in course["shown"]]
    scale, unit = scale_of(max(one["endS"] for one in shown), "s")
    for number, one in enumerate(shown):
        drawn = style(number)
        time = _floats(one["time"]) / scale
        axes.plot(
            time,
            _floats(one["mean"]),
            color=drawn["color"],
            linestyle=drawn["linestyle"],
            linewidth=1.0,
            label=of_task(legend_label(content["cases"][one["case"]]["label"]), one["task"]),
        )
        low, high = _floats(one["low"]), _floats(one["high"])
        if np.isfinite(low).all():
            axes.fill_between(time, low, high, color=drawn["color"], alpha=0.14, linewidth=0)
    axes.set_xlabel(axis_label("simulated time", unit), labelpad=1.5)
    axes.set_ylabel("held-out loss, nats", labelpad=1.5)
    num_shown = len({one["case"] for one in shown})
    axes.legend(
        frameon=False,
        fontsize=5.6,
        handlelength=2.6,
        labelspacing=0.25,
        title=f"{num_shown} of {course['of']} cases" if num_shown < course["of"] else None,
        title_fontsize=5.6,
    )
    axes.grid(**_GRID)


def draw_indices(axes: "Axes", content: dict[str, Any], measures: Sequence[dict[str, Any]]) -> None:
    """Draw first-order and total indices of each factor, a group of bars for each measure."""
    labels = [factor["label"] for factor in content["factors"]]
    height = 0.8 / (2 * len(measures))
    for at, measure in enumerate(measures):
        indices = measure["indices"]
        for kind, (name, alpha) in enumerate((("first", 1.0), ("total", 0.45))):
            value, low, high = (_floats(indices[name][end]) for end in ("value", "low", "high"))
            places = np.arange(len(labels)) - 0.4 + height * (2 * at + kind + 0.5)
            axes.barh(
                places,
                value,
                height=0.92 * height,
                facecolor=COLOURS[at % len(COLOURS)],
                edgecolor="white",
                hatch=_HATCHES[at % len(_HATCHES)],
                linewidth=0.0,
                alpha=alpha,
                label=f"{legend_label(measure['label'])}, {'alone' if name == 'first' else 'with others'}",
            )
            if np.isfinite(low).all():
                arms = _arms(value, low, high)
                axes.errorbar(
                    value, places, xerr=arms, linestyle="none", color="black", elinewidth=0.6, capsize=1.4
                )
    axes.set_yticks(range(len(labels)), labels, fontsize=6.2)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel("share of variance (Sobol index)", labelpad=1.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", **_GRID)
    axes.legend(
        frameon=False,
        fontsize=5.8,
        handlelength=1.2,
        labelspacing=0.3,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )


def _places(axes: "Axes", factor: dict[str, Any]) -> tuple[Floats, float]:
    """Return where the levels of a factor are, and how far apart; and set the scale."""
    if not factor["numeric"]:
        places = np.arange(len(factor["levels"]), dtype=np.float64)
        axes.set_xticks(places, factor["levels"], fontsize=6, rotation=_turn(factor["levels"]))
        axes.set_xlim(-0.5, len(places) - 0.5)
        return places, 1.0
    scale, _ = scale_of(max(abs(one) for one in factor["values"]), factor["unit"])
    places = _floats(factor["values"]) / scale
    if factor["log"]:
        axes.set_xscale("log")
        axes.set_xticks(places, [f"{one:.3g}" for one in places])
        axes.minorticks_off()
    return places, float(np.diff(places).min())


def _make_log(axes: "Axes") -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name(axes: "Axes", factor: dict[str, Any], measure: dict[str, Any]) -> None:
    largest = max((abs(one) for one in factor["values"]), default=0.0)
    _, unit = scale_of(largest, factor["unit"]) if factor["numeric"] else (1.0, "")
    axes.set_xlabel(axis_label(factor["label"], unit), labelpad=1.5)
    axes.set_ylabel(axis_label(measure["label"], measure["shownUnit"]), labelpad=1.5)
    axes.grid(**_GRID)


def _arms(mean: Floats, low: Floats, high: Floats) -> Floats | None:
    """Return lengths of error bars, shape (2, num_points); None where there is no interval at all."""
    arms = np.stack([mean - low, high - mean])
    return None if not np.isfinite(arms).any() else np.maximum(np.nan_to_num(arms), 0.0)


def _floats(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _thinned(labels: list[str]) -> list[str]:
    every = -(-len(labels) // 12)
    return [label if at % every == 0 else "" for at, label in enumerate(labels)]


def _turn(labels: list[str]) -> int:
    return 35 if sum(map(len, labels)) > 40 else 0
