import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsrl.data.actions import Splitter, first_action, split

LINES, NUMBERED, HEADED = Splitter(style="lines"), Splitter(style="numbered"), Splitter(style="headed")
GSM8K = "She sold 48/2 = <<48/2=24>>24 clips.\nThat is 48+24 = <<48+24=72>>72 in all.\n#### 72"
NUMINA = """We look at both sides.

1. **Square them:** this gives
   1. a list inside,
   2. indented.

2. **Solve**: $x = 2$.
3. The answer is
   \\[ 2 \\]

Thus $\\boxed{2}$."""


def test_gsm8k_lines_are_actions_and_the_answer_line_is_the_last():
    cut = split(GSM8K, LINES)
    assert cut.actions[-1] == "#### 72" and len(cut.actions) == 3 and cut.text == GSM8K
    assert cut.titles == (None,) * 3 and cut.thoughts is None


def test_annotations_go_or_become_the_thought():
    dropped = split(GSM8K, Splitter(annotations="drop"))
    assert dropped.actions[0] == "She sold 48/2 = 24 clips." and dropped.thoughts is None
    cut = split(GSM8K, Splitter(annotations="thought"))
    assert cut.actions == dropped.actions and cut.thoughts == ("48/2=24", "48+24=72", "")
    assert split("a <<1+1=2>>2 b <<2+2=4>>4", Splitter(annotations="thought")).thoughts == ("1+1=2; 2+2=4",)


def test_blank_lines_are_no_actions():
    assert split("\n a \r\n\n\tb\n", LINES).actions == ("a", "b")
    assert split(" \n ", LINES).actions == ()


def test_numbered_solution():
    cut = split(NUMINA, NUMBERED)
    assert len(cut.actions) == 3
    assert cut.actions[0].startswith("We look at both sides.\n\n1. **Square") and cut.actions[0].endswith("indented.")
    assert cut.actions[1] == "2. **Solve**: $x = 2$."
    assert cut.actions[2].endswith("Thus $\\boxed{2}$.")
    assert cut.titles == ("Square them", "Solve", None)
    assert split(NUMINA, Splitter(style="numbered", preamble="drop")).actions[0].startswith("1. **Square")


def test_layout_of_the_paper():
    text = "SOLUTION:\n1. **Set up** Let $x$ be it.\n2. **Solve** It is 3."
    cut = split(text, Splitter(style="numbered", preamble="drop"))
    assert cut.actions == ("1. **Set up** Let $x$ be it.", "2. **Solve** It is 3.")
    assert cut.titles == ("Set up", "Solve")


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("1. a\n2. b\n2. c\n3. d", ["1. a", "2. b\n2. c", "3. d"]),  # a number that does not go on the count
        ("1. a\n5. b\n2. c", ["1. a\n5. b", "2. c"]),
        ("1. a\n2. b\nSolution 2:\n1. c\n2. d\n3. e", ["1. a", "2. b\nSolution 2:\n1. c\n2. d\n3. e"]),
        ("2. a\n3. b", ["2. a\n3. b"]),  # it never starts
        ("1.5 is more\n1. a\n2. b", ["1.5 is more\n1. a", "2. b"]),
        ("no numbers at all", ["no numbers at all"]),
        ("", []),
    ],
)
def test_only_numbers_that_go_on_the_count_cut(text, actions):
    assert list(split(text, NUMBERED).actions) == actions


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("1. **Find $a*b$:** x", "Find $a*b$"),
        ("1. **Find**: x", "Find"),
        ("1. **Find.** x", "Find"),
        ("1. Find **x** now", None),
        ("1. ****", None),
        ("1. **open", None),
    ],
)
def test_titles(line, title):
    assert split(line + "\n\n2. b", NUMBERED).titles == (title, None)


def test_headed_steps():
    text = "#### Step 1: Prove it.\n\nFirst.\n\n**Step 2: Use it** now\n\n**Step 3:** Then\n\n"
    text += "Step 4: end\nStep 2 was used."
    cut = split(text, HEADED)
    assert cut.titles == ("Prove it", "Use it", None, None)
    assert cut.actions[0] == "#### Step 1: Prove it.\n\nFirst." and cut.actions[3].endswith("Step 2 was used.")
    assert cut.text == text


LINE = st.sampled_from(
    ["1. a", "2. **T:** b", "3. c", "  1. in", "7. odd", "text", "", "   ", "\\[", "Step 1: x", "**Step 2:** y"]
)
solution = st.lists(LINE, max_size=14).map("\n".join)


@given(solution, st.sampled_from([LINES, NUMBERED, HEADED]))
def test_a_cut_loses_nothing_and_is_stable(text, splitter):
    cut = split(text, splitter)
    assert cut.text.split() == text.split()
    assert split(cut.text, splitter) == cut
    assert all(action == action.strip() != "" for action in cut.actions)
    assert len(cut.titles) == len(cut.actions)


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Nd"]), min_size=1).filter(str.strip), min_size=1, max_size=6
    )
)
def test_a_solution_with_plain_gaps_comes_back_as_it_was(bodies):
    bodies = [body.replace("\r", "").strip() or "x" for body in bodies]
    text = "\n\n".join(f"{k}. {body}" for k, body in enumerate(bodies, 1))
    cut = split(text, NUMBERED)
    assert cut.text == text and len(cut.actions) == len(bodies)


def test_first_action_of_a_completion():
    assert first_action(" \nx = 1\ny = 2\n", LINES) == "x = 1"
    assert first_action("3. **Solve** it\n   more\n\n4. next", NUMBERED) == "3. **Solve** it\n   more"
    assert first_action("so\n\n3. a\n   1. in\n\n5. odd", NUMBERED) == "so\n\n3. a\n   1. in\n\n5. odd"
    assert first_action("no number\n\n4. next", NUMBERED, number=3) == "no number"
    assert first_action("3. a\n\n4. b", NUMBERED, number=3) == "3. a"
    assert first_action("4. b", NUMBERED, number=3) == "4. b"
    assert first_action("free text", NUMBERED) == "free text"
    assert first_action("Step 2: a\nStep 3: b", HEADED) == "Step 2: a"
    assert first_action("\n", LINES) == first_action("\n", NUMBERED) == ""


@given(st.integers(0, 2))
def test_first_action_agrees_with_split(k):
    cut = split(NUMINA, NUMBERED)
    assert first_action(cut.separator.join(cut.actions[k:]), NUMBERED, number=k + 1) == cut.actions[k]


@pytest.mark.parametrize(
    "setting",
    [{"style": "words"}, {"annotations": "x"}, {"preamble": "x"}, {"style": "numbered", "annotations": "drop"}],
)
def test_wrong_settings_are_refused(setting):
    with pytest.raises(ValueError, match=f"{list(setting)[-1]}"):
        Splitter(**setting)
