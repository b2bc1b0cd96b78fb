"""From files and options to an audit, and the turns that come with cosim."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cosim.audits import is_audit
from cosim.audits.settings import Alternative, Audit, Turn, Turns
from cosim.errors import ScenarioError
from cosim.scenario.faults import did_you_mean
from cosim.scenario.load import located, parse_change, read_toml
from cosim.studies import is_study
from cosim.studies.load import study_in


def load_audit(files: Sequence[Path], against: Sequence[str] = (), proposed: str | None = None) -> Audit:
    """Return the audit in a file, or that of scenarios, each an alternative named after its file.

    Parameters
    ----------
    files
        One audit file, or scenarios.
    against
        Changes of the first scenario as ``PATH=VALUE``, each one more alternative.
    proposed
        The alternative that is claimed to be ahead, in place of the file's.

    Raises
    ------
    ScenarioError
        With every fault of the file, one a line; or if there is nothing to compare.
    """
    first = files[0]
    given = read_toml(first)
    if is_audit(given):
        if len(files) > 1 or against:
            raise ScenarioError(f"{first}: is an audit, which has its alternatives itself; give it alone.")
        given |= {} if proposed is None else {"proposed": proposed}
        return _audit_in(given, first)
    for file in files:
        if is_study(read_toml(file)):
            raise ScenarioError(f"{file}: is a study; an audit takes scenarios, or one audit file.")
    changes = [(text, *parse_change(text)) for text in against]
    if len(files) + len(changes) < 2:
        raise ScenarioError(
            f"{first}: an audit compares alternatives, and this is one scenario; give several, add "
            "--against allocator.kind=equal, or write an audit file."
        )
    told = [{"name": file.stem, "scenario": file.resolve()} for file in files]
    told += [{"name": text, "set": {path: value}} for text, path, value in changes]
    made = {
        "name": "-".join(dict.fromkeys(file.stem for file in files))[:80],
        "base": first.resolve(),
        "timing_only": True,
        "measures": ["total_s", "energy_j"],
        "alternatives": told,
        "proposed": proposed,
    }
    return _audit_in(made, first)


def _audit_in(given: dict[str, Any], file: Path) -> Audit:
    """Return an audit whose paths do not depend on where it is read; errors as :func:`load_audit`."""

    def found(one: Alternative) -> Alternative:
        place = f"{file}: alternatives.{one.name}"
        scenario = one.scenario and located(one.scenario, file.parent, place).resolve()
        return one.model_copy(update={"scenario": scenario})

    audit = study_in(given, file, Audit)
    return audit.model_copy(update={"alternatives": tuple(map(found, audit.alternatives))})


def turns_of(audit: Audit) -> tuple[Turn, ...]:
    """Return the turns an audit asks for: those that come with cosim, then its own.

    Raises
    ------
    ScenarioError
        If it names one that there is not.
    """
    known = {one.name: one for one in (*known_turns(), *audit.turns)}
    for name in audit.assumptions or ():
        if name not in known:
            raise ScenarioError(
                f"{audit.name}: assumptions: no turn is named {name!r}{did_you_mean(name, list(known))}; "
                f"there are {', '.join(known)}."
            )
    return tuple(one for name, one in known.items() if audit.assumptions is None or name in audit.assumptions)


@cache
def known_turns() -> tuple[Turn, ...]:
    """Return the turns that come with cosim."""
    return Turns.model_validate(read_toml(Path(__file__).parent / "turns.toml")).turns
