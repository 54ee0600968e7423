"""Rooms follow from the data, in powers of two, and hold what the expert writes."""

import pytest

from jaxsrl.data.tokenizer import load_tokenizer
from jaxsrl.rewards.rooms import MAX_ACTION, MAX_BYTES, rooms_for
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.types import Demonstration, Rooms

encode = load_tokenizer().encode
pairs = lambda text: [text[i : i + 2] for i in range(0, len(text), 2)]  # two letters a token


def demonstrations(*actions):
    return [Demonstration(problem_id="p", problem="?", actions=actions)]


@pytest.mark.parametrize(
    ("actions", "cap", "want"),
    [
        (("x" * 40, "y"), 100, Rooms(bytes=256, code_points=128)),  # 2 x 1 x 100 and 15 of marks; 2 x 40
        (("x" * 32, "y"), 20, Rooms(bytes=64, code_points=64)),  # exact powers are not doubled
        (("  " + "x" * 32 + "\n",), 20, Rooms(bytes=64, code_points=64)),  # stripped, as it is compared
        (("x" * 33, "y"), 24, Rooms(bytes=64, code_points=64)),  # an action is never longer than its completion
        (("∑" * 100,), 4, Rooms(bytes=512, code_points=256)),  # the expert's 300 bytes count, whatever the cap
        (("x" * 5000,), 40_000, Rooms(bytes=MAX_BYTES, code_points=MAX_ACTION)),
    ],
)
def test_rooms_by_hand(actions, cap, want):
    assert rooms_for(demonstrations(*actions), encode=encode, max_new_tokens=cap) == want


def test_bytes_of_a_token_and_of_the_template_count():
    some = demonstrations("x" * 40)
    assert rooms_for(some, encode=pairs, max_new_tokens=100).bytes == 512  # 2 x 2 x 100 + 15
    assert rooms_for(some, encode=pairs, max_new_tokens=120, given=b"").bytes == 512
    assert rooms_for(some, encode=pairs, max_new_tokens=120, given=b"<think>" * 3).bytes == 1024


def test_few_actions_are_tokenised():
    seen = []
    many = [Demonstration(problem_id=str(i), problem="?", actions=(f"{i} + 1", "")) for i in range(5000)]
    rooms_for(many, encode=lambda text: seen.append(text) or encode(text), max_new_tokens=9)
    assert 400 < len(seen) <= 1024 and "" not in seen and seen[0] == "0 + 1"


def test_without_an_action_there_is_no_rule():
    for none in ([], demonstrations(), demonstrations("  ")):
        with pytest.raises(ValueError, match="no action"):
            rooms_for(none, encode=encode, max_new_tokens=9)


def test_settings_say_another_room():
    chosen = Rooms(bytes=64, code_points=128)
    assert ActionSimilarity().rooms(chosen) == chosen
    assert ActionSimilarity(max_bytes=32).rooms(chosen) == Rooms(bytes=32, code_points=128)
    assert ActionSimilarity(max_code_points=4096).rooms(chosen) == Rooms(bytes=64, code_points=4096)
    for wrong in ({"max_bytes": 0}, {"max_code_points": 0}, {"max_code_points": 4097}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ActionSimilarity(**wrong)
