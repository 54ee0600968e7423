"""The opening tag of a thought is written once: by the template or by the reward's settings, not by both."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxsrl.config.overrides import ConfigError, load, override
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template, prefill
from jaxsrl.rewards.overlong import Overlong
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.types import Demonstration, Rollouts

TINY = Path(__file__).parents[1] / "tiny_config.py"
BOTH = "stages.srl.objective.reward.prefilled=true", "template.prefill_think=true"


@pytest.mark.parametrize("order", [BOTH, BOTH[::-1]])
def test_both_are_refused(order):
    with pytest.raises(ConfigError) as caught:
        override(load(TINY), order)
    said = str(caught.value)
    assert all(setting in said for setting in BOTH) and "leave prefilled=false" in said


@pytest.mark.parametrize("one", BOTH)
def test_each_alone_is_allowed(one):
    override(load(TINY), [one])


def test_a_reward_within_another_is_found():
    config = replace(load(TINY), template=Template(prefill_think=True))
    stage = config.stages[1]
    reward = Overlong(reward=replace(stage.objective.reward, prefilled=True), max_tokens=6, margin_tokens=2)
    stage = replace(stage, objective=replace(stage.objective, reward=reward))
    with pytest.raises(ValueError, match=r"stages\.srl\.objective\.reward\.reward\.prefilled=true"):
        replace(config, stages=(config.stages[0], stage))


def test_what_it_would_do():
    """A completion as training has it, the template's tag first: well formed, and malformed with `prefilled`."""
    text = ByteTokenizer().decode(prefill(Template(prefill_think=True), ByteTokenizer())) + "thought</think>b"
    one = np.zeros(1, int)
    rollouts = Rollouts(
        token=np.zeros((1, 4), int), mask=np.ones((1, 4), bool), demonstration=one,
        form=("action",), branch=one, sample=one, group=one, truncated=one > 0, text=(text,),
    )  # fmt: skip
    expert = [Demonstration(problem_id="1", problem="?", actions=("b", "c"))]
    assert ActionSimilarity(where="host")(rollouts, expert).reward.tolist() == [1.0]
    assert ActionSimilarity(where="host", prefilled=True)(rollouts, expert).reward.tolist() == [-1.0]


def test_a_thought_is_not_required_where_the_template_has_closed_it():
    config = replace(load(TINY), template=Template(kind="qwen3_nothink"))
    with pytest.raises(ValueError, match=r"stages\.srl\.objective\.reward\.think=required asks .*optional"):
        override(config, ["stages.srl.objective.reward.think=required"])
