"""The folder of a study while it goes on."""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosim.errors import RecordError
from cosim.record.folder import write_whole
from cosim.study.load import study_toml
from cosim.study.plan import Plan
from cosim.study.play import own_version
from cosim.study.results import FORMAT, Results, Status

if TYPE_CHECKING:
    import pyarrow


class StudyFolder:
    """A study's folder; every file in it is replaced whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, path: Path, plan: Plan) -> "StudyFolder":
        """Return the folder a plan may be carried out in: none yet, an empty one, or one of the same study.

        Raises
        ------
        RecordError
            If anything else is there; nothing is changed.
        """
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return cls(path)
        if not (path / "manifest.json").is_file():
            raise RecordError(f"{path}: is there already and is no study; name another folder with --out.")
        before = Results.open(path).manifest
        version = before.get("versions", {}).get("cosim")
        if version != own_version():
            raise RecordError(
                f"{path}: was made by cosim {version}, and this is {own_version()}; "
                "name another folder with --out, or go on with it in that version."
            )
        if before.get("name") != plan.study.name:
            raise RecordError(
                f"{path}: holds the study {before.get('name')!r}, not {plan.study.name!r}; "
                "name another folder with --out."
            )
        return cls(path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and hold it while the study goes on.

        Raises
        ------
        RecordError
            If another process holds it, or it cannot be written.
        """
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RecordError(f"{self.path}: the study is still going on in another process.") from None
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Tell a disk that is full, or a folder that cannot be written, in a line.

        Raises
        ------
        RecordError
            In place of an OSError; what was written before stays.
        """
        try:
            yield
        except OSError as fault:
            raise RecordError(
                f"{self.path}: cannot be written: {fault.strerror or fault}; mend that and give the same "
                "command again: it goes on where this one stopped."
            ) from None

    @property
    def log(self) -> Path:
        """Where what workers print goes."""
        return self.path / "workers.log"

    def begin(self, plan: Plan) -> None:
        """Write the study as it is in force."""
        with self.writing():
            write_whole(self.path / "study.toml", study_toml(plan.study).encode())

    def mark(self, status: Status, plan: Plan, entries: Mapping[str, Any]) -> None:
        """Replace the manifest."""
        study = plan.study
        manifest = {
            "kind": "study",
            "format": FORMAT,
            "name": study.name,
            "description": study.description,
            "status": status,
            "plan": plan.key,
            "timing_only": study.timing_only,
            "confidence": study.confidence,
            "interval": study.interval,
            "until": study.until,
            "factors": list(plan.factors),
            "measures": [
                {"name": one.name, "unit": one.unit, "better": one.better} for one in study.measures
            ],
            "switches": [str(one) for one in plan.switches],
            "unvaried": [one.entry() for one in plan.unvaried],
            "cases": [
                {
                    "name": case.name,
                    "folder": case.folder,
                    "baseline": case.baseline,
                    "settings": case.settings,
                    "role": case.role,
                    "row": case.row,
                }
                for case in plan.cases
            ],
            **entries,
        }
        with self.writing():
            write_whole(self.path / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())

    def write_table(self, name: str, table: "pyarrow.Table") -> None:
        """Write a table as Parquet."""
        from pyarrow import parquet

        with self.writing():
            temporary = self.path / f".{name}.parquet"
            parquet.write_table(table, temporary)
            temporary.replace(self.path / f"{name}.parquet")
