"""What an audit found: how each turned assumption moves every alternative, their order, and who is ahead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosim.audits import PUBLISHED
from cosim.audits.plan import AuditPlan
from cosim.statistics.difference import difference, log_ratio
from cosim.statistics.interval import interval
from cosim.statistics.ranking import kendall_tau
from cosim.studies.measures import Measure
from cosim.studies.results import Results
from cosim.units import Floats

Values = Mapping[tuple[str, str], Floats]
"""By turn and alternative, a value for each replication; nan where there was no such run."""


def findings(planned: AuditPlan, results: Results) -> dict[str, Any]:
    """Return all that an audit found, as plain values; None where there is no number.

    A run that has no number for a measure, such as a loss that was never reached, comes last in
    the order of its seed and is in no mean. Seeds count where every alternative has run. Times, energies
    and bits differ by factors from seed to seed: their moves and leads are geometric means of pairs' ratios.
    """
    audit, manifest = planned.audit, results.manifest
    comparisons = [_comparison(planned, results, one) for one in audit.measures]
    names = [one.name for one in audit.alternatives]
    proposed = audit.proposed or comparisons[0].best(PUBLISHED, names)
    measures = [
        _measured(planned, comparison, measure, proposed)
        for comparison, measure in zip(comparisons, audit.measures, strict=True)
    ]
    return {
        "format": 1,
        "name": audit.name,
        "description": " ".join(audit.description.split()),
        "status": manifest["status"],
        "seeds": manifest["seeds"],
        "confidence": audit.confidence,
        "timing_only": audit.timing_only,
        "alternatives": names,
        "turns": [
            {**one.model_dump(include={"name", "title", "assumption", "source"}), "set": dict(one.set)}
            for one in planned.turns
        ],
        "left_out": [one._asdict() for one in planned.left_out],
        "not_together": [one._asdict() for one in planned.alone],
        "failed": list(manifest["failed"]),
        "versions": dict(manifest["versions"]),
        "measures": measures,
    }


def _measured(
    planned: AuditPlan, comparison: "_Comparison", measure: Measure, proposed: str | None
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for turn in planned.turns:
        taken = [one.name for one in planned.audit.alternatives if (turn.name, one.name) in comparison.values]
        rows.append(comparison.row(turn.name, taken, proposed))
    before = {one["rival"]: one["verdict"] for one in rows[0]["pairs"]}
    for pair in (one for row in rows for one in row["pairs"]):
        pair["as_published"] = before[pair["rival"]]
    return {
        "name": measure.name,
        "unit": measure.unit,
        "better": measure.better,
        "by_ratio": comparison.by_ratio,
        "proposed": proposed,
        "rows": rows,
        "conclusion": conclusion(rows, by_ratio=comparison.by_ratio),
    }


def _comparison(planned: AuditPlan, results: Results, measure: Measure) -> "_Comparison":
    audit, sign = planned.audit, -1.0 if measure.better == "more" else 1.0
    values = _values(results, measure)
    by_ratio = measure.by_ratio and all((one[~np.isnan(one)] > 0.0).all() for one in values.values())
    return _Comparison(values, sign, by_ratio, audit.interval, audit.confidence, planned.plan.seed)


def _values(results: Results, measure: Measure) -> dict[tuple[str, str], Floats]:
    table = results.table
    names = ("assumption", "alternative", "measure", "replication", "value")
    found: dict[tuple[str, str], Floats] = {}
    never = -np.inf if measure.better == "more" else np.inf
    for turn, name, measured, replication, value in zip(
        *(table[one].to_pylist() for one in names), strict=True
    ):
        if measured == measure.name:
            row = found.setdefault((turn, name), np.full(results.manifest["replications"], np.nan))
            row[replication] = value if value is not None and np.isfinite(value) else never
    return found


@dataclass(frozen=True)
class _Comparison:
    """Values of one measure; ``sign`` is -1 where more is better, which no measure compared by ratio has."""

    values: Values
    sign: float
    by_ratio: bool
    method: Any
    confidence: float
    seed: int

    def row(self, turn: str, taken: Sequence[str], proposed: str | None) -> dict[str, Any]:
        """Return how a turn moves the alternatives that take it."""
        has_run = self._common(turn, taken)
        before, after = (self._stacked(which, taken)[:, has_run] for which in (PUBLISHED, turn))
        row: dict[str, Any] = {"turn": turn, "seeds": int(has_run.sum()), "winner": self.best(turn, taken)}
        row["moves"] = [
            {"alternative": name, **self._moved(one, other)}
            for name, one, other in zip(taken, after, before, strict=True)
        ]
        row |= self._order(before, after)
        rivals = [name for name in taken if name != proposed] if proposed in taken else []
        own = after[list(taken).index(proposed)] if rivals and proposed is not None else np.array([])
        row["pairs"] = [
            {"rival": name, **self._margin(own, after[list(taken).index(name)])} for name in rivals
        ]
        return row

    def best(self, turn: str, names: Sequence[str]) -> str | None:
        """Return the alternative with the best mean; who has no number is never that."""
        names = [name for name in names if (turn, name) in self.values]
        has_run = self._common(turn, names)
        if not names or not has_run.any():
            return None
        means = self.sign * self._scaled(self._stacked(turn, names)[:, has_run]).mean(axis=1)
        return names[int(np.argmin(means))] if np.isfinite(means).any() else None

    def _stacked(self, turn: str, names: Sequence[str]) -> Floats:
        """Return values, shape (num_alternatives, num_replications)."""
        return np.stack([self.values[turn, name] for name in names])

    def _common(self, turn: str, names: Sequence[str]) -> Any:
        """Return in which replications all of them have run, under a turn and as published."""
        every = [
            ~np.isnan(self.values[which, name])
            for name in names
            for which in (turn, PUBLISHED)
            if (which, name) in self.values
        ]
        return np.logical_and.reduce(every) if every else np.zeros(0, dtype=bool)

    def _moved(self, after: Floats, before: Floats) -> dict[str, Any]:
        """Return a mean with its interval, and the paired change over what it was as published."""
        finite, both = np.isfinite(after), np.isfinite(after) & np.isfinite(before)
        told: dict[str, Any] = {"n": int(finite.sum()), "missing": int((~finite).sum())}
        told |= dict.fromkeys(("mean", "low", "high", "moved", "moved_low", "moved_high"))
        if finite.any():
            found = interval(after[finite], method=self.method, confidence=self.confidence, seed=self.seed)
            told |= _numbers(mean=found.mean, low=found.low, high=found.high)
        if both.any() and before[both].mean():
            moved, low, high = self._change(after[both], before[both])
            told |= _numbers(moved=moved, moved_low=low, moved_high=high)
        return told

    def _order(self, before: Floats, after: Floats) -> dict[str, Any]:
        """Return how far the order of each seed agrees with its order as published, and who wins."""
        told: dict[str, Any] = dict.fromkeys(("tau", "tau_low", "tau_high", "tau_of_means", "same_winner"))
        taus = kendall_tau(before.T, after.T)
        taus = taus[np.isfinite(taus)]
        if len(taus):
            found = interval(taus, method=self.method, confidence=self.confidence, seed=self.seed)
            low, high = np.clip((found.low, found.high), -1.0, 1.0)
            told |= _numbers(tau=found.mean, tau_low=low, tau_high=high)
        if before.shape[1]:
            means = [self._scaled(one).mean(axis=1) for one in (before, after)]
            told |= _numbers(tau_of_means=kendall_tau(*means))
            winners = [self.sign * one == (self.sign * one).min(axis=0) for one in (before, after)]
            told["same_winner"] = float(np.mean(np.any(winners[0] & winners[1], axis=0)))
        return told

    def _margin(self, own: Floats, rival: Floats) -> dict[str, Any]:
        """Return by how much the proposed is ahead of a rival, over what the rival has, and a verdict."""
        both = np.isfinite(own) & np.isfinite(rival)
        told: dict[str, Any] = dict.fromkeys(("ahead", "ahead_low", "ahead_high"))
        told |= {"n": int(both.sum()), "verdict": "no number"}
        if not both.any() or not rival[both].mean():
            return told
        ahead, low, high = (-self.sign * one for one in self._change(own[both], rival[both]))
        low, high = min(low, high), max(low, high)
        told |= _numbers(ahead=ahead, ahead_low=low, ahead_high=high)
        if ahead == low == high == 0.0:
            told["verdict"] = "equal"
        else:
            told["verdict"] = "ahead" if low > 0.0 else "behind" if high < 0.0 else "undecided"
        return told

    def _scaled(self, values: Floats) -> Floats:
        """Return values on the scale on which they are compared: logarithms where that is by ratio."""
        return np.log(values) if self.by_ratio else values

    def _change(self, after: Floats, before: Floats) -> tuple[float, float, float]:
        """Return what pairs change over what they were before, in the mean, and the ends of its interval."""
        compared = log_ratio if self.by_ratio else difference
        found = compared(after, before, method=self.method, confidence=self.confidence, seed=self.seed)
        ends = np.array((found.mean, found.low, found.high), dtype=np.float64)
        mean, low, high = np.expm1(ends) if self.by_ratio else ends / abs(float(before.mean()))
        return float(mean), float(low), float(high)


def conclusion(rows: Sequence[Mapping[str, Any]], *, by_ratio: bool = False) -> dict[str, Any]:
    """Return which turns change who is ahead of whom, and which one moves the leads most.

    Returns
    -------
    dict
        ``reverses`` and ``blurs``: turns with the rivals against whom the proposed goes from ahead to
        behind, or back, and from decided to undecided, or back. ``lost``: turns with the rivals of whom it
        is ahead as published and no longer; ``hangs_on``: those turns. ``most``: the turn by itself with
        the largest change of a lead (``by_ratio``: by the largest factor), with the rival and the two leads.
    """

    def change(was: float, now: float) -> float:
        return abs(float(np.log((1.0 - now) / (1.0 - was)))) if by_ratio else abs(now - was)

    published = {one["rival"]: one for one in rows[0]["pairs"]}
    reverses, blurs = list[dict[str, Any]](), list[dict[str, Any]]()
    most: dict[str, Any] | None = None
    for row in rows[1:]:
        changed = [one for one in row["pairs"] if one["verdict"] != published[one["rival"]]["verdict"]]
        decided = ("ahead", "behind")
        reversed_ = [
            one["rival"]
            for one in changed
            if one["verdict"] in decided and published[one["rival"]]["verdict"] in decided
        ]
        blurred = [one["rival"] for one in changed if one["rival"] not in reversed_]
        reverses += [{"turn": row["turn"], "rivals": reversed_}] if reversed_ else []
        blurs += [{"turn": row["turn"], "rivals": blurred}] if blurred else []
        for pair in row["pairs"]:
            was, now = published[pair["rival"]]["ahead"], pair["ahead"]
            if was is None or now is None or now == was:
                continue
            if most is None or change(was, now) > change(most["was"], most["now"]):
                most = {"turn": row["turn"], "rival": pair["rival"], "was": was, "now": now}
    lost = [
        {"turn": row["turn"], "rivals": rivals}
        for row in rows[1:]
        if (
            rivals := [
                one["rival"]
                for one in row["pairs"]
                if one["verdict"] != "ahead" == published[one["rival"]]["verdict"]
            ]
        )
    ]
    hangs_on = [one["turn"] for one in lost]
    return {"hangs_on": hangs_on, "lost": lost, "reverses": reverses, "blurs": blurs, "most": most}


def _numbers(**values: Any) -> dict[str, float | None]:
    """Return numbers as plain floats, None for those that are none."""
    return {name: float(one) if np.isfinite(one) else None for name, one in values.items()}
