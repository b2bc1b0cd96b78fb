"""A run under other conditions: played again, or timed by the tensor clock and played when it is read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from cosim.errors import CosimError, DivergedError, RecordError
from cosim.graph.store import Store, default_store
from cosim.messaging import replay_of, replay_suffix
from cosim.record.folder import Record
from cosim.record.manifest import Manifest
from cosim.runs import Within, default_folder, resume, run, scenario_of
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario
from cosim.tensor import EngineName
from cosim.timed_runs import time_whatif
from cosim.world import Progress


class _Entries(Manifest):
    """The manifest of a run that was timed: it is played when an entry is asked for that is not known yet."""

    def __init__(self, path: Path, entries: Mapping[str, Any], play: Callable[[], Record] | None) -> None:
        super().__init__(path, entries)
        self._play = play

    def become(self, entries: Mapping[str, Any]) -> None:
        """Take the entries of the run that was played."""
        self._play = None
        self.clear()
        self.update(entries)

    def _know(self, name: object = None) -> None:
        """Play the run unless an entry is known; without a name, as all are asked for."""
        if self._play is not None and not super().__contains__(name):
            self._play()

    def __missing__(self, name: str) -> Any:
        self._know(name)
        return self[name] if super().__contains__(name) else super().__missing__(name)

    def __contains__(self, name: object) -> bool:
        self._know(name)
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an entry, or else the default."""
        self._know(name)
        return super().get(name, default)

    def __iter__(self) -> Iterator[str]:
        self._know()
        return super().__iter__()

    def __len__(self) -> int:
        self._know()
        return super().__len__()

    def keys(self) -> Any:
        """Return the names of all entries."""
        self._know()
        return super().keys()

    def values(self) -> Any:
        """Return all entries."""
        self._know()
        return super().values()

    def items(self) -> Any:
        """Return all entries with their names."""
        self._know()
        return super().items()

    def __reduce__(self) -> Any:
        return Manifest, (self._path, dict(self))


@dataclass(frozen=True)
class TimedRecord(Record):
    """A run that the tensor clock timed: it is played when more is asked for than how long it took."""

    _timed: Record
    _values: Store | None

    @classmethod
    def of(cls, record: Record, store: Store | None) -> Self:
        """Return it from its folder; values are looked for in ``store``, nowhere without it."""
        entries = _Entries(record.path / "manifest.json", record.manifest, lambda: timed.played)
        timed = cls(record.path, entries, record, store)
        return timed

    @cached_property
    def played(self) -> Record:
        """The run, played."""
        record = played(self._timed, self._values)
        assert isinstance(self.manifest, _Entries)
        self.manifest.become(record.manifest)
        return record

    def _table(self, name: str, columns: list[str] | None = None) -> Any:
        return self.played._table(name, columns)

    @property
    def _known(self) -> Record:
        """The run as far as it is known; to show or to send it does not play it."""
        known: Record = self.__dict__.get("played", self._timed)
        return known

    def _repr_html_(self) -> str:
        return self._known._repr_html_()

    def __repr__(self) -> str:
        return repr(self._known)

    def __reduce__(self) -> Any:
        return TimedRecord.of, (self._known, self._values)


def opened(folder: Path | str) -> Record:
    """Return the run in a folder; one that was only timed is played first, so that it has spans.

    Its values are looked for in the user's own store.

    Raises
    ------
    RecordError
        As :meth:`cosim.record.folder.Record.open` does.
    """
    record = Record.open(folder)
    if record.status != "timed":
        return record
    return played(record, None if record.manifest["timing_only"] else Store(default_store()))


def played(record: Record, store: Store | None) -> Record:
    """Return a run that was timed when it has been played, by whomever; one that was stopped goes on.

    Raises
    ------
    CosimError
        If it cannot be played.
    """
    now = Record.open(record.path)
    if now.has_ended:
        return now
    try:
        resume(record.path, store=store)
    except DivergedError:
        pass
    except RecordError:
        if not Record.open(record.path, is_for_replay=True).has_ended:  # by another process, meanwhile
            raise
    return Record.open(record.path)


def whatif(
    folder: Path,
    changes: Mapping[str, Any],
    *,
    at_s: float | None = None,
    out: Path | None = None,
    store: Store | None = None,
    engine: EngineName | None = None,
    watch: Callable[[Progress], None] = lambda progress: None,
    within: Within | None = None,
) -> Path:
    """Take a run under other conditions; what was learned is recalled wherever it is the same.

    Parameters
    ----------
    folder
        A complete run, or one whose training diverged.
    changes
        Settings by path.
    at_s
        Change them at this instant of simulated time rather than from the
        beginning: the same past, another future.
    out, store, watch, within
        As for :func:`cosim.runs.run`. A run that is there already in its default folder
        is not played again.
    engine
        ``tensor`` times it by the tensor clock and leaves a folder without spans, which are played when
        they are asked for; ``auto`` does where the tensor clock can, and plays it elsewhere. ``events``
        plays it; so does None, with the tensor clock in a run that keeps summaries alone.

    Raises
    ------
    CosimError
        If the run has not ended or was over by ``at_s``, its scenario was
        changed by hand, or the changes make a fault.
    DivergedError
        If the training diverges under the changes.
    """
    record = Record.open(folder)
    was = _played(record)
    scenario, timing_only = _under(was, record, changes, at_s), record.manifest["timing_only"]
    there, is_timed = whatif_folder(record, scenario, out), engine in ("auto", "tensor")
    if out is None and (there / "manifest.json").is_file():
        known = Record.open(there)
        if known.status == "diverged":
            raise DivergedError(str(known.manifest.get("reason", f"{there}: the training diverged.")))
        if known.status == "complete" or (known.status == "timed" and is_timed):
            return there
        if known.status == "timed":
            return played(known, store).path
    program = replay_of(record, was, scenario)
    if is_timed and program is None and not record.is_short and record.status == "complete":
        try:
            return time_whatif(was, record, scenario, there)
        except CosimError:
            if out is None and _is_there(there):  # by another process, meanwhile
                return there
            if engine == "tensor":
                raise
    return run(
        scenario,
        there,
        timing_only=timing_only,
        store=store,
        watch=watch,
        within=within,
        program=program,
        engine=engine or "auto",
    )


def whatif_folder(record: Record, scenario: Scenario, out: Path | None) -> Path:
    """Return the folder of a what-if on a run: the one named, or that of its scenario."""
    folder = default_folder(scenario, timing_only=record.manifest["timing_only"])
    return out or folder.with_name(folder.name + replay_suffix(record))


def other_scenario(record: Record, changes: Mapping[str, Any], at_s: float | None) -> Scenario:
    """Return what a what-if on a run plays.

    Raises
    ------
    CosimError
        As :func:`whatif` does.
    """
    return _under(_played(record), record, changes, at_s)


def _is_there(folder: Path) -> bool:
    return (folder / "manifest.json").is_file() and Record.open(folder).status in ("timed", "complete")


def _played(record: Record) -> Scenario:
    """Return what a run that has ended played."""
    if not record.has_ended:
        raise RecordError(
            f"{record.path}: the run is {record.state}; end it first: cosim resume {record.path}"
        )
    return scenario_of(record)


def _under(was: Scenario, record: Record, changes: Mapping[str, Any], at_s: float | None) -> Scenario:
    """Return the scenario of a run with changes, from the beginning or from an instant on."""
    if at_s is None:
        return change(was, changes)
    if not 0.0 < at_s < record.manifest["simulated_s"]:
        raise RecordError(
            f"{record.path}: cannot be forked at {at_s:g} s; it lasts from 0 to "
            f"{record.manifest['simulated_s']:g} s."
        )
    events = [event.model_dump() for event in was.events]
    return change(was, {"events": [*events, {"at_s": at_s, "set": dict(changes)}]})
