"""Running text is cut at paragraphs, sentences and displays, never inside a formula, and nothing is lost."""

import gzip
import json
import re

import pytest

from jaxsrl.data.actions import Splitter, first_action, split
from jaxsrl.data.prose import displays, paragraphs, sentences

MATH = (
    "We have that \\[x^2 = 4.\\]\n\nTherefore $x = 2.$ Or not, e.g. for $y. Z$ and 3.5 Mr. Smith says so. It is "
    "\\begin{align*}a&=b\\\\\n\nc&=d\\end{align*},\nwhere $b > 0$.\n\n[asy]\ndraw((0,0)--(1,1));\n\n[/asy]\n\n"
    "So $\\boxed{2}$."
)


def test_sentences_end_outside_of_formulas_and_abbreviations():
    assert sentences("It is $x. Y$ here. Then e.g. Two, Fig. One (J. Doe). $z$ is 3.5. \\[a. B\\] Now?  Yes!") == [
        "It is $x. Y$ here.", "Then e.g. Two, Fig. One (J. Doe).", "$z$ is 3.5.", "\\[a. B\\] Now?", "Yes!",
    ]  # fmt: skip
    assert sentences("Hence $x = 1.$ So \\(y = 2.\\) Done.") == ["Hence $x = 1.$", "So \\(y = 2.\\)", "Done."]


def test_displays_end_actions_and_what_only_goes_on_belongs_before():
    found = displays(MATH)
    assert found[0] == "We have that \\[x^2 = 4.\\]"
    assert found[1].startswith("Therefore $x = 2.$") and "\\end{align*},\nwhere $b > 0$.\n[asy]" in found[1]
    assert found[2:] == ["So $\\boxed{2}$."]
    assert displays("One. Two $x$.") == ["One.", "Two $x$."]  # nothing is displayed
    assert displays("See $$a$$ $$b$$ and \\[c") == ["See $$a$$ $$b$$ and \\[c"]  # one that is never closed


def test_paragraphs_keep_code_and_formulas_whole():
    text = "A.\n\n```\nx\n\ny\n```\n \n\\[a\n\nb\\]"
    assert paragraphs(text) == ["A.", "```\nx\n\ny\n```", "\\[a\n\nb\\]"]


@pytest.mark.parametrize("style", ["paragraphs", "sentences", "displays"])
def test_only_white_space_at_cuts_is_lost(style):
    cut = split(MATH, Splitter(style=style))
    assert "".join(cut.text.split()) == "".join(MATH.split()) and len(cut.actions) == len(cut.titles) > 2
    assert first_action(MATH, Splitter(style=style)) == cut.actions[0]


def test_math_solutions_have_actions_and_lose_nothing(data_dir):
    """By lines only 3,810 of 7,160 solutions have two actions, and one in eight actions leads to no formula."""
    rows = [json.loads(line) for line in gzip.open(data_dir / "math_train/train.jsonl.gz")]
    cuts = [split(row["solution"], Splitter(style="displays")) for row in rows[::7]]
    bare = lambda text: "".join(text.split())
    assert all(bare(c.text) == bare(r["solution"]) for c, r in zip(cuts, rows[::7], strict=True))
    assert sum(len(c.actions) > 1 for c in cuts) / len(cuts) > 0.8
    dangling = lambda cut: sum(bool(re.fullmatch(r"[\w ]{1,20}[:,]?", action)) for action in cut.actions)
    by_line = [split(row["solution"], Splitter(style="lines")) for row in rows[::7]]
    assert sum(map(dangling, cuts)) * 20 < sum(map(dangling, by_line))


def test_a_list_of_steps_is_not_cut():
    assert split("a. B.\n\nC", Splitter(style="given")).actions == ("a. B.\n\nC",)
    assert first_action(" x\ny ", Splitter(style="given")) == "x\ny"
