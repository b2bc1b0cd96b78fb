"""The plan of an audit: every alternative under every turned assumption, and what cannot be turned."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cosim.audits import PUBLISHED, TOGETHER
from cosim.audits.load import turns_of
from cosim.audits.settings import Audit, Turn
from cosim.errors import CosimError, ScenarioError
from cosim.scenario.build import prepare_tasks
from cosim.scenario.inputs import digests
from cosim.scenario.load import change, load, run_hash
from cosim.scenario.settings import Scenario
from cosim.studies.plan import Case, Plan, folder_name, refuse_measures


class LeftOut(NamedTuple):
    """A turn that was not made, for which alternative, and why."""

    turn: str
    alternative: str
    reason: str


@dataclass(frozen=True)
class AuditPlan:
    """An audit whose cases are made.

    Attributes
    ----------
    audit
        As the file has it.
    plan
        All cases as a study, by assumption and then by alternative.
    turns
        The turns that at least two alternatives take, in the order of the report; first none at all,
        last those that go together.
    left_out
        What an alternative refuses, or has already.
    alone
        What is not among those turned together, and why.
    """

    audit: Audit
    plan: Plan
    turns: tuple[Turn, ...]
    left_out: tuple[LeftOut, ...]
    alone: tuple[LeftOut, ...]


def plan_audit(audit: Audit, seed: int | None = None) -> AuditPlan:
    """Return the cases of an audit, each checked as ``cosim check`` would.

    Raises
    ------
    ScenarioError
        If an alternative as published is at fault, or no assumption can be turned.
    """
    published = _published(audit, seed)
    refuse_measures(audit, published.values())
    turns, left_out = turns_of(audit), list[LeftOut]()
    made: dict[str, dict[str, Scenario]] = {PUBLISHED: published}
    kept = [Turn.model_construct(name=PUBLISHED, title="as the scenarios have it", set={})]
    for turn in turns:
        taken, refused = _turned(audit, published, turn)
        left_out += refused
        if len(taken) > 1:
            made[turn.name] = taken
            kept.append(turn)
        else:
            left_out += [LeftOut(turn.name, name, "only this alternative takes it") for name in taken]
    if len(kept) == 1:
        raise ScenarioError("\n".join((f"{audit.name}: no assumption can be turned:", *_told(left_out))))
    together, alone = _together(audit, published, kept[1:])
    if together is not None:
        made[TOGETHER] = {name: _changed(audit, one, together.set) for name, one in published.items()}
        kept.append(together)
    cases = [
        _case(audit, name, turn, scenario) for turn, taken in made.items() for name, scenario in taken.items()
    ]
    base = next(iter(published.values()))
    plan = Plan(audit, base, ("alternative", "assumption"), tuple(cases))
    return AuditPlan(audit, plan, tuple(kept), tuple(left_out), tuple(alone))


def case_name(alternative: str, turn: str) -> str:
    """Return what a case is called."""
    return f"{alternative}, {turn}"


def _case(audit: Audit, alternative: str, turn: str, scenario: Scenario) -> Case:
    name = case_name(alternative, turn)
    return Case(
        name,
        {"alternative": alternative, "assumption": turn},
        scenario,
        folder_name(name, scenario),
        baseline=case_name(alternative, PUBLISHED),
        inputs=digests(scenario),
        replicate=audit.replicate,
    )


def _published(audit: Audit, seed: int | None) -> dict[str, Scenario]:
    """Return the alternatives as they are, all with the seed of the first replication."""
    base, found, faults = load(audit.base), dict[str, Scenario](), list[str]()
    first_seed = next(one for one in (seed, audit.seed, base.seed) if one is not None)
    for one in audit.alternatives:
        source = f"{audit.name}: alternatives.{one.name}"
        try:
            scenario = base if one.scenario is None else load(one.scenario)
            scenario = change(scenario, one.set, first_seed, source, audit.paths_from, audit.set)
            prepare_tasks(scenario)
        except CosimError as fault:
            faults += [
                line if line.startswith(source) else f"{source}: {line}" for line in str(fault).splitlines()
            ]
            continue
        found[one.name] = scenario
    if faults:
        raise ScenarioError("\n".join(faults))
    hashes: dict[str, str] = {}
    for name, scenario in found.items():
        other = hashes.setdefault(run_hash(scenario), name)
        if other != name:
            raise ScenarioError(
                f"{audit.name}: alternatives: {other!r} and {name!r} are the same run; leave one out."
            )
    return found


def _turned(
    audit: Audit, published: Mapping[str, Scenario], turn: Turn
) -> tuple[dict[str, Scenario], list[LeftOut]]:
    """Return the alternatives under a turn, and why others are not."""
    taken, refused = dict[str, Scenario](), list[LeftOut]()
    for name, scenario in published.items():
        try:
            turned = _changed(audit, scenario, turn.set)
        except CosimError as fault:
            refused.append(LeftOut(turn.name, name, _reason(fault)))
            continue
        if run_hash(turned) == run_hash(scenario):
            refused.append(LeftOut(turn.name, name, "is so already"))
        else:
            taken[name] = turned
    return taken, refused


def _together(
    audit: Audit, published: Mapping[str, Scenario], turns: Sequence[Turn]
) -> tuple[Turn | None, list[LeftOut]]:
    """Return a turn of all that go together, one after the other, and why others do not."""
    settings, names, alone = dict[str, Any](), list[str](), list[LeftOut]()
    for turn in turns:
        if not turn.together:
            alone.append(LeftOut(turn.name, "", "another turn says more"))
            continue
        for name, scenario in published.items():
            try:
                _changed(audit, scenario, {**settings, **turn.set})
            except CosimError as fault:
                alone.append(LeftOut(turn.name, name, _reason(fault)))
                break
        else:
            settings, names = {**settings, **turn.set}, [*names, turn.name]
    if len(names) < 2:
        return None, alone
    return Turn.model_construct(name=TOGETHER, title=", ".join(names), set=settings), alone


def _changed(audit: Audit, scenario: Scenario, settings: Mapping[str, Any]) -> Scenario:
    turned = change(scenario, settings, None, "audit", audit.paths_from)
    prepare_tasks(turned)
    return turned


def _reason(fault: CosimError) -> str:
    return "; ".join(line.removeprefix("audit: ") for line in str(fault).splitlines())


def _told(left_out: Sequence[LeftOut]) -> Iterator[str]:
    return (f"  {one.turn}, {one.alternative}: {one.reason}" for one in left_out)
