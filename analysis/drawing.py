"""What the analyses share: options, tables, figures in two formats, and how long it will still take."""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from cosim.errors import CosimError


def parser(
    name: str,
    described: str | None,
    scenario: Path,
    quick: str,
    *,
    store: str = "kept values; else the user's",
    seeds: int = 5,
) -> argparse.ArgumentParser:
    """Return what reads the options that every analysis of a system has.

    Parameters
    ----------
    name, described
        Of the analysis, and what it does.
    scenario
        The file it plays without another.
    quick, store
        What these options mean here.
    seeds
        Paired seeds without ``--quick``, which takes two.
    """
    found = argparse.ArgumentParser(prog=f"python -m analysis.{name}", description=described)
    folder = Path("runs") / f"analysis-{name.replace('_', '-')}"
    found.add_argument("--out", type=Path, default=folder, metavar="DIR")
    found.add_argument("--scenario", type=Path, default=scenario, metavar="FILE")
    found.add_argument("--seeds", type=int, default=None, help=f"paired seeds; {seeds}, or 2 with --quick")
    found.add_argument("--quick", action="store_true", help=quick)
    found.add_argument("--store", type=Path, default=None, metavar="DIR", help=store)
    found.set_defaults(whole_seeds=seeds)
    return found


def parsed(options: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line of an analysis: its folder is made, and ``seeds`` is how many there are."""
    told = options.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    told.seeds = told.seeds or (2 if told.quick else told.whole_seeds)
    return told


def as_command(main: Callable[[], None]) -> None:
    """Run an analysis; a fault, such as a training that diverged, is one line and an exit status."""
    try:
        main()
    except CosimError as fault:
        print(fault, file=sys.stderr)
        sys.exit(fault.exit_status)


def write(path: Path, heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(heading)
        writer.writerows(rows)


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG and as PDF, and close it."""
    figure.savefig(path.with_suffix(".png"), dpi=150, bbox_inches="tight")
    figure.savefig(path.with_suffix(".pdf"), bbox_inches="tight")
    plt.close(figure)


class Progress:
    """Says beforehand how long something will take, and on the way how far it is.

    Parameters
    ----------
    parts
        What there is to do: how many times, and how long each took where it was measured, s.
    """

    def __init__(self, **parts: tuple[int, float]) -> None:
        self._left = {name: (count, each_s) for name, (count, each_s) in parts.items()}
        self._began_s, self._expected_s = time.monotonic(), self._left_s()
        what = ", ".join(f"{count} {name.replace('_', ' ')}" for name, (count, _) in parts.items())
        print(f"{what}: about {_told(self._expected_s)} on two cores", flush=True)

    def _left_s(self) -> float:
        return sum(count * each_s for count, each_s in self._left.values())

    def done(self, name: str, what: str) -> None:
        """Take in that one of a part is done, and say what is left at the pace so far."""
        count, each_s = self._left[name]
        self._left[name] = count - 1, each_s
        spent_s, left_s = time.monotonic() - self._began_s, self._left_s()
        pace = spent_s / max(self._expected_s - left_s, 1e-9)
        print(f"  {what}; {_told(pace * left_s)} to go", flush=True)


def _told(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100.0 else f"{seconds / 60.0:.0f} min"
