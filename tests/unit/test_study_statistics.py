import numpy as np
import pyarrow
import pytest

from cosim.rng import stream
from cosim.statistics.difference import difference
from cosim.statistics.interval import interval
from cosim.studies.settings import Target
from cosim.studies.statistics import LEAST_TO_STOP, summarise, summary_csv, too_wide


def table(values, factors=("radio.x",), settings=None):
    """Return tidy results; ``values`` maps (case, measure) to values by replication."""
    rows = [
        {"case": case, "replication": number, "seed": 10 + number, "measure": measure, "value": value}
        | {factor: (settings or {}).get(case, 1.0) for factor in factors}
        for (case, measure), listed in values.items()
        for number, value in enumerate(listed, start=1)
    ]
    return pyarrow.Table.from_pylist(rows)


def row_of(summary, case, measure="total_s"):
    (found,) = [row for row in summary.to_pylist() if (row["case"], row["measure"]) == (case, measure)]
    return found


NOISE = stream(1, "noise").generator().normal(size=(3, 12))
BEFORE = 100.0 + 10.0 * NOISE[0] + NOISE[1]
AFTER = 97.0 + 10.0 * NOISE[0] + NOISE[2]
RESULTS = table({("base", "total_s"): BEFORE, ("wide", "total_s"): AFTER}, settings={"wide": 2.0})


def test_a_summary_has_a_row_for_each_case_and_measure_in_the_order_of_the_results():
    results = table({(case, measure): [1.0, 2.0] for measure in ("b", "a") for case in ("two", "one")})
    found = summarise(results)
    assert [(row["case"], row["measure"]) for row in found.to_pylist()] == [
        (case, measure) for measure in ("b", "a") for case in ("two", "one")
    ]


def test_a_summary_holds_the_interval_and_the_paired_difference():
    row = row_of(
        summarise(RESULTS, baselines=dict.fromkeys(("wide", "slow", "other", "base", "b"), "base")), "wide"
    )
    alone, paired = interval(AFTER), difference(AFTER, BEFORE)
    assert (row["n"], row["missing"], row["mean"], row["low"]) == (12, 0, alone.mean, alone.low)
    assert (row["difference"], row["difference_high"], row["pairs"]) == (paired.mean, paired.high, 12)
    assert row["detectable"] == "yes"
    assert row["variance_reduction"] > 20.0
    assert row["relative_difference"] == pytest.approx(paired.mean / BEFORE.mean())
    assert row["radio.x"] == 2.0


def test_the_baseline_is_not_compared_with_itself():
    row = row_of(
        summarise(RESULTS, baselines=dict.fromkeys(("wide", "slow", "other", "base", "b"), "base")), "base"
    )
    assert row["difference"] is row["detectable"] is row["pairs"] is None


def test_the_same_values_are_no_detectable_difference():
    results = table({("base", "bits"): BEFORE, ("other", "bits"): BEFORE})
    row = row_of(
        summarise(results, baselines=dict.fromkeys(("wide", "slow", "other", "base", "b"), "base")),
        "other",
        "bits",
    )
    assert (row["difference"], row["detectable"]) == (0.0, "no")


def test_noise_alone_is_no_detectable_difference():
    results = table({("base", "x"): NOISE[0], ("other", "x"): NOISE[1]})
    assert (
        row_of(
            summarise(results, baselines=dict.fromkeys(("wide", "slow", "other", "base", "b"), "base")),
            "other",
            "x",
        )["detectable"]
        == "no"
    )


@pytest.mark.parametrize("never", [np.inf, np.nan])
def test_a_target_that_was_not_reached_is_counted_and_in_no_mean(never):
    results = table({("base", "total_s"): [1.0, 2.0, 3.0], ("slow", "total_s"): [5.0, never, 7.0]})
    row = row_of(
        summarise(results, baselines=dict.fromkeys(("wide", "slow", "other", "base", "b"), "base")), "slow"
    )
    assert (row["n"], row["missing"], row["mean"]) == (2, 1, 6.0)
    assert (row["pairs"], row["difference"], row["detectable"]) == (2, 4.0, "censored")


def test_a_target_that_was_never_reached_has_no_mean():
    results = table({("base", "total_s"): [1.0, 2.0], ("slow", "total_s"): [np.inf, np.inf]})
    row = row_of(
        summarise(results, baselines=dict.fromkeys(("wide", "slow", "other", "base", "b"), "base")), "slow"
    )
    assert (row["n"], row["missing"], row["mean"], row["difference"]) == (0, 2, None, None)
    assert row["detectable"] == "censored"


def test_pairs_are_replications_of_one_number_however_many_each_case_has():
    results = table({("base", "total_s"): BEFORE[:5], ("wide", "total_s"): AFTER})
    row = row_of(
        summarise(results, baselines=dict.fromkeys(("wide", "slow", "other", "base", "b"), "base")), "wide"
    )
    assert (row["n"], row["pairs"]) == (12, 5)
    assert row["difference"] == difference(AFTER[:5], BEFORE[:5]).mean
    assert row["detectable"] == "yes"


def test_one_replication_has_a_mean_and_no_interval():
    row = row_of(
        summarise(
            table({("base", "x"): [1.0], ("b", "x"): [2.0]}),
            baselines=dict.fromkeys(("wide", "slow", "other", "base", "b"), "base"),
        ),
        "b",
        "x",
    )
    assert (row["mean"], row["low"], row["difference"], row["detectable"]) == (2.0, None, 1.0, None)


def test_each_case_is_compared_with_its_own_baseline():
    results = table(
        {(case, "x"): [value, value + 1.0] for case, value in zip("abcd", (1.0, 2.0, 5.0, 7.0), strict=True)}
    )
    found = summarise(results, baselines={"a": "a", "b": "a", "c": "c", "d": "c"})
    assert [(row["baseline"], row["difference"]) for row in found.to_pylist()] == [
        (None, None),
        ("a", 1.0),
        (None, None),
        ("c", 2.0),
    ]


def test_the_same_results_give_the_same_csv():
    baselines = dict.fromkeys(("wide", "slow", "other", "base", "b"), "base")
    one, two = (
        summary_csv(summarise(RESULTS, baselines=baselines, method="bootstrap", seed=7)) for _ in range(2)
    )
    assert one == two
    lines = one.decode().splitlines()
    assert lines[0].startswith("case,radio.x,measure,n,missing,diverged,mean,low,high,")
    assert len(lines) == 3


def wide(half_width, is_relative=True, results=RESULTS, measure="total_s"):
    return too_wide(results, measure, Target(half_width, is_relative))


def test_a_study_stops_when_every_interval_is_tight():
    half_widths = {
        case: float(interval(values).half_width) for case, values in (("base", BEFORE), ("wide", AFTER))
    }
    loose, tight = sorted(half_widths, key=half_widths.__getitem__, reverse=True)
    between = sum(half_widths.values()) / 2.0
    assert [(one.case, one.num_values) for one in wide(between, False)] == [(loose, 12)]
    assert wide(100.0, False) == []
    assert [one.case for one in wide(half_widths[tight] / 2, False)] == ["base", "wide"]
    assert wide(0.01, measure="energy_j") == []


def test_few_values_end_no_study_however_near_they_are():
    near = {("base", "total_s"): 100.0 + 1e-3 * NOISE[0][:9]}
    assert [one.num_values for one in wide(0.5, results=table(near))] == [9]
    assert too_wide(table(near), "total_s", Target(0.5, True), least=9) == []
    assert wide(0.5, results=table({("base", "bits"): [8.0] * 3}), measure="bits") == []


@pytest.mark.parametrize("spread", [0.03, 0.1, 0.3])
def test_intervals_of_a_study_that_stops_by_them_hold_93_to_97_times_in_100(spread):
    """As a study adds replications: to 3, 4, 6, 9, 13, ..., until the half-width is a third of the spread."""
    draws = 1.0 + spread * stream(1, "stopping").generator().normal(size=(20_000, 200))
    held, stopped, count = np.zeros(20_000, dtype=bool), np.zeros(20_000, dtype=bool), 3
    while not stopped.all():
        found = interval(draws[:, :count])
        narrow = found.half_width <= spread / 3.0 * found.mean
        now = narrow & ~stopped & (count >= LEAST_TO_STOP)
        held[now] = ((found.low <= 1.0) & (found.high >= 1.0))[now]
        stopped |= now
        count += max(1, count // 2)
    assert 0.93 <= held.mean() <= 0.97


def test_one_replication_never_ends_a_study():
    (one,) = wide(0.5, results=table({("base", "total_s"): [1.0]}))
    assert np.isnan(one.half_width)


def test_a_target_nobody_reaches_does_not_keep_a_study_going():
    assert wide(0.01, results=table({("base", "total_s"): [np.inf, np.inf]})) == []


def test_more_replications_tighten_every_rule_in_the_end():
    draws = 10.0 + stream(3, "draws").generator().normal(size=2000)
    assert wide(0.01, results=table({("base", "total_s"): draws[:20]}))
    assert not wide(0.01, results=table({("base", "total_s"): draws}))
