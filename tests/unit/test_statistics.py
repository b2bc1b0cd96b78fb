import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cosim.rng import stream
from cosim.statistics.difference import difference, welch
from cosim.statistics.interval import METHODS, bootstrap, interval, student_t
from cosim.statistics.pareto import pareto_front

rows = arrays(np.float64, st.integers(2, 12), elements=st.floats(-1e6, 1e6))


def covered(found, truth):
    return float(np.mean((found.low <= truth) & (truth <= found.high)))


def skewed(generator, shape):
    return generator.gamma(4.0, size=shape) / 4.0


@pytest.mark.parametrize("count", [3, 5, 10])
def test_a_95_percent_interval_of_student_t_holds_the_mean_95_times_in_100(count):
    draws = stream(1, "coverage", count).generator().normal(2.0, 3.0, size=(20_000, count))
    assert 0.945 <= covered(student_t(draws), 2.0) <= 0.955


@pytest.mark.parametrize("method", ["t", "bootstrap"])
def test_a_95_percent_interval_holds_a_skewed_mean_93_to_97_times_in_100(method):
    draws = skewed(stream(1, "coverage").generator(), (2000, 40))
    assert 0.93 <= covered(interval(draws, method=method), 1.0) <= 0.97


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.99])
def test_an_interval_holds_the_mean_as_often_as_it_says(confidence):
    draws = stream(1, "levels").generator().normal(size=(10_000, 6))
    assert covered(student_t(draws, confidence), 0.0) == pytest.approx(confidence, abs=0.015)


def test_paired_and_unpaired_differences_hold_the_true_one_95_times_in_100():
    generator = stream(1, "pairs").generator()
    shared, own = generator.normal(size=(10_000, 8)), generator.normal(size=(2, 10_000, 8))
    after, before = 1.0 + 2.0 * shared + own[0], 2.0 * shared + own[1]
    assert 0.94 <= covered(student_t(after - before), 1.0) <= 0.96
    independent = 1.0 + 2.0 * generator.normal(size=(10_000, 8)) + own[0]
    assert 0.94 <= covered(welch(independent, before), 1.0) <= 0.96


def test_pairs_reduce_the_variance_by_what_the_model_says():
    """Var(A) + Var(B) is 2 (s^2 + e^2) and Var(A - B) is 2 e^2 where s is shared and e each one's own."""
    generator = stream(1, "reduction").generator()
    shared, own = generator.normal(size=20_000), generator.normal(size=(2, 20_000))
    found = difference(3.0 * shared + own[0], 3.0 * shared + own[1])
    assert found.variance_reduction == pytest.approx(10.0, rel=0.05)


def test_pairs_that_pull_apart_are_told_to_do_harm():
    noise = stream(1, "harm").generator().normal(size=500)
    found = difference(noise, -noise)
    assert found.variance_reduction == pytest.approx(0.5, rel=0.01)


def test_the_bootstrap_agrees_with_student_t_on_many_normal_draws():
    draws = stream(1, "normal").generator().normal(10.0, 2.0, size=400)
    expected = interval(draws)
    for corrected in (True, False):
        found = bootstrap(draws, 0.95, stream(1), corrected=corrected)
        assert found.mean == expected.mean
        assert found.low == pytest.approx(expected.low, abs=0.03)
        assert found.high == pytest.approx(expected.high, abs=0.03)


@pytest.mark.parametrize(("corrected", "name"), [(True, "BCa"), (False, "percentile")])
def test_the_bootstrap_agrees_with_scipy(corrected, name):
    from scipy.stats import bootstrap as reference

    draws = skewed(stream(1, "scipy").generator(), 25)
    expected = reference(
        (draws,), np.mean, method=name, n_resamples=40_000, rng=np.random.default_rng(1)
    ).confidence_interval
    found = bootstrap(draws, 0.95, stream(2), corrected=corrected, num_resamples=40_000)
    assert found.low == pytest.approx(expected.low, abs=0.01)
    assert found.high == pytest.approx(expected.high, abs=0.01)


def test_the_bootstrap_hangs_on_its_seed_alone():
    draws = skewed(stream(1, "seed").generator(), 9)
    one, same, other = (interval(draws, method="bootstrap", seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other


@given(values=rows, scale=st.floats(0.1, 10.0), method=st.sampled_from(sorted(METHODS)))
@settings(deadline=None, max_examples=60)
def test_an_interval_stretches_with_the_unit_and_holds_its_mean(values, scale, method):
    found, stretched = interval(values, method=method), interval(scale * values, method=method)
    slack = 1e-9 * (1.0 + np.abs(values).max())
    assert found.low - slack <= found.mean <= found.high + slack
    assert np.allclose(stretched, scale * np.array(found), rtol=1e-6, atol=10 * slack)


@given(values=rows)
@settings(deadline=None, max_examples=30)
def test_rows_of_a_table_have_the_intervals_each_has_alone(values):
    table = np.stack([values, values[::-1] * 2.0])
    for method in METHODS:
        together = interval(table, method=method)
        for row, one in enumerate(table):
            alone = interval(one, method=method)
            assert np.allclose([end[row] for end in together], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_equal_repetitions_leave_no_doubt(method):
    found = interval(np.full(5, 0.1), method=method)
    assert found.low == pytest.approx(0.1, rel=1e-12)
    assert found.high == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_one_repetition_says_nothing_of_chance(method):
    found = interval(np.array([3.0]), method=method)
    assert found.mean == 3.0
    assert np.isnan([found.low, found.high]).all()
    assert difference(np.array([3.0]), np.array([1.0])).detectable is None


@pytest.mark.parametrize(
    "bad", [np.array([]), np.array([1.0, np.nan]), np.array([np.inf, 1.0]), np.float64(1)]
)
def test_an_interval_of_what_is_no_number_is_refused(bad):
    with pytest.raises(ValueError, match="interval"):
        interval(bad)


def test_a_method_or_a_confidence_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no method 'normal'"):
        interval(np.ones(3), method="normal")
    with pytest.raises(ValueError, match="confidence"):
        interval(np.ones(3), confidence=1.0)
    with pytest.raises(ValueError, match="one length"):
        difference(np.ones(3), np.ones(2))


def test_no_difference_is_detected_where_there_is_none():
    same = stream(1, "same").generator().normal(size=8)
    found = difference(same, same)
    assert (found.mean, found.low, found.high, found.detectable) == (0.0, 0.0, 0.0, False)
    assert found.variance_reduction == np.inf


def test_what_another_order_of_sums_leaves_is_no_difference():
    values = np.array([0.1, 0.2, 0.3, 0.4])
    assert difference(values * (1 + 1e-15), values).detectable is False


def test_a_shift_without_noise_is_detected_exactly():
    values = stream(1, "shift").generator().normal(size=6)
    found = difference(values + 1.0, values)
    assert found.detectable is True
    assert found.mean == pytest.approx(1.0)
    assert found.high - found.low < 1e-12


@given(after=rows, before=rows)
@settings(deadline=None, max_examples=60)
def test_a_difference_turns_its_sign_with_its_sides(after, before):
    count = min(len(after), len(before))
    after, before = after[:count], before[:count]
    one, other = difference(after, before), difference(before, after)
    slack = 1e-9 * (1.0 + np.abs(np.concatenate([after, before])).max())
    assert np.allclose([one.mean, one.low, one.high], [-other.mean, -other.high, -other.low], atol=slack)
    assert one.detectable == other.detectable or min(abs(one.low), abs(one.high)) <= slack


def test_welch_agrees_with_scipy():
    from scipy.stats import ttest_ind

    generator = stream(1, "welch").generator()
    after, before = generator.normal(1.0, 1.0, 7), generator.normal(0.0, 5.0, 12)
    expected = ttest_ind(after, before, equal_var=False).confidence_interval(0.95)
    found = welch(after, before)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@given(costs=arrays(np.float64, st.tuples(st.integers(1, 12), st.just(2)), elements=st.integers(0, 5)))
@settings(deadline=None)
def test_the_front_is_beaten_by_nobody_and_beats_the_rest(costs):
    front = pareto_front(costs)
    assert front.any()
    for row, one in enumerate(costs):
        beaten = any((other <= one).all() and (other < one).any() for other in costs)
        assert front[row] != beaten


def test_what_has_no_cost_is_on_no_front():
    front = pareto_front(np.array([[np.nan, 0.0], [1.0, 1.0], [2.0, 2.0]]))
    assert front.tolist() == [False, True, False]
