"""BatchShapes without a key: left out and counted where one is needed; where none has one,
refused before the first step."""

import json

import pytest

from jaxsrl.collect.settings import BatchShapes, Collect
from jaxsrl.config.demonstrations import Files
from jaxsrl.config.keys import check_keys, needs_key
from jaxsrl.config.run import Config, ConfigError, Stage, Validate
from jaxsrl.data.demonstrations import Fields
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.detectors import WithDetectors
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.train import train

ANSWERS = ("2", "3", None, "5", "6", "7")
STEPS = Evaluation(modes=("actions",))


@pytest.fixture
def path(tmp_path):
    rows = [
        {"problem": f"Add one and {n}.", "solution": f"one and {n}\n\\boxed{{{answer}}}", "answer": answer}
        for n, answer in zip(("one", "two", "three", "four", "five", "six"), ANSWERS, strict=True)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def stage(path, fields, objective, evaluation=STEPS, **settings):
    return Stage(
        name="s", objective=objective, data=Files(paths=(path,), fields=fields, held_out=1), steps=3,
        collect=Collect(demonstrations=1), sampling=Sampling(max_new_tokens=8), action_tokens=8, solve_tokens=8,
        validate=Validate(problems=1, evaluation=evaluation), **settings,
    )  # fmt: skip


RL = RLVR(reward=FinalAnswer(extract="last_line"), group_size=4, policy=GRPO())


def checked(one: Stage):
    return check_keys(one, one.data.load(None))


def test_rows_without_a_key_are_left_out_and_counted(path):
    one = stage(path, Fields(answer="answer"), RL)
    splits = checked(one)
    held_out_has_it = sum(d.answer is None for d in (*splits.validation, *splits.test))
    assert all(d.answer is not None for d in splits.train)
    assert splits.counts.get("without_key", 0) + held_out_has_it == 1
    kept = checked(stage(path, Fields(answer="answer"), SFT()))
    assert len(kept.train) == 5 and "without_key" not in kept.counts  # nothing is compared


def test_no_key_at_all_is_refused_with_the_field(path):
    with pytest.raises(ConfigError, match=r"stages\.s\.objective .* none of its 5 .*data\.fields\.answer"):
        checked(stage(path, Fields(), RL))
    direct = Evaluation(modes=("actions", "direct"))
    with pytest.raises(ConfigError, match=r"stages\.s\.validate\.evaluation .*direct would solve.*modes=actions"):
        checked(stage(path, Fields(), SFT(), direct))
    checked(stage(path, Fields(), SFT()))


def test_graders_within_graders_need_keys_and_verifiers_none():
    assert needs_key(RLVR(reward=WithDetectors(reward=FinalAnswer()), policy=GRPO())) and needs_key(FinalAnswer())
    assert not needs_key(RLVR(reward=FinalAnswer(verify=lambda *_: True), policy=GRPO())) and not needs_key(SFT())


def test_a_run_with_a_null_answer_goes_to_its_end(path, tmp_path, capsys):
    modes = Evaluation(modes=("actions", "direct"))
    config = Config(
        name="null", model=preset("0.1M"), runs=str(tmp_path / "runs"),
        rows=BatchShapes(tokens=128, rows=4, prompt_tokens=96, prompt_rows=2, slots=4, evaluate_rows=2,
                         evaluate_slots=2),
        stages=(stage(path, Fields(answer="answer"), RL, modes),),
    )  # fmt: skip
    train(config)
    lines = [json.loads(line) for line in (tmp_path / "runs" / "null" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 3]
    assert "1 without_key" in capsys.readouterr().err
