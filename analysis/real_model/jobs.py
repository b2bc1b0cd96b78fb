"""What an experiment on a real model is, and where its models and texts are."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any

from analysis import real_model
from cosim.graph.store import Store
from cosim.scenario.load import change, load
from cosim.scenario.settings import Scenario
from cosim.studies.load import load_study
from cosim.studies.results import Results
from cosim.studies.run_study import Tally, run_study

SCENARIOS = Path(__file__).parents[2] / "scenarios"
HERE = Path(__file__).parent


def places(models: Path | None, texts: Path | None) -> dict[str, Any]:
    """Return the settings that say where SmolLM2 and E2E are, none where the scenarios are right.

    Parameters
    ----------
    models
        Folder that holds ``smollm2-135m``; without it ``COSIM_MODELS``, or beside the scenarios.
    texts
        Folder of E2E, with ``trainset.csv`` and ``devset.csv``.
    """
    told = models or os.environ.get("COSIM_MODELS")
    found: dict[str, Any] = {}
    if told is not None:
        found["model.base.path"] = str(Path(told).resolve() / "smollm2-135m")
    if texts is not None:
        for name, file in (("train_path", "trainset.csv"), ("test_path", "devset.csv")):
            found[f"data.source.{name}"] = str(texts.resolve() / file)
    return found


@dataclass(frozen=True)
class Asked:
    """What the analysis was asked for.

    Attributes
    ----------
    out
        Folder of figures, tables, studies and run folders.
    store
        Where learned values are kept; with it a second call computes nothing.
    is_quick
        Fewer seeds and cases, to see the direction.
    changes
        Changes of every scenario: where models and texts are.
    store_bytes
        What the store is kept to between trainings; None to keep everything.
    """

    out: Path
    store: Store
    is_quick: bool
    changes: Mapping[str, Any]
    store_bytes: int | None = None

    def scenario(self, name: str) -> Scenario:
        """Return a scenario that comes with cosim, changed."""
        return change(load(SCENARIOS / f"{name}.toml"), dict(self.changes))

    def study(
        self,
        file: Path,
        *,
        quick_cases: Sequence[str] = (),
        quick_grid: Mapping[str, Sequence[Any]] = MappingProxyType({}),
        has_own_model: bool = False,
    ) -> Results:
        """Run a study file, or go on with it, and return its results.

        Parameters
        ----------
        file
            The study; its folder in ``out`` is named after it.
        quick_cases, quick_grid
            Named cases and factors with ``--quick``, which has one replication; none mean all.
        has_own_model
            The study says itself what is trained, so models and texts stay as they are.
        """
        study = load_study(file)
        told: dict[str, Any] = {"set": {**study.set, **({} if has_own_model else self.changes)}}
        if self.is_quick:
            vary = study.vary
            kept = tuple(one for one in vary.cases if not quick_cases or one.name in quick_cases)
            grid = {**vary.grid, **{path: tuple(values) for path, values in quick_grid.items()}}
            told["vary"] = vary.model_copy(update={"cases": kept, "grid": grid})
            told["replications"] = 1
        return run_study(
            study.model_copy(update=told),
            self.out / file.stem,
            workers=1,
            store=self.store.root,
            watch=_tell,
        )


@dataclass(frozen=True)
class Job:
    """One experiment.

    Attributes
    ----------
    name
        What progress calls it, and what ``--only`` selects it by.
    whole_s, quick_s
        How long it takes on two cores when nothing is in the store, s, with ``--quick`` too.
    run
        Makes it and draws it.
    """

    name: str
    whole_s: float
    quick_s: float
    run: Callable[[Asked], None]


def jobs() -> Iterator[Job]:
    """Yield the experiments of every file of this package."""
    for module in sorted(one.name for one in iter_modules(real_model.__path__)):
        if module not in ("__main__", "jobs"):
            yield from getattr(import_module(f"{real_model.__name__}.{module}"), "JOBS", ())


def _tell(tally: Tally) -> None:
    if tally.latest is not None:
        done, step = tally.num_kept + tally.num_made, max(1, tally.num_runs // 20)
        if done % step == 0:
            print(f"  run {done} of {tally.num_runs}", flush=True)
