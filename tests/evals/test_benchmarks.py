"""Published test sets: read whole, keys where they stand, completions read as published models are graded."""

import json

import pytest

from jaxsrl.data.jsonl import DataError
from jaxsrl.evals.benchmarks import BENCHMARKS, benchmark_file, benchmark_reward, read_benchmark


@pytest.mark.parametrize(("name", "count", "first"), [
    ("gsm8k", 1119, "18"), ("math500", 500, r"\left( 3, \frac{\pi}{2} \right)"), ("amc23", 40, "27"),
    ("aime24", 30, "204"), ("aime25", 30, "70"), ("minerva", 272, "1.6"),
])  # fmt: skip
def test_every_benchmark_is_read_whole(data_dir, name, count, first):
    found = read_benchmark(name, benchmark_file(name, data_dir))
    assert len(found) == count and found[0].answer == first
    assert len({one.problem_id for one in found}) == count and all(one.problem and one.answer for one in found)


def test_published_keys_are_right_by_their_own_rule(data_dir):
    """A solution that boxes the key, or ends in it, counts; another problem's key does not."""
    for name in ("gsm8k", "amc23", "aime24", "aime25"):
        keys = [one.answer for one in read_benchmark(name, benchmark_file(name, data_dir))][:40]
        judge = benchmark_reward(name).judge
        assert all(judge(rf"So it is \boxed{{{key}}}. Checked 3 ways.", key) for key in keys)
        assert all(judge(f"<think>7</think>It is {key}.", key) for key in keys)
        assert not any(judge(f"It is {a}.", b) for a, b in zip(keys, keys[1:], strict=False) if a != b)


def test_the_published_name_of_gsm8k_comes_first(tmp_path):
    (tmp_path / "gsm8k").mkdir()
    for name, key in (("test_1119", 1), ("test", 2)):
        row = {"question": "?", "answer": f"so\n#### {key}"}
        (tmp_path / "gsm8k" / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    (one,) = read_benchmark("gsm8k", benchmark_file("gsm8k", tmp_path))
    assert one.answer == "2"


@pytest.mark.parametrize(("row", "said"), [
    ("{", "x.jsonl:2"), ('{"question": "?"}', "answer must be"),
    ('{"question": " ", "answer": "#### 1"}', "question must"),
    ('{"question": "?", "answer": "5"}', "no hash answer"), ('{"question": "?", "answer": true}', "answer must be"),
])  # fmt: skip
def test_a_bad_row_is_named_and_nothing_is_read(tmp_path, row, said):
    path = tmp_path / "x.jsonl"
    path.write_text('{"question": "1+1?", "answer": "#### 2"}\n' + row + "\n")
    with pytest.raises(DataError, match="benchmark gsm8k: .*x.jsonl:2") as caught:
        read_benchmark("gsm8k", path)
    assert said in str(caught.value)


def test_a_missing_file_names_all_that_would_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="benchmark gsm8k: .*gsm8k/test.jsonl.* JAXSRL_DATA.*test_1119"):
        benchmark_file("gsm8k", tmp_path)
    with pytest.raises(FileNotFoundError, match="no data folder: .*JAXSRL_DATA"):
        benchmark_file("aime24", None)


def test_numbers_are_one_answer_up_to_a_ten_thousandth():
    judge = benchmark_reward("minerva").judge
    assert judge(r"\boxed{41.801}", "41.8") and not judge(r"\boxed{41.9}", "41.8")
    assert judge(r"\boxed{\frac{1}{2}}", "0.5") and judge("The answer is 1,250 dollars.", "1250")


def test_only_formulas_ask_for_algebra():
    assert {name for name, one in BENCHMARKS.items() if one.algebra} == {"math500", "minerva"}
