"""Experts whose text a tokenizer changes are compared as it spells it; separators that do not keep actions apart."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest

from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.spelled import about_separator, about_spelling, spelled
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.data.tokenizer import load_tokenizer
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.types import Demonstration
from tests.data.family_tokenizers import folder
from tests.rewards.device_cases import rollouts, scored

NOT_NFC = [  # action and answer
    ("R = 5 \N{OHM SIGN}", "5 \N{OHM SIGN}"),
    (unicodedata.normalize("NFD", "Résumé: café über"), unicodedata.normalize("NFD", "café")),
    (unicodedata.normalize("NFD", "Tính tổng của các số"), "3"),
    ("T = 300 \N{KELVIN SIGN}", "300"),
    ("\N{LEFT-POINTING ANGLE BRACKET}x, y\N{RIGHT-POINTING ANGLE BRACKET} = 0", "0"),
]


def demonstration(action, answer):
    return Demonstration(problem_id="a", problem="?", actions=(action, f"#### {answer}"), answer=answer, source="f:1")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return load_tokenizer(folder(tmp_path_factory.mktemp("qwen"), "qwen3"), template="plain")


@pytest.mark.parametrize(("action", "answer"), NOT_NFC)
def test_text_that_is_not_composed_can_earn_the_whole_reward(qwen, action, answer):
    """On the host and on the device. As its file has it, the expert's text could not be equalled."""
    before = demonstration(action, answer)
    after = spelled(qwen, before)
    assert after.actions[0] == unicodedata.normalize("NFC", action) != action and after.written == before.actions
    completion = [*qwen.special("<think>"), *qwen.special("</think>"), *qwen.encode(action, first=False), qwen.end]
    found, table, reward = rollouts(qwen, [completion]), token_bytes(qwen, Template()), ActionSimilarity(autojunk=False)
    for item, best in ((after, True), (before, False)):
        host = reward(found, [item]).reward[0]
        device = scored(reward, found, [item.actions[0]], table=table).reward[0]
        assert np.float32(host) == device and (host == 1.0) == best
    text = qwen.decode(qwen.encode(before.actions[1], first=False))
    judged = FinalAnswer(extract="hash")(replace(found, text=(text,), form=("solve",)), [after])
    assert judged.reward[0] == 1.0


def test_what_needs_no_change_stays_the_same_object(qwen):
    for item in (demonstration("x = 1", "1"), demonstration("é 日本", "é")):
        assert spelled(qwen, item) is item and item.written is None
    item = demonstration(*NOT_NFC[1])
    assert spelled(ByteTokenizer(), item) is item
    assert about_spelling(qwen, [item, demonstration("x", "1")]) is None
    said = about_spelling(qwen, [demonstration("x", "1"), spelled(qwen, item)])
    assert said.startswith("1 of 2 demonstrations hold text that Qwen2Tokenizer cannot spell")
    assert "(the first is f:1)" in said


def test_texts_that_a_normalizer_changes_are_told(tmp_path):
    """Lower case, or white space taken off: the expert is compared as it is spelled, and it is said."""
    path = folder(tmp_path / "a", "llama3")
    text = (path / "tokenizer.json").read_text()
    start = text.index('"normalizer"')
    end = text.index('"pre_tokenizer"')
    (path / "tokenizer.json").write_text(text[:start] + '"normalizer": {"type": "Lowercase"},\n  ' + text[end:])
    tokenizer = load_tokenizer(path)
    item = spelled(tokenizer, demonstration("So X = Y", "3"))
    assert item.actions == ("so x = y", "#### 3") and item.written[0] == "So X = Y"
    assert "1 of 1 demonstrations" in about_spelling(tokenizer, [item])


def steps(*actions):
    return [Demonstration(problem_id="a", problem="?", actions=actions)] * 5


@pytest.mark.parametrize("family", ["llama3", "mistral", "llama2", "gemma3"])
def test_a_separator_that_breaks_segments_is_told_with_one_that_works(tmp_path, family):
    tokenizer = load_tokenizer(folder(tmp_path / "a", family))
    some = steps("Natalia sold 24", "clips in May", "so 72")
    assert about_separator(tokenizer, some, "\n") is None
    said = about_separator(tokenizer, some, " ")
    assert "5 of 5 solutions have other ids in segments than as a whole; template.separator='\\n' works" in said
    assert about_separator(tokenizer, steps("one action"), " ") is None
    assert about_separator(ByteTokenizer(), some, " ") is None


def test_a_separator_that_is_lost_is_told(data_dir):
    tokenizer = load_tokenizer(data_dir / "tokenizers" / "t5")
    said = about_separator(tokenizer, steps("one", "two"), "\n")
    assert "its ids do not spell it at the end of 5 of 5 actions; none of" in said


def test_ids_of_an_expert_stay_what_they_were(qwen3):
    item = spelled(qwen3, demonstration(*NOT_NFC[2]))
    assert item.actions[0] == unicodedata.normalize("NFC", NOT_NFC[2][0])
    ids = np.array(qwen3.encode(NOT_NFC[2][0], first=False))
    np.testing.assert_array_equal(ids, qwen3.encode(item.actions[0], first=False))
