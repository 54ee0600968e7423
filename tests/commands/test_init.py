"""`jaxsrl init` writes a config that loads, from rows of every known look."""

import json

import pytest

from jaxsrl.commands.init import guess_answer, guess_splitter, write_config
from jaxsrl.config.overrides import load
from jaxsrl.data.jsonl import DataError

SAID = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "1 + 1 = 2\n2 + 1 = 3"}]
STEPS = [{"thought": "t", "action": "ls", "observation": "x"}, {"thought": "u", "action": "end", "observation": ""}]


def wrote(tmp_path, row, count=60):
    path = tmp_path / "my rows.jsonl"
    made = ({k: f"{v} {i}" if isinstance(v, str) else v for k, v in row.items()} for i in range(count))
    path.write_text("".join(json.dumps(one) + "\n" for one in made))
    said = write_config(path, tmp_path / "made.py")
    assert str(tmp_path / "made.py") in said
    return load(tmp_path / "made.py").stages[0].data


def test_lines_with_a_mark(tmp_path):
    data = wrote(tmp_path, {"question": "What?", "answer": "one\ntwo\n#### 3"})
    assert (data.fields.problem, data.fields.solution, data.fields.answer_mark) == ("question", "answer", "####")
    assert (data.splitter.style, data.extract, data.finish_mark) == ("lines", "hash", "####")
    found = data.load(None)
    assert found.counts["demonstrations"] == 60 and len(found.train) > 40
    with pytest.raises(FileExistsError, match="--to"):
        wrote(tmp_path, {"question": "What?", "answer": "one\ntwo\n#### 3"})


@pytest.mark.parametrize(
    ("row", "style", "named"),
    [
        ({"problem": "p", "solution": "1. a\n\n2. \\boxed{b}", "answer": "b"}, "numbered", {"answer": "answer"}),
        ({"messages": SAID}, "lines", {"messages": "messages"}),
        ({"messages": SAID * 2}, "given", {"messages": "messages"}),
        ({"problem": "p", "steps": ["a", "b"], "labels": [1, 1]}, "given", {"solution": "steps", "labels": "labels"}),
        ({"task": "p", "steps": STEPS}, "given", {"solution": "steps[].action", "observations": "steps[].observation"}),
        ({"problem": "p", "solution": "<think>t</think>a.\n\n" + "b " * 400}, "paragraphs", {}),
    ],
)
def test_the_look_of_rows_is_recognised(tmp_path, row, style, named):
    data = wrote(tmp_path, row)
    assert data.splitter.style == style and {name: getattr(data.fields, name) for name in named} == named


def test_displays_are_preferred_where_lines_dangle():
    text = "We have that\n\\[x = 1.\\]\nTherefore\n\\[y = 2.\\]\nThis is $\\boxed{2}$."
    assert guess_splitter([text] * 5).style == "displays" and guess_answer([text]) == ("boxed", "\\boxed")


def test_unknown_fields_are_named(tmp_path):
    with pytest.raises(DataError, match="no field looks like a solution; there are problem .str., x"):
        wrote(tmp_path, {"problem": "p", "x": "y"})
    with pytest.raises(DataError, match="none of the first 1 rows can be read"):
        (tmp_path / "bad.jsonl").write_text("no json\n")
        write_config(tmp_path / "bad.jsonl", None)
