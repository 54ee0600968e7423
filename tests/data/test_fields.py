"""What rows of every known form say."""

import gzip
import json

import pytest

from jaxsrl.data.actions import Splitter
from jaxsrl.data.demonstrations import Fields, read
from jaxsrl.data.fields import RowError, told, value_at

GIVEN = Splitter(style="given")


def one(tmp_path, row, fields, splitter=GIVEN):
    return loaded(tmp_path, row, fields, splitter).demonstrations[0]


def loaded(tmp_path, row, fields, splitter=GIVEN):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps({"problem": "p", "solution": "a\nb"}) + "\n")
    return read(path, fields, splitter, max_bad_share=1)


def reason(tmp_path, row, fields, splitter=GIVEN):
    with pytest.raises(ValueError) as caught:
        loaded(tmp_path, row, fields, splitter)
    return str(caught.value)


def test_names_lead_inside():
    row = {"a.b": 1, "a": {"b": 2, "c": [{"d": 3}, {"d": 4}]}, "of_lists": {"d": [5, 6]}}
    assert [value_at(row, name) for name in ("a.b", "a.c[1].d", "a.c[].d", "of_lists[].d")] == [1, 4, [3, 4], [5, 6]]
    for name in ("a.x", "a.c[2].d", "a.c[].x", "a.b.c", "x[]"):
        with pytest.raises(RowError, match="no field"):
            value_at(row, name)


def test_steps_thoughts_and_observations_of_an_agent(tmp_path):
    steps = [
        {"thought": "look", "do": ["ls", "pwd"], "saw": ["a", "b"]}, {"thought": "done", "do": ["submit"], "saw": []},
    ]  # fmt: skip
    fields = Fields(problem="task", solution="steps[].do", thoughts="steps[].thought", observations="steps[].saw")
    d = one(tmp_path, {"task": "mend it", "steps": steps}, fields)
    assert d.actions == ("ls\npwd", "submit") and d.thoughts == ("look", "done") and d.observations == ("a\nb", "")
    steps[0]["do"] = [" "]
    assert "steps[].do: number 1 of 2 is empty" in reason(tmp_path, {"task": "t", "steps": steps}, fields)


def test_messages_are_a_problem_and_its_solution(tmp_path):
    say = lambda *turns: {"messages": [{"role": role, "content": text} for role, text in turns]}
    fields, lines = Fields(messages="messages"), Splitter(style="lines")
    d = one(tmp_path, say(("system", "s"), ("user", "q"), ("assistant", "a\nb")), fields, lines)
    assert (d.problem, d.actions, d.observations) == ("q", ("a", "b"), None)
    chat = say(("user", "q"), ("assistant", "<think>t</think>ls"), ("tool", "x"), ("assistant", "submit"))
    d = one(tmp_path, chat, fields)
    assert (d.actions, d.thoughts, d.observations) == (("ls", "submit"), ("t", None), ("x", ""))
    assert "2 turns of the assistant; splitter.style='given'" in reason(tmp_path, chat, fields, lines)
    old = {"c": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a\nb"}]}
    assert one(tmp_path, old, Fields(messages="c"), lines).actions == ("a", "b")
    assert "no turn of the assistant" in reason(tmp_path, say(("user", "q")), fields)
    assert "roles must be" in reason(tmp_path, say(("judge", "q"), ("assistant", "a")), fields)


def test_a_trace_is_the_thought_of_the_first_action(tmp_path):
    row = {"problem": "p", "solution": "<think>\nhm\n\nwell\n</think>\n\nSo a.\n\nThen b."}
    cut = lambda **settings: one(tmp_path, row, Fields(), Splitter(style="paragraphs", **settings))
    assert (cut().actions, cut().thoughts) == (("So a.", "Then b."), ("hm\n\nwell", None))
    assert (cut(trace="drop").actions, cut(trace="drop").thoughts) == (("So a.", "Then b."), None)
    assert cut(trace="keep").actions[0] == "<think>\nhm"  # as another splitter would: inside the block
    row["solution"] = "<|begin_of_thought|>t<|end_of_thought|><|begin_of_solution|>a\n\nb<|end_of_solution|>"
    assert (cut().actions, cut().thoughts) == (("a", "b"), ("t", None))
    for solution in ("<think>never closed\n\nb", "<think>x</think> "):
        row["solution"] = solution
        assert "begins with <think> and" in reason(tmp_path, row, Fields(), Splitter(style="paragraphs"))


def test_labelled_chains_end_before_what_is_not_good(tmp_path):
    row, fields = {"problem": "p", "solution": ["a", "b", "c", "d"], "labels": [1, 1, 0, 1]}, Fields(labels="labels")
    assert one(tmp_path, row, fields).actions == ("a", "b")
    assert one(tmp_path, row, fields, Splitter(style="given", labelled="keep")).actions == ("a", "b", "c", "d")
    assert "too_short': 1" in reason(tmp_path, row, fields, Splitter(style="given", labelled="all_good"))
    row["labels"] = ["+", "+", "+", "-"]
    assert one(tmp_path, row, fields).actions == ("a", "b", "c")
    row["labels"] = [1]
    assert "1 labels for 4 actions" in reason(tmp_path, row, fields)


def test_a_list_and_a_text_each_name_the_splitter_they_need(tmp_path):
    row = {"problem": "p", "solution": ["a", "b"]}
    only_lists = tmp_path / "lists.jsonl"
    only_lists.write_text(json.dumps(row))
    with pytest.raises(ValueError, match="is a list of actions: set splitter.style='given'"):
        read(only_lists, Fields(), Splitter(), max_bad_share=1)
    assert "must be a list of actions" in reason(tmp_path, {"problem": "p", "solution": "a\nb"}, Fields())
    fields = Fields(solution="steps")
    found = loaded(tmp_path, row | {"steps": ["a", "b"]}, fields)
    assert found.demonstrations[0].actions == ("a", "b")


def test_settings_that_exclude_each_other():
    with pytest.raises(ValueError, match="leave out labels"):
        Fields(form="prm800k", labels="x")
    with pytest.raises(ValueError, match="themselves"):
        Fields(messages="m", thoughts="x")
    with pytest.raises(ValueError, match="form must be"):
        Fields(form="other")


def test_prm800k_and_math_shepherd_as_they_are_published(data_dir):
    raw = read(data_dir / "prm800k_steps/raw_format_sample.jsonl", Fields(form="prm800k"), GIVEN)
    first = raw.demonstrations[0]
    assert first.answer == "29" and len(first.actions) == 6
    assert first.actions[1] == "We have $3p+e=1.24$ and $5p+e=1.82$."  # a person's, as no completion was good
    steps = Fields(solution="steps", labels="labels", id="id")
    chains = read(data_dir / "prm800k_steps/multi_step.jsonl.gz", steps, Splitter(style="given", labelled="all_good"))
    assert chains.counts["demonstrations"] == 59
    with (data_dir / "math_shepherd/sample.jsonl").open() as file:
        says = told(json.loads(file.readline()), Fields(form="math_shepherd"), turns=True)
    assert says.problem.endswith("in a year?") and len(says.solution) == 5
    assert says.good == (True, True, True, True, False) and says.solution[1].startswith("Step 2: She spends")
    assert "ки" not in "".join(says.solution)


def test_agent_runs_and_traces(data_dir):
    fields = Fields(
        problem="task", solution="steps[].actions", thoughts="steps[].thought", observations="steps[].observations"
    )
    runs = read(data_dir / "agent/mini_swe_agent_resolved.jsonl.gz", fields, GIVEN)
    assert runs.counts["demonstrations"] == 26 and sum(len(d.actions) for d in runs.demonstrations) == 1661
    traces = read(
        data_dir / "openthoughts_math/r1_traces.jsonl.gz", Fields(solution="trace"), Splitter(style="paragraphs")
    )
    assert all(d.thoughts[0] and "think>" not in "".join(d.actions) for d in traces.demonstrations)
    outputs = data_dir / "graded_outputs/skyt1_27b_math500.jsonl.gz"
    rows = [json.loads(line)["output"] for line in gzip.open(outputs)]
    unclosed = sum(r.startswith("<|begin_of_thought|>") and "<|end_of_thought|>" not in r for r in rows)
    read_ = read(outputs, Fields(solution="output"), Splitter(style="paragraphs"), max_bad_share=1)
    assert sum("has no <|end_of_thought|>" in bad.reason for bad in read_.quarantine) == unclosed > 30
