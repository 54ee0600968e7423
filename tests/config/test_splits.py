"""Splits of demonstrations that were read: sides share no problem, and what is near or too few is said."""

import pytest

from jaxsrl.config.run import ConfigError
from jaxsrl.config.splits import splits
from jaxsrl.data.actions import Splitter
from jaxsrl.data.demonstrations import Loaded, problem_id
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.types import Demonstration

ASKED = tuple(f"What is {x}?" for x in ("3 + 4", "3 * 4", "3 - 4", "3^4", "34", "3.4", "3/4"))


def loaded(problems, file="rows.jsonl"):
    rows = tuple(
        Demonstration(problem_id=problem_id(p), problem=p, actions=("a", "b"), source=f"{file}:{i + 1}")
        for i, p in enumerate(problems)
    )
    return Loaded(demonstrations=rows, quarantine=(), counts={"rows": len(rows)})


def cut(one, **settings):
    return splits(one, reward=FinalAnswer(), finish_mark="####", splitter=Splitter(), **settings)


def test_seven_problems_of_the_same_letters_can_be_held_out():
    found = cut(loaded(ASKED), held_out=2)
    assert [len(found.train), len(found.validation), len(found.test)] == [5, 1, 1] and found.notes == ()
    assert found.finished("#### 7", found.train[0]) and not found.finished("7", found.train[0])


def test_too_few_problems_name_the_file_and_the_setting():
    with pytest.raises(ConfigError, match=r"rows.jsonl: 7 problems are too few for data.held_out=200"):
        cut(loaded(ASKED))


def test_a_near_duplicate_across_splits_is_told_and_stays():
    found = cut(loaded(["what is 34 ?", "Find x.", "Find y."]), test=loaded(ASKED, "test.jsonl"), held_out=0)
    assert len(found.train) == 3
    assert found.notes == (
        "1 training problems differ from held-out ones only in case, spacing or punctuation: "
        "rows.jsonl:1 and test.jsonl:5",
    )


def test_the_test_sets_own_problems_are_left_out_and_counted():
    found = cut(loaded(["What is  34?", "Find x."]), test=loaded(ASKED), held_out=0)
    assert [d.problem for d in found.train] == ["Find x."] and found.counts["also_in_test"] == 1 and not found.notes
