import re
from difflib import SequenceMatcher

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsrl.report.transcript import blocks, clip, completion

CHARS = {"unit": "char", "autojunk": False}
plain = lambda page: re.sub(r"<[^>]*>", "", page)


def test_the_thought_is_grey_and_the_shared_part_of_the_action_marked():
    page = completion("<think>carry</think>7 + 5 = 13", "7 + 5 = 13", "7 + 5 = 12", CHARS)
    assert '<span class="thought">&lt;think&gt;carry&lt;/think&gt;</span>' in page
    assert "<mark>7 + 5 = 1</mark>" in page and '<span class="other">3</span>' in page


@settings(max_examples=60, deadline=None)
@given(st.text("ab ", max_size=30), st.text("ab ", max_size=30), st.booleans())
def test_marked_characters_are_those_that_difflib_counts(action, expert, words):
    ranges = blocks(action, expert, words=words, autojunk=True)
    a, b = (action.split(), expert.split()) if words else (action, expert)
    size = sum(m.size for m in SequenceMatcher(None, a, b).get_matching_blocks())
    counted = [action[start:stop].split() if words else action[start:stop] for start, stop in ranges]
    assert sum(map(len, counted)) == size


def test_marks_follow_the_autojunk_of_the_reward():
    text = ("the quick brown fox jumps over the lazy dog. " * 5)[:210]
    action = text.replace("fox", "cat").replace("dog", "pig")
    share = lambda junk: sum(b - a for a, b in blocks(action, text, words=False, autojunk=junk)) / len(text)
    assert share(True) == pytest.approx(0.0762, abs=1e-3) and share(False) == pytest.approx(0.8905, abs=1e-3)


def test_an_action_that_was_rewritten_is_shown_after_the_completion():
    page = completion("<think>x</think>A  B", "A B", "A C", CHARS)
    assert "action found: A B" in plain(page) and "A  B" in plain(page)


def test_an_action_that_stands_in_the_thought_only_is_not_marked_there():
    page = completion("<think>42 it is</think>", "42", "42", CHARS)
    assert page.index("</span>") < page.index("<mark>42</mark>")


def test_an_answer_is_shown_but_not_compared_letter_by_letter():
    page = completion("<think>a</think>so \\boxed{42}.", "42", "42", {"extract": "boxed"})
    assert "<mark>" not in page and "<b>42</b>" in page
    assert plain(page).endswith("so \\boxed{42}.")


def test_malformed_and_hostile_text_is_only_text():
    hostile = "<script>alert(1)</script><think>\ud800</style><!--"
    for page in (completion(hostile, None, "x", CHARS), completion(hostile, hostile, hostile, CHARS)):
        assert "<script" not in page and "<!--" not in page and "</style" not in page
        page.encode("utf-8")


def test_long_texts_are_cut_and_say_so():
    page = clip("a" * 5000)
    assert "3800 characters" in page and len(page) < 1400
    assert clip("a" * 1200) == "a" * 1200
    assert "too long to mark" in completion("x" * 3000, "x" * 3000, "y" * 3000, CHARS)
