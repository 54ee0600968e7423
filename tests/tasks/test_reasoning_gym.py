"""Problems of an optional package: its scorer decides, and none that evaluates text is taken."""

import sys

import pytest

from jaxsrl.tasks.draw import generate, split_of
from jaxsrl.tasks.reasoning_gym import ReasoningGym


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
def test_a_scorer_of_its_own_is_refused():
    with pytest.raises(ValueError, match="'countdown' has a scorer of its own, and some evaluate"):
        generate(ReasoningGym(dataset="countdown"), 1)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ImportError, match=r"pip install jaxsrl\[gym\]"):
        generate(ReasoningGym(dataset="gcd", seed=7), 1)
