"""The arithmetic of an audit: orders against SciPy, moves and leads by hand."""

import warnings
from types import SimpleNamespace

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cosim.audits import PUBLISHED
from cosim.audits.plan import LeftOut
from cosim.audits.settings import Audit, Turn
from cosim.audits.verdict import findings
from cosim.report.audit.figure import audit_figure
from cosim.report.audit.page import write_audit_page
from cosim.report.audit.tables import write_tables
from cosim.rng import stream
from cosim.statistics.ranking import kendall_tau

ENDS, LEADS = ("moved_low", "moved_high"), ("ahead_high", "ahead_low")
NOISE = stream(3, "audit").generator().normal(size=(3, 2, 8))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=7))
def test_tau_is_scipys_with_ties_too(pairs):
    first, second = np.array(pairs, dtype=float).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = stats.kendalltau(first, second).statistic
    np.testing.assert_allclose(kendall_tau(first, second), expected, rtol=1e-12)


def test_what_has_no_number_comes_last_and_two_of_them_tie():
    never = np.inf
    assert kendall_tau(np.array([1.0, 2.0, never]), np.array([3.0, 4.0, never])) == pytest.approx(1.0)
    tied = kendall_tau(np.array([1.0, never, never]), np.array([1.0, 2.0, 3.0]))
    assert tied == pytest.approx(stats.kendalltau([1, 9, 9], [1, 2, 3]).statistic)


def found(values, *, measure="total_s", proposed=None, **settings):
    """Return findings of made-up values, shape (turn, alternative, seed), of the alternatives a, b and c."""
    names, turns = "abc"[: values.shape[1]], [PUBLISHED, "one", "two"][: len(values)]
    audit = Audit(
        name="made up",
        base="x.toml",
        proposed=proposed,
        timing_only=measure == "total_s",
        measures=[measure],
        alternatives=[{"name": name} for name in names],
        **settings,
    )
    rows = [
        {
            "assumption": turn,
            "alternative": name,
            "measure": audit.measures[0].name,
            "replication": seed,
            "value": float(values[at, which, seed]),
        }
        for at, turn in enumerate(turns)
        for which, name in enumerate(names)
        for seed in range(values.shape[2])
        if not np.isneginf(values[at, which, seed])  # a run that failed
    ]
    manifest = {"status": "complete", "seeds": list(range(values.shape[2])), "failed": [], "versions": {}}
    results = SimpleNamespace(
        table=pyarrow.Table.from_pylist(rows), manifest={**manifest, "replications": values.shape[2]}
    )
    made = [Turn.model_construct(name=name, set={}) for name in turns]
    left_out = (LeftOut("three", "a", "refused"),)
    return findings(
        SimpleNamespace(audit=audit, turns=made, plan=SimpleNamespace(seed=0), left_out=left_out, alone=()),
        results,
    )


def test_moves_and_their_intervals_are_those_of_pairs():
    values = 10.0 + NOISE
    loss = {"kind": "loss_at", "time_s": 1.0}
    move = found(values, measure=loss)["measures"][0]["rows"][1]["moves"][1]
    change = stats.ttest_rel(values[1, 1], values[0, 1])
    ends, size = change.confidence_interval(0.95), values[0, 1].mean()
    np.testing.assert_allclose(move["moved"], (values[1, 1] - values[0, 1]).mean() / size, rtol=1e-9)
    np.testing.assert_allclose([move["moved_low"], move["moved_high"]], np.array(ends) / size, rtol=1e-9)
    mean = stats.t.interval(0.95, 7, values[1, 1].mean(), stats.sem(values[1, 1]))
    np.testing.assert_allclose([move["low"], move["high"]], mean, rtol=1e-9)


def test_times_are_compared_by_the_geometric_mean_of_the_ratios_of_pairs():
    values = np.exp(2.0 * NOISE)
    rows = found(values, proposed="a")["measures"][0]["rows"]
    for ratio, told in (
        (values[1, 1] / values[0, 1], [1.0 + rows[1]["moves"][1][one] for one in ("moved", *ENDS)]),
        (values[1, 0] / values[1, 1], [1.0 - rows[1]["pairs"][0][one] for one in ("ahead", *LEADS)]),
    ):
        ends = stats.ttest_1samp(np.log(ratio), 0.0).confidence_interval(0.95)
        np.testing.assert_allclose(told, [stats.gmean(ratio), *np.exp(ends)], rtol=1e-9)


def test_a_lead_alike_in_every_seed_is_decided_however_skewed_the_seeds_are():
    skewed = np.exp(3.0 * NOISE[0, 0])
    pairs = found(np.array([[skewed, 2.0 * skewed * (1.0 + 0.01 * NOISE[0, 1])]] * 2), proposed="a")
    (pair,) = pairs["measures"][0]["rows"][0]["pairs"]
    assert pair["verdict"] == "ahead"
    assert pair["ahead"] == pytest.approx(0.5, abs=0.01)
    same = found(np.array([[skewed, skewed * (1.0 + 1e-15)]] * 2), proposed="a")["measures"][0]
    assert same["rows"][0]["pairs"][0]["verdict"] == "equal"


def test_what_may_be_zero_is_compared_by_differences():
    values = np.array([[[0.0], [2.0]], [[0.0], [2.0]]]) * np.ones(8) + 0.01 * np.abs(NOISE[:2])
    values[0, 0, 0] = 0.0
    (measure,) = found(values, proposed="a")["measures"]
    assert not measure["by_ratio"]
    assert measure["rows"][0]["pairs"][0]["verdict"] == "ahead"


def test_tau_of_an_audit_is_the_mean_of_scipys_over_seeds_and_its_interval_students():
    values = stream(1, "orders").generator().normal(size=(2, 3, 6))
    row = found(values)["measures"][0]["rows"][1]
    taus = [stats.kendalltau(values[0, :, seed], values[1, :, seed]).statistic for seed in range(6)]
    low, high = stats.t.interval(0.95, 5, np.mean(taus), stats.sem(taus))
    np.testing.assert_allclose(
        [row["tau"], row["tau_low"], row["tau_high"]], [np.mean(taus), max(low, -1.0), min(high, 1.0)]
    )
    same = values[0].argmin(axis=0) == values[1].argmin(axis=0)
    assert row["same_winner"] == pytest.approx(same.mean())


def test_a_reversed_lead_is_what_the_conclusion_depends_on():
    values = np.array([[[1.0], [2.0]], [[3.0], [2.5]], [[1.1], [1.9]]]) + 0.01 * NOISE
    (measure,) = found(values, proposed="a")["measures"]
    published, one, two = (row["pairs"][0] for row in measure["rows"])
    assert (published["verdict"], one["verdict"], two["verdict"]) == ("ahead", "behind", "ahead")
    assert published["ahead"] == pytest.approx(0.5, abs=0.05)
    assert measure["conclusion"]["hangs_on"] == ["one"]
    assert measure["conclusion"]["most"]["turn"] == "one"


def test_without_a_proposed_one_the_best_as_published_is_compared():
    values = np.array([[[2.0], [1.0]], [[2.0], [1.0]]]) + 0.01 * NOISE[:2]
    (measure,) = found(values)["measures"]
    assert measure["proposed"] == "b"
    assert measure["conclusion"]["hangs_on"] == []


def test_seeds_count_where_every_alternative_has_run_and_a_missing_number_loses():
    values = np.array([[[1.0], [2.0]], [[1.0], [2.0]]]) + 0.01 * NOISE[:2]
    values[1, 0, 0] = -np.inf  # failed
    values[1, 0, 1] = np.nan  # never reached
    row = found(values)["measures"][0]["rows"][1]
    assert row["seeds"] == 7
    assert row["moves"][0]["missing"] == 1
    assert row["same_winner"] == pytest.approx(6 / 7)


def test_a_report_without_any_number_is_written(tmp_path):
    without = found(np.full((2, 2, 2), np.nan))
    assert len(audit_figure(without).axes) == 3
    (tmp_path / "some.png").write_bytes(b"dots")
    write_audit_page(without, tmp_path / "some.png", tmp_path / "audit.html")
    assert "refused" in (tmp_path / "audit.html").read_text()
    assert all(path.stat().st_size for path in write_tables(without, tmp_path))
