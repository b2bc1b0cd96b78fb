"""The findings of an audit in words: on the terminal and at the head of the page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def verdict_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Return for each measure what its conclusion depends on, a line each."""
    for measure in found["measures"]:
        label, told = label_of(measure), measure["conclusion"]
        yield f"{label}: {_published(measure)}"
        for what, verb in (
            ("reverses", "reverses the order with"),
            ("blurs", "decides, or leaves undecided, the order with"),
        ):
            for one in told[what]:
                yield f"{label}: '{one['turn']}' {verb} {', '.join(one['rivals'])}"
        lost = [f"{', '.join(one['rivals'])} by '{one['turn']}'" for one in told["lost"]]
        if any(pair["verdict"] == "ahead" for pair in measure["rows"][0]["pairs"]):
            yield f"{label}: " + (
                f"the lead is lost over {'; over '.join(lost)}" if lost else "no lead is lost"
            )
        if told["most"] is not None:
            most = told["most"]
            yield (
                f"{label}: the lead moves most by '{most['turn']}', against {most['rival']}: "
                f"from {lead(measure, most['was'])} to {lead(measure, most['now'])}"
            )


def _published(measure: Mapping[str, Any]) -> str:
    """Return against whom the proposed is ahead as published."""
    of: dict[str, list[str]] = {}
    for pair in measure["rows"][0]["pairs"]:
        of.setdefault(pair["verdict"], []).append(f"{pair['rival']} ({lead(measure, pair['ahead'])})")
    words = {
        "ahead": "is ahead of",
        "behind": "is behind",
        "undecided": "is not told apart from",
        "equal": "equals",
        "no number": "has no number to compare with",
    }
    told = "; ".join(f"{words[verdict]} {', '.join(rivals)}" for verdict, rivals in of.items())
    return f"as published {measure['proposed']} {told}" if told else "as published there is no number"


def row_told(row: Mapping[str, Any]) -> dict[str, str]:
    """Return what there is to say of a turn and a measure: its order, winner and changed verdicts."""
    changed = [
        f"{one['rival']}: {one['as_published']} → {one['verdict']}"
        for one in row["pairs"]
        if one["verdict"] != one["as_published"]
    ]
    verdict = "the proposed does not take it" if not row["pairs"] else "; ".join(changed) or "unchanged"
    share = row["same_winner"]
    return {
        "turn": row["turn"],
        "tau": with_interval(row["tau"], row["tau_low"], row["tau_high"]),
        "same winner": "" if share is None else f"{100 * share:.0f} %",
        "winner": row["winner"] or "none",
        "against rivals": verdict,
    }


def left_out_lines(left_out: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    """Return each turn that was not made, and in a line for whom and why; one reason is said once."""
    of: dict[tuple[str, str], list[str]] = {}
    for one in left_out:
        of.setdefault((one["turn"], one["reason"]), []).append(one["alternative"])
    for (turn, reason), names in of.items():
        who = ", ".join(name for name in names if name)
        yield turn, f"{who}: {reason}" if who else reason


def label_of(measure: Mapping[str, Any]) -> str:
    """Return what a measure is called, in the words of the field."""
    known = {"total_s": "delay", "energy_j": "energy"}
    name = measure["name"]
    return known.get(name) or name.replace("_", " ")


def lead(measure: Mapping[str, Any], share: float | None) -> str:
    """Return a lead as a share; where compared by ratio, as what the proposed takes over what the rival does.

    Examples
    --------
    >>> lead({"by_ratio": True}, 0.25), lead({"by_ratio": False}, 0.25)
    ('0.75 times', '+25 %')
    """
    return f"{1.0 - share:.3g} times" if measure["by_ratio"] and share is not None else signed(share)


def signed(share: float | None) -> str:
    """Return a share with its sign, in hundredths.

    Examples
    --------
    >>> signed(0.256), signed(-3.4), signed(None)
    ('+25.6 %', '-340 %', 'no number')
    """
    if share is None:
        return "no number"
    return f"{100.0 * share:+.3g} %"


def times(share: float) -> str:
    """Return how much a number has moved: as a share, or as a factor above three.

    Examples
    --------
    >>> times(0.5), times(9.0)
    ('+50 %', '10 times')
    """
    return signed(share) if share < 2.0 else f"{1.0 + share:.3g} times"


def with_interval(mean: float | None, low: float | None, high: float | None) -> str:
    """Return a number with its interval; nothing where there is none.

    Examples
    --------
    >>> with_interval(0.5, 0.25, 0.75), with_interval(1.0, None, None), with_interval(None, None, None)
    ('0.5 [0.25, 0.75]', '1', '')
    """
    if mean is None:
        return ""
    return f"{mean:.3g}" if low is None or high is None else f"{mean:.3g} [{low:.3g}, {high:.3g}]"
