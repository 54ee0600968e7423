"""What the rules change in a chain, and what they leave."""

import random

import pytest

from jaxsrl.evals.edits import filler, paraphrase, reword, shuffle_choices, swap_free, with_mistake
from jaxsrl.rewards.extract import NUMBER


@pytest.mark.parametrize("text, wanted", [
    ("So 3 + 4 = 7.", "Thus 4 + 3 = 7."), ("12*5=60", "5*12=60"), ("He has $18 left.", "He has 18 dollars left."),
    ("that is 20% more", "that is 20 percent more"), ("Therefore 7", "Hence 7"),
    ("7 - 3 = 4", "7 - 3 = 4"), ("2 * 3 + 4 = 10", "2 * 3 + 4 = 10"), ("2 + 3 * 4 = 14", "2 + 3 * 4 = 14"),
    ("$3 + 4$ is $x$", "$3 + 4$ is $x$"), ("sofa", "sofa"),
])  # fmt: skip
def test_words_and_what_stands_around_numbers_are_rewritten(text, wanted):
    assert reword(text) == wanted
    assert sorted(NUMBER.findall(reword(text))) == sorted(NUMBER.findall(text))


def test_steps_that_do_not_read_each_other_change_places_and_the_last_stays():
    free, bound = ("2 + 1 = 3\n", "5 + 4 = 9\n", "3 + 9 = 12\n"), ("2 + 1 = 3\n", "3 + 4 = 7\n", "so 7\n")
    assert swap_free(free) == (free[1], free[0], free[2])
    assert swap_free(bound) == bound and swap_free(()) == () and swap_free(free[:2]) == free[:2]
    assert paraphrase(("no rule here",)) == ("no rule here",)


def test_filler_takes_words_and_keeps_lines():
    assert filler(("a b\n", "c d e\n", "f"), 1) == ("a b\n", "... ... ...\n", "...")
    assert filler(("a\n",), 1) == ("a\n",)


def test_a_mistake_is_one_digit_of_a_steps_last_number():
    path = ("no number\n", "3 + 10 = 13\n", "then\n")
    seen = set()
    for seed in range(40):
        changed, at = with_mistake(path, random.Random(seed))
        assert at == 1 and changed[0] == path[0] and len(changed) == 2
        assert changed[1].startswith("3 + 10 = ") and changed[1].endswith("\n") and changed[1] != path[1]
        number = changed[1].split()[-1]
        assert len(number) == 2 and number[0] != "0" and sum(a != b for a, b in zip(number, "13", strict=True)) == 1
        seen.add(number)
    assert len(seen) > 8 and with_mistake(("none",), random.Random(0)) is None


def test_choices_change_places_and_their_letters_stay():
    told = shuffle_choices("Which? (A) red (B) blue\n(C) green", random.Random(0))
    assert told in ("Which? (A) blue (B) green\n(C) red", "Which? (A) green (B) red\n(C) blue")
    assert shuffle_choices("Which of (A) and others?", random.Random(0)) is None
    assert shuffle_choices("f(x) = 3?", random.Random(0)) is None
