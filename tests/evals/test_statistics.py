"""Estimators against numbers worked out elsewhere and against brute force."""

import itertools

import numpy as np
import pytest

from jaxsrl.evals.statistics import (
    Interval,
    avg_at_k,
    bootstrap,
    clustered_wilson,
    majority_at_k,
    one_vote,
    paired_difference,
    pass_at_k,
    pass_hat_k,
    resample,
    student,
    wilson,
)


def test_golden_values():
    assert pass_at_k(np.array([4]), 32, 8)[0] == pytest.approx(0.7045, abs=5e-5)
    assert pass_hat_k(np.array([6]), 8, 4)[0] == pytest.approx(0.2143, abs=5e-5)
    # Negative control: the estimate that plugs the share in is biased, and another number.
    assert 1 - (1 - 4 / 32) ** 8 != pytest.approx(0.7045, abs=0.01)


@pytest.mark.parametrize(("samples", "k"), [(1, 1), (5, 1), (5, 3), (6, 6)])
def test_at_k_counts_all_subsets(samples, k):
    right = np.arange(samples + 1)
    some, every = [], []
    for c in right:
        subsets = list(itertools.combinations([True] * c + [False] * (samples - c), k))
        some.append(np.mean([any(s) for s in subsets]))
        every.append(np.mean([all(s) for s in subsets]))
    np.testing.assert_allclose(pass_at_k(right, samples, k), some, atol=1e-12)
    np.testing.assert_allclose(pass_hat_k(right, samples, k), every, atol=1e-12)


def test_at_1_is_the_average():
    correct = np.random.default_rng(0).random((20, 8)) < 0.3
    np.testing.assert_allclose(pass_at_k(correct.sum(1), 8, 1), avg_at_k(correct), atol=1e-12)
    np.testing.assert_allclose(pass_hat_k(correct.sum(1), 8, 1), avg_at_k(correct), atol=1e-12)


@pytest.mark.parametrize(("right", "samples", "k"), [([1], 4, 0), ([1], 4, 5), ([5], 4, 2), ([-1], 4, 2)])
def test_impossible_counts_are_refused(right, samples, k):
    with pytest.raises(ValueError, match="must be in"):
        pass_at_k(np.array(right), samples, k)


def test_majority_breaks_ties_by_the_first_and_none_does_not_vote():
    assert majority_at_k(["7", "8", "8", "7"], [True, False, False, True])
    assert not majority_at_k(["8", "7", "8", "7"], [False, True, False, True])
    assert majority_at_k([None, None, "7"], [False, False, True])
    assert not majority_at_k([None, None], [False, False])


def test_answers_that_are_the_same_are_one_vote():
    same = lambda a, b: float(a) == float(b)
    assert one_vote(["7", "0.5", None, ".5", "7.0", "8"], same) == ["7", "0.5", None, "0.5", "7", "8"]


def test_wilson_against_published_values():
    # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3.
    for successes, trials, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)]:
        got = wilson(successes, trials)
        assert got.low == pytest.approx(low, abs=5e-5) and got.high == pytest.approx(high, abs=5e-5)
    assert wilson(29, 29).low == pytest.approx(0.8830, abs=5e-5) and wilson(29, 29).high == 1
    assert wilson(0, 0) == Interval(None)
    with pytest.raises(ValueError, match="successes"):
        wilson(3, 2)


def test_resampling_draws_as_many_problems_and_is_the_same_every_time():
    draws = resample(7, resamples=50)
    assert draws.shape == (50, 7) and (draws.sum(1) == 7).all() and draws.std() > 0
    assert (draws == resample(7, resamples=50)).all()
    assert (draws != resample(7, resamples=50, seed=1)).any()


def test_bootstrap_equals_a_loop_over_draws():
    rng = np.random.default_rng(3)
    count = rng.integers(0, 5, 12).astype(float)
    total = count * rng.random(12)
    draws = resample(12, resamples=400)
    own, problems = total.sum() / count.sum(), (count > 0).sum()

    def error(total, count):
        residual = total - total.sum() / count.sum() * count
        return np.sqrt((residual**2).sum() * problems / (problems - 1)) / count.sum()

    steps = []
    for row in draws:
        chosen = np.repeat(np.arange(12), row)
        ratio = total[chosen].sum() / count[chosen].sum()
        steps.append((ratio - own) / error(total[chosen], count[chosen]))
    got, steps = bootstrap(total, count, draws), np.sort(steps)
    assert got.value == pytest.approx(own)
    low, high = (own - step * error(total, count) for step in (steps[-10], steps[9]))  # 2.5 % of 400 lie beyond each
    assert (got.low, got.high) == pytest.approx((low, high))


def test_bootstrap_of_a_mean_comes_near_the_normal_interval():
    values = np.random.default_rng(0).normal(size=400)
    got = bootstrap(values, np.ones(400), resample(400))
    half = 1.96 * values.std() / 20
    assert got.low == pytest.approx(values.mean() - half, abs=0.01)
    assert got.high == pytest.approx(values.mean() + half, abs=0.01)


def holds(interval, make, truth, problems, repeats=400):
    """How often an interval of made-up data holds the truth."""
    rng = np.random.default_rng(0)
    found = [interval(*make(rng, problems)) for _ in range(repeats)]
    return np.mean([one.low <= truth <= one.high for one in found])


def percentile(total, count):
    draws = resample(len(total), resamples=400)
    return Interval(0.0, *np.quantile((draws @ total) / (draws @ count), [0.025, 0.975]))


def lognormal(rng, problems):
    return rng.lognormal(0.0, 0.5, problems), np.ones(problems)


def rare(rng, problems):
    """Eight samples a problem, five in a hundred right, some problems much easier than others."""
    return rng.binomial(8, rng.beta(0.2, 3.8, problems)).astype(float), np.full(problems, 8.0)


def test_few_problems_are_covered_where_the_percentile_interval_is_not():
    """The negative control is the interval of the percentiles, of the same data."""
    mean = lambda total, count: bootstrap(total, count, resample(len(total), resamples=400))
    assert holds(mean, lognormal, np.exp(0.125), 10) >= 0.92
    assert holds(percentile, lognormal, np.exp(0.125), 10) <= 0.9

    def share(total, count):
        if total.sum() == 0:
            return wilson(0, len(total))
        return clustered_wilson(total, count, most=count.sum())

    old = lambda total, count: wilson(0, len(total)) if total.sum() == 0 else percentile(total, count)
    assert holds(share, rare, 0.05, 12) >= 0.94 and holds(old, rare, 0.05, 12) <= 0.9


def test_wilsons_interval_of_clusters():
    """As many trials as there are where rows are independent; as many as problems where those of one agree."""
    ones = np.ones(400)
    wins = (np.arange(400) < 80).astype(float)
    apart, together = clustered_wilson(wins, ones), clustered_wilson(8 * wins, 8 * ones, most=3200)
    assert apart[1:] == pytest.approx(wilson(80, 400)[1:], abs=1e-3) and together == pytest.approx(apart)
    half = np.full(4, 4.0)  # no problem differs from another: the rows bound what is known
    assert clustered_wilson(half, 2 * half, most=32).low > wilson(16, 32).low - 0.2
    assert 0.5 - clustered_wilson(half, 2 * half, most=32).low > 0.5 - wilson(16, 32).low  # Student's t, of 4 problems
    assert clustered_wilson(half / 8, half / 4) == Interval(0.5, 0.5, 0.5)


def test_student_against_published_quantiles():
    for freedom, value in ((1, 12.706), (2, 4.303), (3, 3.182), (9, 2.262), (10, 2.228), (30, 2.042), (1000, 1.962)):
        assert student(freedom) == pytest.approx(value, abs=5e-4)
    with pytest.raises(ValueError, match="freedom"):
        student(0)


def test_a_bound_that_too_many_draws_are_beyond_is_none():
    """Of one problem in eight that differs, a third of the draws hold none: they have no width."""
    values = np.array([1.0, 0, 0, 0, 0, 0, 0, 0])
    assert bootstrap(values, np.ones(8), resample(8)).high is None
    assert bootstrap(np.full(8, 28.0), np.ones(8), resample(8)) == Interval(28.0, 28.0, 28.0)


def test_what_rounding_leaves_of_no_width_is_no_width():
    draws = resample(50)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values, count = np.eye(50)[rng.integers(50)], rng.integers(1, 4, 50).astype(float)
        found = paired_difference((values, count), (0 * values, count), draws)
        assert found.high is None and -0.1 < found.low < found.value, seed


def test_rows_of_one_problem_are_no_new_evidence():
    wins = np.array([1.0, 0, 1, 1, 0, 0, 1, 0])
    draws = resample(8)
    once, eight_times = bootstrap(wins, np.ones(8), draws), bootstrap(8 * wins, np.full(8, 8.0), draws)
    assert once == pytest.approx(eight_times)
    apart = bootstrap(np.repeat(wins, 8), np.ones(64), resample(64))  # what forgetting it would claim
    assert apart.high - apart.low < 0.5 * (once.high - once.low)


def test_bounds_need_two_problems():
    draws = resample(3)
    assert bootstrap(np.array([2.0, 0, 0]), np.array([4.0, 0, 0]), draws) == Interval(0.5)
    assert bootstrap(np.zeros(3), np.zeros(3), draws) == Interval(None)


def test_a_paired_difference_is_narrower_than_two_intervals():
    rng = np.random.default_rng(1)
    hard = rng.random(100)
    better, worse, ones, draws = hard + 0.05, hard + 0.01 * rng.normal(size=100), np.ones(100), resample(100)
    got = paired_difference((better, ones), (worse, ones), draws)
    assert got.value == pytest.approx((better - worse).mean()) and 0 < got.low < got.value < got.high
    assert got.high - got.low < 0.2 * (bootstrap(better, ones, draws).high - bootstrap(better, ones, draws).low)
    same = bootstrap(better - worse, ones, draws)  # with equal counts it is the interval of the differences
    assert (got.low, got.high) == pytest.approx((same.low, same.high))
    assert paired_difference((better, ones), (worse, np.zeros(100)), draws) == Interval(None)
    with pytest.raises(ValueError, match="same problems"):
        paired_difference((better, ones), (worse[:50], ones[:50]), draws)
