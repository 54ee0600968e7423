"""Accuracy over length and validity of traces: by hand, against the theory, and against policies built to fool them."""

from dataclasses import replace

import numpy as np
import pytest

from jaxsrl.evals.audits import length, traces
from jaxsrl.evals.audits.length import quantiles, within
from jaxsrl.evals.probe import DoesNotApply
from jaxsrl.evals.resampled import peak, rank_correlation
from jaxsrl.tasks.draw import generate
from jaxsrl.tasks.mazes import Mazes
from jaxsrl.tasks.operators import Operators
from jaxsrl.types import Demonstration

from .told import Told


def test_bins_hold_alike_and_ties_stay_together():
    edges = quantiles(np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10.0]), 5)
    assert [within(n, edges) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    edges = quantiles(np.array([3, 3, 3, 3, 9.0]), 2)
    assert [within(n, edges) for n in (3, 9)] == [0, 1]


@pytest.mark.parametrize("T, C, M, optimum", [(32, 200, 8, 9.618), (16, 200, 8, 6.294), (64, 200, 8, 14.944)])
def test_a_peak_is_where_the_theory_has_it(T, C, M, optimum):
    """A(N) = ((1 - T/C)(1 - T/(N M)))^N."""
    steps = np.repeat(np.arange(T / M + 1, 25.0), 40)
    chance = ((1 - T / C) * (1 - T / (steps * M))) ** steps
    assert abs(steps[chance.argmax()] - optimum) < 1
    right = np.random.default_rng(0).random(len(steps)) < chance / chance.max() * 0.9
    found = peak(steps, right)
    assert found.at.value == pytest.approx(optimum, rel=0.05)
    assert found.at.low < found.at.value < found.at.high < found.at.low + 3 and found.inside > 0.9
    _, b, c = np.polynomial.polynomial.polyfit(steps, right, 2)
    assert abs(-b / (2 * c) - optimum) > 1.2  # a parabola in n


def test_a_curve_without_a_peak_says_so():
    steps = np.repeat(np.arange(1.0, 9.0), 30)
    falling = peak(steps, np.random.default_rng(1).random(len(steps)) < 1 / steps)
    assert falling.at.value == 1 and falling.inside < 0.3
    assert peak([1, 2, 1, 2], [1, 0, 1, 0]).at.value is None
    assert peak(steps, np.ones(len(steps))).at.value is peak(steps, np.zeros(len(steps))).inside is None
    assert np.isfinite(peak(steps, steps < 4).at).all()  # separable: the fit stays finite


def test_ranks_by_hand():
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 99]).value == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]).value == pytest.approx(-1)
    assert rank_correlation([1, 1, 2], [1, 2, 3]).value == pytest.approx(0.8660254)  # tied ranks 1.5, 1.5, 3
    assert rank_correlation([1, 1, 1], [1, 2, 3]).value is rank_correlation([], []).value is None
    assert rank_correlation([1, 2, 3], [1, 2, 3]) == (1, None, None)
    found = rank_correlation(range(50), np.random.default_rng(0).random(50))
    assert found.low < 0 < found.high


SUMS = Operators(operators=(6, 12), per_action=(1, 2))


def test_length_is_controlled_where_the_problem_tells_it():
    """This policy can do two operators a step and no more; which length a problem gets is no matter of its own."""
    some = generate(SUMS, 24, "test")

    def says(one, sample):
        able = one.problem[:3] in ("t1:", "t2:")
        return "\n".join(one.actions) if able else "0"

    found, records = length.PROBE(Told(says=says, verdict=SUMS.right, task=SUMS), some, None)
    assert found["right_told_1"] == found["right_told_2"] == 1 and found["right_told_3"] == found["right_told_4"] == 0
    assert found["steps_told_1"] == pytest.approx(2 * found["steps_told_2"], abs=0.6) and found["steps_told_4"] == 1
    assert found["right"] == 1 and found["problems"] == 24 and len(records) == 24 * 5
    bins = [found[f"steps_bin_{i}"] for i in range(1, 6)]
    assert bins == sorted(bins) and found["right_hard"] == 1
    again, _ = replace(length.PROBE, bins=7)(Told(says=says, verdict=SUMS.right, task=SUMS), some, None)
    assert "right_bin_7" in again


def test_who_writes_one_length_has_no_optimum():
    some = [Demonstration(problem_id=str(i), problem=str(i), actions=("1",), answer="1") for i in range(8)]
    found, _ = length.PROBE(Told(says=lambda one, sample: "1", verdict=lambda text, one: True), some, None)
    assert found["optimum"] is None and found["right_bin_1"] == 1 and found["right_bin_5"] is None
    assert found["right_told_1"] is None


MAZES = Mazes(size=5)
SHORT = replace(traces.PROBE, away=("free_space",), problems=6)


def whole(one, sample):
    return "\n".join(one.actions)


def test_the_expert_s_traces_are_valid_and_follow_its_work():
    some = generate(MAZES, 8, "test")
    found, records = SHORT(Told(says=whole, verdict=MAZES.right, task=MAZES), some, None)
    assert found["right"] == found["trace_valid"] == found["trace_valid_right"] == found["spearman"] == 1
    assert found["trace_valid_wrong"] is None and found["problems"] == 8 and len(records) == 14
    assert found["free_space_right"] == found["free_space_spearman"] == 1 and found["capped"] == 0


def test_swapped_traces_have_right_plans_and_no_validity():
    swapped = replace(MAZES, trace="swapped")
    found, records = SHORT(Told(says=whole, verdict=MAZES.right, task=swapped), generate(swapped, 8, "test"), None)
    assert found["plan"] == found["right"] == 1 and found["trace_valid"] == found["trace_valid_right"] == 0
    assert records[0]["plan_fault"] is None and "line 1" in records[0]["trace_fault"]


def test_a_trace_without_a_plan_is_told_apart_from_a_plan_without_a_trace():
    some = generate(MAZES, 6, "test")
    only = lambda word: lambda one, sample: "\n".join(a for a in one.actions if (a[:4] == "plan") == word)
    searched, _ = SHORT(Told(says=only(False), verdict=MAZES.right, task=MAZES), some, None)
    assert searched["plan"] == 0 and searched["trace_valid"] == searched["trace_valid_wrong"] == 1
    planned, _ = SHORT(Told(says=only(True), verdict=MAZES.right, task=MAZES), some, None)
    assert planned["right"] == 1 and planned["trace_valid"] == 0 and planned["spearman"] is None
    cut, _ = SHORT(Told(says=whole, verdict=MAZES.right, task=MAZES, cap=40), some, None)
    assert cut["capped"] == 1 and cut["right"] == 0
    with pytest.raises(DoesNotApply, match="mazes"):
        SHORT(Told(says=whole, verdict=None), some, None)
    with pytest.raises(ValueError, match="no mazes"):
        replace(SHORT, away=("hedge",))
