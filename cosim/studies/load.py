"""From a file to a study, and back to a file."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from cosim.errors import ScenarioError
from cosim.scenario.faults import faults
from cosim.scenario.load import located, read_toml
from cosim.studies import is_study
from cosim.studies.settings import Study

_Kind = TypeVar("_Kind", bound=Study)


def load_study(path: Path | str) -> Study:
    """Return the study in a TOML file; its base counts from the file's folder.

    Raises
    ------
    ScenarioError
        With every fault of the file, one a line.
    """
    path = Path(path)
    given = read_toml(path)
    if not is_study(given):
        raise ScenarioError(
            f"{path}: is no study: it names no base and varies nothing; a scenario is run by cosim run {path}"
        )
    return study_in(given, path, Study)


def study_in(given: dict[str, Any], path: Path, kind: type[_Kind]) -> _Kind:
    """Return what a file has as a study or a kind of study; errors as :func:`load_study`."""
    given.setdefault("name", path.stem)
    try:
        study = kind.model_validate(given)
    except ValidationError as error:
        told = (one.removeprefix("scenario: ") for one in faults(error, given, kind))
        raise ScenarioError("\n".join(f"{path}: {one}" for one in told)) from None
    return study.model_copy(
        update={
            "base": located(study.base, path.parent, f"{path}: base").resolve(),
            "paths_from": located(study.paths_from or Path(), path.parent, f"{path}: paths_from").resolve(),
        }
    )


def study_toml(study: Study) -> str:
    """Return the file that gives this study again, every default written out."""
    import tomli_w

    given = study.model_dump(mode="json", exclude_none=True)
    given["vary"] = {design: values for design, values in given["vary"].items() if values}
    return tomli_w.dumps(given)
