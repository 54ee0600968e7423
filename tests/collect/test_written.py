"""Rollouts are compared with what the tokenizer spells; their lines keep what the expert's file holds."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from jaxsrl.config.overrides import load, override
from jaxsrl.config.run import TaskData
from jaxsrl.data.tokenizer import load_tokenizer
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.types import Demonstration
from tests.data.family_tokenizers import folder
from tests.sharing import train

TINY = Path(__file__).parents[1] / "tiny_config.py"
ACTIONS = ("R = 5 \N{OHM SIGN}", "T = 300 \N{KELVIN SIGN}", "x = 1")
SPELLED = ("R = 5 \N{GREEK CAPITAL LETTER OMEGA}", "T = 300 K", "x = 1")


def first(text: str) -> str:
    return text


def never(text: str, demonstration: Demonstration) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class NotComposed:
    def load(self, data_dir: str | None) -> TaskData:
        some = tuple(Demonstration(problem_id=str(i), problem=f"{i}?", actions=ACTIONS) for i in range(4))
        reward = FinalAnswer(verify=never)
        return TaskData(
            train=some, validation=some[:2], test=some[:2], reward=reward, finished=never, first_action=first
        )  # fmt: skip


def test_lines_hold_both_spellings(tmp_path, capsys):
    where = folder(tmp_path / "qwen", "qwen3")
    config = override(load(TINY), ["stages.sft.steps=1", "stages.srl.steps=1", "stages.rlvr.steps=0"])
    stages = tuple(replace(stage, data=NotComposed()) for stage in config.stages)
    model = replace(config.model, vocab=load_tokenizer(where).vocab_size)
    rows = replace(config.rows, tokens=512, prompt_tokens=256)
    run = train(replace(
        config, runs=str(tmp_path), tokenizer=str(where), model=model, stages=stages, rows=rows
    ))  # fmt: skip
    said = " ".join(capsys.readouterr().err.split())
    assert "8 of 8 demonstrations hold text that Qwen2Tokenizer cannot spell" in said
    lines = [json.loads(line) for line in (run / "rollouts" / "srl.jsonl").read_text().splitlines()]
    assert {line["branch"] for line in lines} == {0, 1}
    for line in lines:
        assert line["expert_action"] == SPELLED[line["branch"]]
        assert line["expert_written"] == ACTIONS[line["branch"]]
