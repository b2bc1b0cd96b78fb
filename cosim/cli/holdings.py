"""A picture of who holds what: training examples of each class, or each value of a field, by client."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cosim.learning.data import Example
from cosim.learning.task import Task
from cosim.units import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_VALUES = 100
"""Columns that can still be told apart; what more values there are, the rarest, are one column."""


def write_holdings(tasks: list[Task], path: Path, *, force: bool = False) -> None:
    """Write the picture, a panel for each task, as PNG or PDF by the name of the file.

    Raises
    ------
    RecordError
        If the file is neither, is there already or cannot be written.
    """
    from cosim.files import check_output
    from cosim.report.publication import figure_format, save

    kind = figure_format(path)
    check_output(path, force=force)
    save(_figure(tasks), path, kind, force=force)


def held(task: Task) -> tuple[list[str], Floats]:
    """Return what examples are grouped by, and how many of each a client holds, shape (clients, values).

    The class, else the field of the fewest values that has more than one; else all are alike.
    """
    corpus = task.tokens.corpus if task.data.source.needs_tokenizer else task.data.source.load()
    values = _values(corpus.train)
    common = [value for value, _ in Counter(values).most_common()]
    kept = sorted(common[:_MOST_VALUES]) + (["others"] if len(common) > _MOST_VALUES else [])
    place = {value: number for number, value in enumerate(kept)}
    counts = np.zeros((len(task.shares), len(kept)))
    for client, rows in enumerate(task.shares):
        for value, number in Counter(values[row] for row in rows).items():
            counts[client, place.get(value, len(kept) - 1)] += number
    return kept, counts


def _values(examples: tuple[Example, ...]) -> list[str]:
    if all(one.label is not None for one in examples):
        return [str(one.label) for one in examples]
    fields = set.intersection(*(set(one.fields) for one in examples)) if examples else set()
    numbers = {name: len({one.fields[name] for one in examples}) for name in sorted(fields)}
    told = [name for name, number in numbers.items() if 1 < number < len(examples)]
    if not told:
        return ["examples"] * len(examples)
    chosen = min(told, key=lambda name: numbers[name])
    return [one.fields[chosen] for one in examples]


def _figure(tasks: list[Task]) -> "Figure":
    from matplotlib.figure import Figure

    tables = [held(task) for task in tasks]
    widest = max(len(kept) for kept, _ in tables)
    tallest = max(len(counts) for _, counts in tables)
    figure = Figure(
        figsize=(min(3.5 + 0.18 * widest, 14.0), len(tasks) * min(1.6 + 0.22 * tallest, 9.0)),
        layout="constrained",
    )
    for task, (kept, counts), axes in zip(
        tasks, tables, figure.subplots(len(tasks), squeeze=False)[:, 0], strict=True
    ):
        image = axes.imshow(np.ma.masked_equal(counts, 0), cmap="viridis", aspect="auto", vmin=0)
        axes.set_xticks(range(len(kept)), [value[:24] for value in kept], rotation=90, fontsize=6)
        names = [f"client-{client} ({int(row.sum())})" for client, row in enumerate(counts)]
        step = -(-len(names) // 40)
        axes.set_yticks(range(0, len(names), step), names[::step], fontsize=6)
        axes.set_title(task.name or "training examples of each client", fontsize=8)
        figure.colorbar(image, ax=axes, label="examples")
    return figure
