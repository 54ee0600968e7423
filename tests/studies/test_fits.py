"""Scaling fits on synthetic truth: as exact as the design allows, with intervals that cover."""

import os

import numpy as np
import pytest

from jaxsrl.studies import sigmoid
from jaxsrl.studies.scaling import NAMES, Law, Points, cramer_rao, extrapolation, fit_law, parabolas
from jaxsrl.studies.sigmoid import Sigmoid, fit_sigmoid
from jaxsrl.studies.varpro import Curve, best_of

WHOLE = bool(os.environ.get("JAXSRL_WHOLE"))
TRIALS, DRAWS = (200, 400) if WHOLE else (24, 150)
TRUTH = Law(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)  # arXiv:2203.15556
PARAMS = np.repeat(np.geomspace(1e6, 1e9, 7), 7)
TOKENS = np.tile(np.geomspace(1e8, 1e11, 7), 7)
CURVE = Sigmoid(R0=0.1, A=0.62, C_mid=2e3, B=1.2)


def points(seed=None, noise=0.01, params=PARAMS, tokens=TOKENS, law=TRUTH):
    loss = law.loss(params, tokens)
    error = 0 if seed is None else np.random.default_rng(seed).normal(0, noise, len(loss))
    return Points(params=params, tokens=tokens, loss=loss * (1 + error))


def rewards(seed=None, noise=0.01, span=(1e2, 2e4), count=40):
    compute = np.geomspace(*span, count)
    error = 0 if seed is None else np.random.default_rng(seed).normal(0, noise, count)
    return compute, CURVE.reward(compute) + error


def test_without_noise_the_law_comes_back():
    found = fit_law(points(), draws=2).law
    assert found.vector() == pytest.approx(TRUTH.vector(), rel=1e-4)


def test_slopes_are_the_derivatives_of_the_basis():
    from jaxsrl.studies.scaling import _curve as law_curve

    at = np.array([[0.4, 0.3]])
    for curve, place in (
        (law_curve(points()), at),
        (sigmoid._curve(np.log(rewards()[0]), fixed=False), np.array([[7.0, 1.1]])),
        (sigmoid._curve(np.log(rewards()[0]), fixed=True), np.array([[7.0, 1.1]])),
    ):
        for q in range(2):
            step = np.eye(2)[[q]] * 1e-6
            numeric = (curve.basis(place + step) - curve.basis(place - step)) / 2e-6
            np.testing.assert_allclose(curve.slopes(place)[:, q], numeric, atol=1e-7)


def test_errors_are_near_the_bound_and_intervals_cover():
    """1 % noise: median errors at most 1.2 times those that the Cramer-Rao bound allows, and 95 % intervals that hold
    the truth in 90 % of studies or more, for every parameter and for N* at ten times the largest budget.
    """
    budget = 10 * points().flops.max()
    bound = cramer_rao(TRUTH, PARAMS, TOKENS, 0.01) * 0.6745  # the median error of a normal of that deviation
    errors, held = [], []
    for trial in range(TRIALS):
        found = fit_law(points(trial), draws=DRAWS, seed=trial)
        errors.append(np.abs(found.law.vector() - TRUTH.vector()))
        truths = [*TRUTH.vector(), np.log(TRUTH.best(budget)[0])]
        drawn = np.array([[*law.vector(), np.log(law.best(budget)[0])] for law in found.draws])
        low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
        held.append((low <= truths) & (truths <= high))
    ratio = dict(zip(NAMES, np.median(errors, axis=0) / bound, strict=True))
    covered = dict(zip((*NAMES, "N*"), np.mean(held, axis=0), strict=True))
    print({"ratio": ratio, "covered": covered})
    slack = 0 if WHOLE else 0.5  # a median of 24 is itself uncertain by a quarter
    assert max(ratio.values()) <= 1.2 + slack, ratio
    assert min(covered.values()) >= (0.9 if WHOLE else 0.7), covered


def test_a_few_broken_runs_do_not_move_it_much():
    """Three of 49 points are 20 % too high. The control: plain least squares is moved several times as far."""
    broken = points(0)
    loss = broken.loss.copy()
    loss[[5, 20, 41]] *= 1.2
    shifted = Points(params=PARAMS, tokens=TOKENS, loss=loss)
    huber = np.abs(fit_law(shifted, draws=1).law.E - TRUTH.E)
    from jaxsrl.studies import scaling
    from jaxsrl.studies.varpro import fit

    one = np.repeat(loss[None], len(scaling.STARTS), axis=0)
    plain = fit(scaling._curve(shifted), one, 1 / one, scaling.STARTS, rounds=1, steps=60)
    squares = np.abs(plain.linear[np.argmin((plain.residual**2).sum(axis=1)), 0] - TRUTH.E)
    assert huber < 0.5 * squares


def test_the_parabola_is_biased_without_noise_and_the_law_is_not():
    """IsoFLOP curves are not symmetric in log N, so that the minimum of a parabola through them is off."""
    budgets = np.geomspace(1e18, 1e21, 4)
    params = np.concatenate([TRUTH.best(c)[0] * np.geomspace(0.05, 20, 9) for c in budgets])
    made = points(params=params, tokens=np.repeat(budgets, 9) / 6 / params)
    found = parabolas(made)
    assert len(found) == 4
    off = [abs(np.log(least / TRUTH.best(c)[0])) for c, least in found]
    law = fit_law(made, draws=1).law
    assert min(off) > 0.05 > 100 * abs(np.log(law.best(1e21)[0] / TRUTH.best(1e21)[0]))


def test_the_best_split_of_a_budget_is_a_minimum():
    N, D = TRUTH.best(1e21)
    assert 6 * N * D == pytest.approx(1e21)
    assert TRUTH.loss(N, D) < min(TRUTH.loss(N * f, D / f) for f in (0.9, 1.1))
    assert np.log(TRUTH.best(1e22)[0] / N) == pytest.approx(TRUTH.exponent * np.log(10))


def test_a_law_extrapolates_where_carrying_on_does_not():
    law, flat = extrapolation(points(1))
    assert law < 0.05 < flat
    few = [0, 1, 2, 3, 7, 8, 9, 14, 15, 16]
    assert extrapolation(points(1, params=PARAMS[few], tokens=TOKENS[few])) is None


@pytest.mark.parametrize("change, said", [
    (dict(loss=np.full(49, np.nan)), "loss must be finite"),
    (dict(params=np.full(49, 1e6)), "1 sizes"),
])  # fmt: skip
def test_points_that_determine_nothing_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Points(**({"params": PARAMS, "tokens": TOKENS, "loss": points().loss} | change))


def test_a_loss_that_does_not_fall_with_size_is_told():
    rising = Points(params=PARAMS, tokens=TOKENS, loss=5 * TOKENS**-0.1 + 1e-4 * PARAMS**0.3)
    with pytest.raises(ValueError, match="falls with parameters"):
        fit_law(rising, draws=1)


def test_a_sigmoids_end_is_found_where_data_pass_its_middle_tenfold():
    """Median of many within 0.01, with R0 known and fitted; intervals cover."""
    for start in (0.1, None):
        found = [fit_sigmoid(*rewards(seed), start=start, draws=DRAWS, seed=seed) for seed in range(TRIALS)]
        assert all(one.past_middle > 5 for one in found)
        assert np.median([abs(one.curve.A - CURVE.A) for one in found]) < 0.01
        held = [low <= CURVE.A <= high for low, high in (one.interval(lambda c: c.A) for one in found)]
        print({"start": start, "covered": np.mean(held)})
        assert np.mean(held) >= (0.88 if WHOLE else 0.75)


def test_without_noise_the_sigmoid_comes_back():
    found = fit_sigmoid(*rewards(), draws=1).curve
    assert vars(found) == pytest.approx(vars(CURVE), rel=1e-4)


def test_before_its_middle_an_end_is_not_known_and_said_so():
    found = fit_sigmoid(*rewards(0, span=(1e1, 1e3)), draws=100)
    low, high = found.interval(lambda c: c.A)
    assert found.past_middle < 10 and high - low > 0.1


def test_the_early_part_is_left_out():
    """A warm-up that stays at 0.3 would bend the curve."""
    compute, reward = rewards(0)
    reward = np.where(compute < 500, 0.3, reward)
    bent = fit_sigmoid(compute, reward, start=0.1, draws=1).curve
    kept = fit_sigmoid(compute, reward, start=0.1, leave_out=500, draws=1).curve
    assert abs(kept.B - CURVE.B) < 0.5 * abs(bent.B - CURVE.B)
    with pytest.raises(ValueError, match="are left"):
        fit_sigmoid(compute, reward, leave_out=1.5e4)


def test_a_sigmoid_extrapolates_and_is_judged_on_the_rest():
    curve, flat = sigmoid.extrapolation(*rewards(3, span=(1e2, 5e5), count=60), start=0.1)
    assert curve < 0.03
    assert sigmoid.extrapolation(*rewards(0, count=6)) is None and flat >= 0


def test_a_line_is_its_own_projection():
    """With a nonlinear parameter that does nothing, the linear ones are those of least squares."""
    x = np.linspace(0, 1, 20)
    basis = lambda at: np.stack([np.ones((len(at), 20)), np.repeat(x[None], len(at), axis=0)], axis=2)
    curve = Curve(basis=basis, slopes=lambda at: np.zeros((len(at), 1, 20, 2)), bounds=((0, 1),))
    found = best_of(curve, 2 + 3 * x, np.ones(20), np.array([[0.5]]))
    np.testing.assert_allclose(found.linear[0], [2, 3], rtol=1e-6)
