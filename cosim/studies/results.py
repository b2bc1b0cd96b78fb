"""The results of a study: its folder, and the tables in it.

Their columns are a contract with other programs; ``FORMAT`` counts their versions.

``results.parquet``
    One row per case, replication and measure: ``case``, ``replication`` and
    ``seed`` int64, ``measure``, ``value`` float64 (not a number where a run has
    none), then a column for each factor under its path: float64 where it is a
    number in every case, else text; ``left out`` where a case leaves it out and it has no
    default. Runs that failed have no rows.
``curves.parquet``
    One row per held-out loss: ``case``, ``replication``, ``simulated_s``, ``round``,
    ``eval_loss``, ``task``.
``manifest.json``
    ``format``, ``name``, ``status`` (running, complete, stopped), ``plan`` (a hash),
    ``versions``, ``seeds``, ``replications``, ``confidence``, ``interval``, ``tight``
    (whether ``until`` was reached; null without it), ``factors``, ``measures`` with
    ``unit`` and ``better``, ``switches`` (what cases with other kinds than the base
    kept and lost, a line each), ``unvaried`` (settings that differ between cases though
    nobody varied them: ``path``, ``levels`` with ``value``, first ``case`` and number of
    ``cases``, ``default`` where only some kinds have it and leave it so, ``told`` in
    words), ``cases`` with ``name``, ``folder``, ``baseline``, ``settings``,
    ``role`` and ``row`` (of a Sobol design), ``failed`` with ``case``, ``replication``
    and ``reason``, ``diverged`` with the same of trainings that diverged, ``wall_s``, ``workers``,
    ``files`` (size and hash of each file of results), and last ``digest``, of the bytes before it.
``study.toml``
    The study, defaults written out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cosim.errors import RecordError
from cosim.record.digests import read_table
from cosim.record.manifest import read_study
from cosim.studies.plan import Plan
from cosim.words import shown

if TYPE_CHECKING:
    import pyarrow

FORMAT = 1
Status = Literal["running", "complete", "stopped"]


@dataclass(frozen=True)
class Measured:
    """What one run gave: the value of each measure in their order, and its held-out losses.

    ``losses`` are simulated time, s, round, value and task.
    """

    case: int
    replication: int
    seed: int
    values: tuple[float, ...]
    losses: tuple[tuple[float, int, float, str], ...] = ()


def results_table(plan: Plan, runs: Iterable[Measured]) -> "pyarrow.Table":
    """Return what was measured, sorted by case, replication and measure, in whatever order they were run."""
    import pyarrow

    ordered = sorted(runs, key=lambda run: (run.case, run.replication))
    names = [measure.name for measure in plan.study.measures]
    rows = [(run, name, value) for run in ordered for name, value in zip(names, run.values, strict=True)]
    columns: dict[str, Any] = {
        "case": pyarrow.array([plan.cases[run.case].name for run, _, _ in rows], pyarrow.string()),
        "replication": pyarrow.array([run.replication for run, _, _ in rows], pyarrow.int64()),
        "seed": pyarrow.array([run.seed for run, _, _ in rows], pyarrow.int64()),
        "measure": pyarrow.array([name for _, name, _ in rows], pyarrow.string()),
        "value": pyarrow.array([value for _, _, value in rows], pyarrow.float64()),
    }
    for path in plan.factors:
        values, kind = _column([plan.factor(case, path) for case in plan.cases])
        columns[path] = pyarrow.array([values[run.case] for run, _, _ in rows], kind)
    return pyarrow.table(columns)


def curves_table(plan: Plan, runs: Iterable[Measured]) -> "pyarrow.Table":
    """Return the held-out losses, sorted by case, replication and time."""
    import pyarrow

    ordered = sorted(runs, key=lambda run: (run.case, run.replication))
    rows = [(run, *loss) for run in ordered for loss in run.losses]
    return pyarrow.table(
        {
            "case": pyarrow.array([plan.cases[row[0].case].name for row in rows], pyarrow.string()),
            "replication": pyarrow.array([row[0].replication for row in rows], pyarrow.int64()),
            "simulated_s": pyarrow.array([row[1] for row in rows], pyarrow.float64()),
            "round": pyarrow.array([row[2] for row in rows], pyarrow.int64()),
            "eval_loss": pyarrow.array([row[3] for row in rows], pyarrow.float64()),
            "task": pyarrow.array([row[4] for row in rows], pyarrow.string()),
        }
    )


def _column(values: list[Any]) -> tuple[list[Any], Any]:
    """Return a factor's values as a column has them, and the column's type."""
    import pyarrow

    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
        return [float(one) for one in values], pyarrow.float64()
    return [None if one is None else shown(one) for one in values], pyarrow.string()


@dataclass(frozen=True)
class Results:
    """A study's folder, read back.

    Attributes
    ----------
    path
        The folder.
    manifest
        The content of ``manifest.json``.
    """

    path: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path | str, *, is_for_replay: bool = False) -> "Results":
        """Return the study in a folder, every file of its results verified.

        Parameters
        ----------
        path
            The folder.
        is_for_replay
            Read only the manifest; results may be damaged, for they will be written again.

        Raises
        ------
        RecordError
            If the folder is no study, is of a format this version cannot read, or is
            not what was written.
        """
        path = Path(path)
        return cls(path, read_study(path, format_=FORMAT, is_for_replay=is_for_replay))

    @property
    def table(self) -> Any:
        """One row per case, replication and measure, a :class:`pyarrow.Table`."""
        return self._table("results")

    @property
    def curves(self) -> Any:
        """One row per held-out loss, a :class:`pyarrow.Table`."""
        return self._table("curves")

    def frame(self) -> Any:
        """Return the results as a :class:`pandas.DataFrame`.

        Raises
        ------
        RecordError
            If they cannot be read, or pandas is not installed.
        """
        try:
            return self.table.to_pandas()
        except ImportError:
            raise RecordError("a data frame needs pandas: install it by pip install pandas.") from None

    def _repr_html_(self) -> str:
        from cosim.studies.notebook import as_html

        return as_html(self.path, self.manifest)

    def _table(self, name: str) -> Any:
        try:
            return read_table(self.path / f"{name}.parquet")
        except FileNotFoundError:
            raise RecordError(
                f"{self.path}: has no {name}.parquet; the study is {self.manifest['status']}."
            ) from None
