"""The data are part of what a run is: a resume on other files is refused and names one."""

import json
from dataclasses import replace

import pytest

from jaxsrl.collect.settings import BatchShapes, Collect
from jaxsrl.config.demonstrations import Files
from jaxsrl.config.run import Config, Stage, Validate
from jaxsrl.data.demonstrations import Fields
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.sft import SFT
from jaxsrl.runs import OtherInputs, check_data
from jaxsrl.train import train


def write(path, first=0):
    rows = [{"problem": f"Add {n} and 1.", "solution": f"{n} + 1 = {n + 1}\n#### {n + 1}"} for n in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[first:] + rows[:first]))


def make(folder):
    data = Files(paths="grow.jsonl", fields=Fields(answer_mark="####"), held_out=2, extract="hash", finish_mark="####")
    stage = Stage(
        name="sft", objective=SFT(), data=data, steps=0, collect=Collect(demonstrations=2),
        validate=Validate(problems=1, evaluation=Evaluation(modes=("actions",))), action_tokens=8, solve_tokens=8,
    )  # fmt: skip
    rows = BatchShapes(tokens=128, rows=2, prompt_tokens=64, prompt_rows=2, slots=2, evaluate_rows=2, evaluate_slots=2)
    return Config(
        name="grow", model=preset("0.1M"), rows=rows, stages=(stage,), runs=str(folder / "runs"), data_dir=str(folder)
    )


def test_a_run_is_not_continued_on_other_data(tmp_path):
    write(tmp_path / "grow.jsonl")
    config = make(tmp_path)
    train(config)
    moved = tmp_path / "moved"
    moved.mkdir()
    write(moved / "grow.jsonl")
    train(replace(config, data_dir=str(moved)))  # the same file in another folder
    write(tmp_path / "grow.jsonl", first=1)
    with pytest.raises(OtherInputs, match=r"grow was started on other data: grow.jsonl has changed since\. .*new name"):
        train(config)


def test_what_is_compared_are_names_and_contents(tmp_path):
    check_data(tmp_path, {"a.jsonl": "1", "b.jsonl": "2"})
    check_data(tmp_path, {"b.jsonl": "2", "a.jsonl": "1"})
    for other in ({"a.jsonl": "1", "b.jsonl": "3"}, {"a.jsonl": "1"}, {"a.jsonl": "1", "b.jsonl": "2", "c": "4"}):
        with pytest.raises(OtherInputs, match="other data"):
            check_data(tmp_path, other)
