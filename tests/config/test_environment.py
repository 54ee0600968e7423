"""Demonstrations of an agent: what would need the environment to answer is refused before the first step."""

import json
from dataclasses import replace

import pytest

from jaxsrl.collect.settings import BatchShapes, Collect
from jaxsrl.config.check_lengths import check_fits
from jaxsrl.config.demonstrations import Files
from jaxsrl.config.keys import check_keys
from jaxsrl.config.run import Config, ConfigError, Stage, Validate
from jaxsrl.data.actions import Splitter
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.demonstrations import Fields
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.rewards.answer import FinalAnswer

FIELDS = Fields(solution="steps[].do", observations="steps[].saw", answer="answer")


@pytest.fixture
def stage(tmp_path):
    long = lambda n: [{"do": f"c{k}", "saw": "x" * (200 if k == 0 else 3)} for k in range(n)]
    rows = [{"problem": f"p {i}", "steps": long(4), "answer": "1"} for i in range(8)]
    path = tmp_path / "runs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Files(paths=str(path), fields=FIELDS, splitter=Splitter(style="given"), held_out=2)
    return Stage(
        name="s", objective=SFT(trunk=("action",)), data=data, steps=1, collect=Collect(demonstrations=1),
        validate=Validate(evaluation=Evaluation(modes=("actions",))),
    )  # fmt: skip


def test_chained_and_whole_solutions_are_refused(stage):
    splits = stage.data.load(None)
    assert check_keys(stage, splits) is splits and splits.train[0].observations is not None
    chained = replace(stage, test=Evaluation(modes=("actions", "chained")))
    with pytest.raises(ConfigError, match=r"stages\.s\.test: chained has no environment .*modes=actions"):
        check_keys(chained, splits)
    solving = replace(stage, objective=RLVR(reward=FinalAnswer(), group_size=2, policy=GRPO()))
    with pytest.raises(ConfigError, match=r"stages\.s\.objective samples whole solutions"):
        check_keys(solving, splits)
    plain = replace(splits, **{
        name: tuple(replace(d, observations=None) for d in getattr(splits, name))
        for name in ("train", "validation", "test")
    })  # fmt: skip
    check_keys(chained, plain)
    check_keys(solving, plain)


def test_the_longest_window_need_not_be_the_deepest(stage):
    """After the first action much was printed: with one pair shown, the prompt after it is the longest."""
    splits = stage.data.load(None)
    whole = Config(name="c", model=preset("0.1M"), stages=(stage,), template=Template(kind="plain", history=1))
    fits = lambda tokens: check_fits(
        replace(whole, rows=BatchShapes(tokens=tokens, prompt_tokens=512)), stage, splits, ByteTokenizer()
    )
    fits(256)
    with pytest.raises(ConfigError, match="do not fit rows.tokens=128"):
        fits(128)
    asked = replace(stage, test=Evaluation(modes=("direct",)))
    with pytest.raises(ConfigError, match="history=1 shows the last actions only, and stage s"):
        check_fits(whole, asked, splits, ByteTokenizer())
