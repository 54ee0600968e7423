"""Problems of an optional package: its scorer decides, and none that evaluates text is taken."""

import sys

import pytest

from jaxsrl.tasks.draw import generate, split_of
from jaxsrl.tasks.reasoning_gym import ReasoningGym, running_totals


@pytest.mark.needs("reasoning_gym")
def test_its_problems_and_scorer():
    task = ReasoningGym(dataset="gcd", settings=(("max_value", 500),))
    for split in ("train", "test"):
        some = generate(task, 6, split)
        assert {split_of(d.problem) for d in some} == {split} and len({d.problem for d in some}) > 4
        for d in some:
            assert (
                task.right(f"so it is\n{d.answer}", d) and not task.right(f"{d.answer}1", d) and not task.right("", d)
            )
    assert generate(task, 2, "test", first=4) == some[4:]


@pytest.mark.needs("reasoning_gym")
def test_running_totals_lead_to_the_answer():
    pairs = (("max_digits", 1), ("operators", "+-"), ("allow_parentheses", False))
    task = ReasoningGym(dataset="basic_arithmetic", settings=pairs, steps="running_totals")
    for d in generate(task, 6, "test"):
        assert task.right("\n".join(d.actions), d) and not task.right("\n".join(d.actions[:-1]), d)
        assert [task.finished(a, d) for a in d.actions] == [False] * (len(d.actions) - 1) + [True]
        assert d.actions[-1] == f"answer: {d.answer}" and all(" = " in a for a in d.actions[:-1])


def test_steps_are_those_of_sums():
    entry = lambda text, answer: {"question": text, "answer": answer, "metadata": {"expression": text}}
    assert running_totals(entry("7 - 9 + 40", "38")) == ("7 - 9 = -2", "-2 + 40 = 38")
    for text in ("7 * 2", "7 - ( 2 )", "", "7 -", "7 - -2"):
        with pytest.raises(ValueError, match="no sum of whole numbers"):
            running_totals(entry(text, "5"))
    with pytest.raises(ValueError, match="end with 9, and not with 8"):
        running_totals(entry("7 + 2", "8"))
    with pytest.raises(ValueError, match="steps must be one of none, running_totals"):
        ReasoningGym(dataset="gcd", steps="some")


@pytest.mark.needs("reasoning_gym")
def test_a_scorer_of_its_own_is_refused():
    with pytest.raises(ValueError, match="'countdown' has a scorer of its own, and some evaluate"):
        generate(ReasoningGym(dataset="countdown"), 1)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ImportError, match=r"pip install jaxsrl\[gym\]"):
        generate(ReasoningGym(dataset="gcd", seed=7), 1)
