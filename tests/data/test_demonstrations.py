import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsrl.data.actions import Splitter
from jaxsrl.data.demonstrations import Fields, near_id, problem_id, read, split_by_problem
from jaxsrl.data.jsonl import DataError
from jaxsrl.rewards.extract import extract_answer
from jaxsrl.types import Demonstration

NUMBERED = Splitter(style="numbered")
ROW = {"problem": "What is 1+1?", "solution": "1. **Add:** it is 2\n\n2. So $2$.", "answer": "2", "id": "r0"}


def write(tmp_path, rows, name="a.jsonl"):
    path = tmp_path / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_a_row_becomes_a_demonstration(tmp_path):
    path = write(tmp_path, [ROW])
    loaded = read(path, Fields(answer="answer", id="id"), NUMBERED)
    (demonstration,) = loaded.demonstrations
    assert demonstration == Demonstration(
        problem_id=problem_id(ROW["problem"]),
        problem=ROW["problem"],
        answer="2",
        source=f"{path}:1",
        actions=("1. **Add:** it is 2", "2. So $2$."),
        titles=("Add", None),
    )
    assert loaded.counts == {"rows": 1, "bad": 0, "too_short": 0, "demonstrations": 1, "problems": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"problem": None}, "problem must be text, got NoneType"),
        ({"problem": 3}, "problem must be text, got int"),
        ({"solution": ["a"]}, "solution is a list of actions: set splitter.style='given'"),
        ({"problem": " \n"}, "problem is empty"),
        ({"solution": ""}, "solution is empty"),
        ({"problem": "a\ud800b"}, "problem holds half of a surrogate pair at character 1"),
        ({"answer": True}, "answer must be text, got bool"),
        ({"answer": {}}, "answer must be text, got dict"),
        ({"answer": " "}, "answer is empty"),
        ({"answer": "1e999"}, None),
        ({"id": None}, "id must be text, got NoneType"),
        ({"id": "r0"}, "id 'r0' was seen before, in "),
        ({"thoughts": "t"}, "thoughts must be a list, got str"),
        ({"thoughts": ["t"]}, "1 thoughts for 2 actions"),
        ({"thoughts": ["t", 1]}, "thoughts must be text, got int"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_reason(tmp_path, change, reason):
    rows = [ROW | {"thoughts": ["a", "b"]}, ROW | {"thoughts": ["a", "b"], "id": "r1"} | change]
    path = write(tmp_path, rows)
    fields = Fields(answer="answer", id="id", thoughts="thoughts")
    loaded = read(path, fields, NUMBERED, max_bad_share=1)
    if reason is None:
        assert not loaded.quarantine
        return
    (bad,) = loaded.quarantine
    assert str(bad).startswith(f"{path}:2: {reason}")
    assert loaded.counts == {"rows": 2, "bad": 1, "too_short": 0, "demonstrations": 1, "problems": 1}


def test_infinite_and_missing_values_are_bad(tmp_path):
    path = write(
        tmp_path, [ROW, '{"problem": "a", "solution": "1. a\\n2. b", "answer": 1e999}', {"problem": "p", "answer": "3"}]
    )
    loaded = read(path, Fields(answer="answer"), NUMBERED, max_bad_share=1)
    assert [bad.reason for bad in loaded.quarantine] == [
        "answer must be finite, got inf",
        "no field 'solution', it has 'problem', 'answer'",
    ]


def test_numbers_and_null_as_answers(tmp_path):
    path = write(tmp_path, [ROW | {"answer": answer} for answer in (27.0, 0.5, 12, 5e-05, 1e22, None)])
    keys = [d.answer for d in read(path, Fields(answer="answer"), NUMBERED).demonstrations]
    assert keys == ["27", "0.5", "12", "0.00005", "1" + "0" * 22, None]
    assert read(path, Fields(), NUMBERED).demonstrations[0].answer is None


def test_answer_after_a_mark(tmp_path):
    path = write(
        tmp_path, [{"problem": "p", "solution": "#### 1 is not it\n#### 1,072 "}, {"problem": "q", "solution": "a\nb"}]
    )
    loaded = read(path, Fields(answer_mark="####"), Splitter(), max_bad_share=0.5)
    assert [d.answer for d in loaded.demonstrations] == ["1,072"]
    assert loaded.quarantine[0].reason == "solution has no answer after '####' on its line"


@pytest.mark.parametrize(
    ("solution", "key"),
    [("3 + 4 = 7\n#### 7\nSo there are seven apples.", "7"), ("2 + 5\n#### 7\n\nDouble-checked.", "7"),
     ("8 - 6\n#### 2 ", "2"), ("1 + 1\n#### 2\n#", "2")],
)  # fmt: skip
def test_the_answer_ends_with_its_line_as_in_a_completion(tmp_path, solution, key):
    path = write(tmp_path, [{"problem": "p", "solution": solution}])
    (demonstration,) = read(path, Fields(answer_mark="####"), Splitter()).demonstrations
    assert demonstration.answer == key == extract_answer(solution, "hash")


def test_short_rows_are_counted_apart_and_do_not_count_as_bad(tmp_path):
    path = write(tmp_path, [ROW, ROW | {"solution": "no steps"}])
    loaded = read(path, Fields(), NUMBERED, max_bad_share=0)
    assert loaded.counts == {"rows": 2, "bad": 0, "too_short": 1, "demonstrations": 1, "problems": 1}
    assert len(read(path, Fields(), NUMBERED, min_actions=1).demonstrations) == 2


def test_too_many_bad_rows_stop_the_run_and_the_first_are_named(tmp_path):
    path = write(tmp_path, [ROW] * 9 + ["[]"])
    assert read(path, Fields(), NUMBERED, max_bad_share=0.1).counts["bad"] == 1
    with pytest.raises(
        DataError, match=r"1 of 10 rows are bad, max_bad_share is 0.09:\n.*a.jsonl:10: expected a JSON object"
    ):
        read(path, Fields(), NUMBERED, max_bad_share=0.09)


def test_nothing_left_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no demonstrations"):
        read(write(tmp_path, []), Fields(), NUMBERED)
    with pytest.raises(DataError, match="'too_short': 1"):
        read(write(tmp_path, [ROW]), Fields(), NUMBERED, min_actions=3)


def test_files_are_read_in_order_and_ids_are_unique_over_all(tmp_path):
    first, second = write(tmp_path, [ROW], "a.jsonl"), write(tmp_path, [ROW | {"id": "r1"}, ROW], "b.jsonl")
    loaded = read([first, second], Fields(id="id"), NUMBERED, max_bad_share=0.5)
    assert [d.source for d in loaded.demonstrations] == [f"{first}:1", f"{second}:1"]
    assert str(loaded.quarantine[0]) == f"{second}:2: id 'r0' was seen before, in {first}:1"


def test_a_bad_row_does_not_take_an_id(tmp_path):
    path = write(tmp_path, [ROW | {"problem": ""}, ROW])
    assert read(path, Fields(id="id"), NUMBERED, max_bad_share=0.5).counts["demonstrations"] == 1


def test_settings_are_checked(tmp_path):
    path = write(tmp_path, [ROW])
    for name, value in (("max_bad_share", 1.5), ("max_bad_share", float("nan")), ("min_actions", 0)):
        with pytest.raises(ValueError, match=name):
            read(path, Fields(), NUMBERED, **{name: value})
    with pytest.raises(ValueError, match="problem"):
        Fields(problem="")
    with pytest.raises(ValueError, match="answer_mark"):
        Fields(answer="a", answer_mark="b")
    with pytest.raises(ValueError, match="thoughts"):
        read(path, Fields(thoughts="t"), Splitter(annotations="thought"))


def test_other_problems_with_the_same_letters_have_other_ids():
    asked = [f"What is {x}?" for x in ("3 + 4", "3 * 4", "3 - 4", "3^4", "34", "3.4", "3/4")]
    assert len({problem_id(text) for text in asked}) == len({near_id(text) for text in asked}) == 7
    assert problem_id(" What is\n3  + 4?\t") == problem_id("What is 3 + 4?")
    assert problem_id("what is 3 + 4?") != problem_id("What is 3 + 4?") and len(problem_id("")) == 16


def test_near_duplicates_differ_in_how_they_are_written():
    assert near_id("Find $\\frac {1}{2}$ of  X.") == near_id("find $\\frac{1}{2}$ of x")
    assert near_id("Find x.") != near_id("Find y.") and near_id("??") != near_id("!!")


def demonstrations(names):
    return [
        Demonstration(problem_id=problem_id(name), problem=name, actions=(str(i), "b")) for i, name in enumerate(names)
    ]


@given(
    st.lists(st.text("abc", min_size=1, max_size=3), min_size=4), st.sampled_from([1, 2, 0.3, 0.7]), st.integers(0, 5)
)
def test_no_problem_is_on_both_sides(names, held_out, seed):
    rows = demonstrations(names)
    if isinstance(held_out, int) and len(set(names)) <= held_out:
        return
    kept, away = split_by_problem(rows, held_out=held_out, seed=seed)
    assert not {d.problem for d in kept} & {d.problem for d in away}
    assert sorted(kept + away, key=rows.index) == rows
    if isinstance(held_out, int):
        assert len({d.problem for d in away}) == held_out
    assert split_by_problem(rows[::-1], held_out=held_out, seed=seed)[1] == away[::-1]


def test_a_share_stays_when_problems_are_added_and_the_seed_changes_it():
    rows = demonstrations([f"p{i}" for i in range(1000)])
    few, many = split_by_problem(rows[:500], held_out=0.2)[1], split_by_problem(rows, held_out=0.2)[1]
    assert few == tuple(d for d in many if d in rows[:500]) and 150 < len(many) < 250
    assert split_by_problem(rows, held_out=0.2, seed=1)[1] != many
    assert split_by_problem(rows, held_out=60, seed=1)[1] != split_by_problem(rows, held_out=60)[1]


@pytest.mark.parametrize("held_out", [-1, 3, 1.0, -0.1, float("nan")])
def test_impossible_shares_are_refused(held_out):
    with pytest.raises(ValueError, match="held_out"):
        split_by_problem(demonstrations(["a", "b", "c"]), held_out=held_out)
