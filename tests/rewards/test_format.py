import pytest

from jaxsrl.rewards.format import Parsed, parse, without_thoughts

WELL_FORMED = [
    ("<think>t</think>a", Parsed("t", "a")),
    ("\n <think>t\n</think>\n\n a b \n", Parsed("t\n", "a b")),
    ("<think></think>a", Parsed("", "a")),  # an empty thought is allowed
    ("<think>t</think><solution>\na\n</solution>", Parsed("t", "a")),
    ("<think>t</think>a <solution>b</solution>", Parsed("t", "a <solution>b</solution>")),
    ("<think>t</think><solution>a", Parsed("t", "<solution>a")),  # half a wrapper is text
    ("<think>2 < 3 <b></think>x <y", Parsed("2 < 3 <b>", "x <y")),
]
MALFORMED = [
    "",
    "a",
    "<think>t",
    "<think>t</think>",
    "<think>t</think> \n",
    "<think>t</think><solution> </solution>",
    "a<think>t</think>b",
    "<think>t</think>a<think>u</think>b",
    "<think>t</think>a<think>",
    "<think>t</think>a</think>b",
    "<think><think>t</think>a",
    "t</think>a",
]


@pytest.mark.parametrize(("text", "want"), WELL_FORMED)
def test_well_formed(text, want):
    assert parse(text) == want
    assert parse(text, think="optional") == want


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed(text):
    assert parse(text) is None


def test_optional_thoughts_allow_none_but_not_broken_ones():
    assert parse(" a ", think="optional") == Parsed(None, "a")
    assert parse("<solution>a</solution>", think="optional") == Parsed(None, "a")
    assert parse(" ", think="optional") is None
    for text in MALFORMED:
        if "think>" in text:
            assert parse(text, think="optional") is None, text


@pytest.mark.parametrize(("text", "want"), [(t, w) for t, w in WELL_FORMED if t.startswith("<think>")])
def test_a_prefilled_tag_changes_nothing(text, want):
    """The template wrote `<think>`: the rest of the same text gives the same thought and action."""
    assert parse(text.removeprefix("<think>"), prefilled=True) == want
    assert parse(text.removeprefix("<think>"), think="optional", prefilled=True) == want
    assert parse(text, prefilled=True) is None  # opened twice


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a", "a"),
        ("<think>t</think>a", "a"),
        ("<think>t</think>a\n<think>u</think>b", "a\nb"),
        ("a<think>never closed", "a"),
        ("prefilled</think>a", "a"),
        ("<think>t<think>u</think>a", "a"),
    ],
)
def test_without_thoughts(text, want):
    assert without_thoughts(text) == want
