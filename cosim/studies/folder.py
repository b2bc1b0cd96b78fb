"""The folder of a study while it goes on."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cosim.distribution import own_version, release_of
from cosim.errors import RecordError
from cosim.files import output_faults, remove_leftovers, write_whole
from cosim.locks import lock_file
from cosim.record.digests import FileDigest, digest_of, files_there, replacing_files, sealed
from cosim.record.folder import FORMAT as RUN_FORMAT
from cosim.studies.load import study_toml
from cosim.studies.plan import Plan
from cosim.studies.results import FORMAT, Results, Status


class StudyFolder:
    """A study's folder; every file in it is replaced whole or not at all."""

    def __init__(self, path: Path, files: Mapping[str, FileDigest] | None = None) -> None:
        self.path = path
        self._files: dict[str, Any] = {"files": dict(files or {})}

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
        before = Results.open(path, is_for_replay=True).manifest
        version = before.get("versions", {}).get("cosim")
        if release_of(str(version)) != release_of(own_version()):
            raise RecordError(
                f"{path}: was made by cosim {version}, and this is {own_version()}; "
                "name another folder with --out, or go on with it in that version."
            )
        run_format = before.get("run_format", 2)
        if run_format != RUN_FORMAT:
            raise RecordError(
                f"{path}: its runs are of format {run_format}, and this version of cosim makes and reads "
                f"{RUN_FORMAT}; name another folder with --out, or go on with it in the version that made it."
            )
        if before.get("name") != plan.study.name:
            raise RecordError(
                f"{path}: holds the study {before.get('name')!r}, not {plan.study.name!r}; "
                "name another folder with --out."
            )
        return cls(path, files_there(path, before))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and hold it while the study goes on.

        Raises
        ------
        RecordError
            If another process holds it, or it cannot be written.
        """
        with ExitStack() as lock:
            with self.writing():
                self.path.mkdir(parents=True, exist_ok=True)
                try:
                    lock.enter_context(lock_file(self.path / ".lock", waits=False))
                except BlockingIOError:
                    fault = f"{self.path}: the study is still going on in another process."
                    raise RecordError(fault) from None
                remove_leftovers(self.path)
            yield

    def writing(self) -> AbstractContextManager[None]:
        """Tell a disk that is full, or a folder that cannot be written, in a line.

        Raises
        ------
        RecordError
            In place of an OSError; what was written before stays.
        """
        way_out = "mend that and give the same command again: it goes on where this one stopped."
        return output_faults(self.path, way_out)

    @property
    def log(self) -> Path:
        """Where what workers print goes."""
        return self.path / "workers.log"

    def begin(self, plan: Plan) -> None:
        """Write the study as it is in force."""
        content = study_toml(plan.study).encode()
        with self.writing():
            write_whole(self.path / "study.toml", content)
        self._files["files"]["study.toml"] = digest_of(content)

    def write(
        self, contents: Mapping[str, bytes | memoryview], plan: Plan, entries: Mapping[str, Any]
    ) -> None:
        """Write files of results, each whole or not at all; the manifest always fits what is there."""
        with self.writing(), replacing_files(self.path, contents, self._files, durable=True):
            self.mark("running", plan, entries)

    def mark(self, status: Status, plan: Plan, entries: Mapping[str, Any]) -> None:
        """Replace the manifest."""
        study = plan.study
        manifest = {
            "kind": "study",
            "format": FORMAT,
            "run_format": RUN_FORMAT,
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
            **self._files,
        }
        with self.writing():
            write_whole(self.path / "manifest.json", sealed(manifest))
