"""Columns to metrics: which interval, among which rows, in any order."""

import functools
import itertools
import operator

import numpy as np
import pytest

from jaxsrl.evals.statistics import wilson
from jaxsrl.evals.summary import Column, Decoding, at_k, has_thought, summarise, words


def column(*values, **settings):
    return Column(value=np.array(values, float), **settings)


def test_one_trial_a_problem_has_wilsons_interval_and_more_have_a_bootstrap():
    trials = column(1, 0, 0, 1, share=True)
    got = summarise(list("abcd"), {"x": trials})
    assert (got["x"], got["x_low"], got["x_high"]) == wilson(2, 4)
    paired = summarise(list("aabb"), {"x": trials})
    assert paired["x_low"] < wilson(2, 4).low and paired["x_high"] > wilson(2, 4).high  # two problems, both half right
    assert summarise(list("abcd"), {"x": column(1, 0, 0, 1)})["x_low"] != got["x_low"]  # a mean is no share


def test_bounded_means_stay_in_their_range_and_every_mean_has_bounds():
    """One problem of eight differs, which a third of the draws leave out: the bootstrap alone has no upper bound."""
    values = (0.9, 0, 0, 0, 0, 0, 0, 0)
    bounded = summarise(list("abcdefgh"), {"x": column(*values, bounded=True)})
    assert 0 <= bounded["x_low"] < 0.9 / 8 < bounded["x_high"] < 1
    free = summarise(list("abcdefgh"), {"x": column(*values)})
    assert free["x_low"] < 0 and free["x_high"] > 0.9 / 8


def test_unanimous_shares_are_as_sure_as_their_problems_are_many():
    got = summarise(list("aabbcc"), {"x": column(1, 1, 1, 1, 1, 1, share=True)})
    assert (got["x"], got["x_low"], got["x_high"]) == wilson(3, 3)


def test_rows_outside_do_not_count_and_no_rows_have_no_mean():
    among = np.array([True, False, True, False])
    columns = {"x": column(1, 7, 2, np.nan, among=among), "y": column(1, 1, 1, 1, among=~among & among)}
    got = summarise(list("abcd"), columns)
    assert got["x"] == 1.5 and got["y"] is None and "y_low" not in got
    assert summarise([], {"x": column()}) == {"x": None}


def test_order_of_rows_changes_no_bit():
    rows = list(zip("aaab", (1e16, 1.0, -1e16, 3.0), strict=True))
    plain = {functools.reduce(operator.add, (v for _, v in order)) for order in itertools.permutations(rows)}
    assert len(plain) > 1  # the control; `sum` itself makes up for rounding since Python 3.12
    orders = [zip(*order, strict=True) for order in itertools.permutations(rows)]
    found = [summarise(problem, {"x": column(*values)}) for problem, values in orders]
    assert all(metrics == found[0] for metrics in found)


def test_at_k_names_and_values():
    columns = at_k(np.array([[1, 1, 1, 0, 0, 0], [1] * 6], bool))
    assert list(columns) == ["pass@2", "pass@4", "pass@6", "pass^6"]
    np.testing.assert_allclose(columns["pass@2"].value, [1 - 3 / 15, 1])
    np.testing.assert_allclose(columns["pass^6"].value, [0, 1])
    assert list(at_k(np.ones((1, 1), bool), [["7"]])) == ["pass@1", "pass^1", "maj@1"]


def test_labels_say_how_completions_were_drawn():
    columns = {"exact": column(1), "thinks": column(1)}
    assert list(Decoding().label(columns, "exact")) == ["exact", "thinks"]
    assert list(Decoding(temperature=1.0, samples=4).label(columns, "exact")) == ["avg@4", "sampled_thinks"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("<think>a</think>b", True), ("<think> \n</think>b", False), ("<think>a", False), ("b", False),
     ("a</think>b", False), ("<think></think>a\n<think>c</think>b", True)],
)  # fmt: skip
def test_has_thought(text, expected):
    assert has_thought(text) is expected


def test_words_do_not_count_marks():
    assert words("<think>one two</think>three") == 3
