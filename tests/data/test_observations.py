"""What an environment answered is context between actions, never a target; windows show the last pairs."""

from dataclasses import replace

import numpy as np
import pytest

from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.choose import Room, choose_shapes
from jaxsrl.data.layout import lay_out
from jaxsrl.data.tree import build, path_tokens
from jaxsrl.types import BranchPoint, Demonstration

BYTES = ByteTokenizer()
RUN = Demonstration(
    problem_id="p", problem="mend?", actions=("ls", "cat a", "fix", "submit"), thoughts=("t1", None, "t3", "t4"),
    observations=("#A", "#B", "", "#D"),
)  # fmt: skip


def text(tree, node):
    return BYTES.decode(path_tokens(tree, node).tolist())


def prompts(demonstration, template, ks):
    points = [BranchPoint(after=k, samples=1) for k in ks]
    tree = build(demonstration, points, (), template, BYTES)
    return [text(tree, tree.branch["action", k]) for k in ks]


def test_answers_stand_between_actions_as_turns_of_the_user():
    assert prompts(RUN, Template(kind="plain"), (0, 2)) == [
        "<|action|>mend?\n", "<|action|>mend?\nls<|end|><|turn|>#A\n<|turn|>cat a<|end|><|turn|>#B\n<|turn|>",
    ]  # fmt: skip
    (chat,) = prompts(RUN, Template(kind="chatml", action_system=""), (1,))
    turn = lambda who, said: f"<|im_start|>{who}\n{said}<|im_end|>\n"
    ended = "ls<|end|>\n"  # the end token of this tokenizer, where a model of that family has <|im_end|>
    opened = "<|im_start|>assistant\n"
    assert chat == turn("user", "mend?") + opened + ended + turn("user", "#A") + opened
    user = prompts(RUN, Template(kind="plain", trunk_in="user"), (2,))
    assert user == ["<|action|>mend?\nls\n#A\ncat a\n#B\n<|turn|>"]


@pytest.mark.parametrize("form", ["action", "solve"])
@pytest.mark.parametrize("kind", ["plain", "chatml", "mistral"])
def test_no_answer_is_ever_a_target(form, kind):
    tree = build(RUN, [], (form,), Template(kind=kind), BYTES)
    targets = [BYTES.decode(node.token.tolist()) for node in tree.nodes if node.target]
    assert len(targets) == 4 and not any(answer in "".join(targets) for answer in RUN.observations if answer)
    assert [t.partition("</think>")[2] or t for t in targets][2].startswith("fix<|end|>")
    deepest = max((text(tree, i) for i in range(len(tree.nodes))), key=len)
    assert "#A" in deepest and "#B" in deepest and "#D" not in deepest  # nothing follows the last action
    marked = replace(RUN, observations=None)
    assert "#A" not in "".join(text(build(marked, [], (form,), Template(kind=kind), BYTES), i) for i in range(4))


def test_a_window_is_the_problem_and_the_last_pairs():
    window = Template(kind="plain", history=2)
    last = replace(RUN, actions=RUN.actions[1:], thoughts=RUN.thoughts[1:], observations=RUN.observations[1:])
    assert prompts(RUN, window, (3,)) == prompts(last, Template(kind="plain"), (2,))
    assert prompts(RUN, window, (0, 1, 2)) == prompts(RUN, Template(kind="plain"), (0, 1, 2))
    assert prompts(RUN, Template(kind="plain", history=0), (0, 3)) == ["<|action|>mend?\n"] * 2
    trained = build(RUN, [], ("action",), window, BYTES)
    learned = [text(trained, i) for i, node in enumerate(trained.nodes) if node.target]
    assert learned[3] == prompts(RUN, window, (3,))[0] + "<think>t4</think>submit<|end|>"
    with pytest.raises(ValueError, match="history=2 .* evaluate in `action` form"):
        build(RUN, [BranchPoint(after=0, samples=1, form="solve")], (), window, BYTES)
    with pytest.raises(ValueError, match="history must be"):
        Template(history=-1)


def test_windows_lie_in_prompt_rows_as_they_are():
    points = [BranchPoint(after=k, samples=1) for k in range(4)]
    template = Template(kind="plain", history=1)
    tree = build(RUN, points, (), template, BYTES)
    shapes = choose_shapes([tree], [points], Room(demonstrations=1, completion_tokens=4))
    layout = lay_out([RUN], [points], shapes, template=template, tokenizer=BYTES)
    found = set()
    for sheet in layout.sheets:
        p = sheet.prompts
        for r, k in zip(*np.nonzero(np.asarray(p.slot_active)), strict=True):
            seen = (p.enter[r] <= p.slot_enter[r, k]) & (p.slot_enter[r, k] < p.leave[r])
            found.add(BYTES.decode(np.asarray(p.token[r])[seen][np.argsort(p.position[r][seen])].tolist()))
    assert found == set(prompts(RUN, template, range(4)))
