"""`jaxsrl bench training` counts what it says it counts."""

import json

import pytest

from jaxsrl.__main__ import main
from jaxsrl.bench.synthetic import WideBytes, long_demonstrations
from jaxsrl.bench.workload import Work

SMALL = (
    "--model", "0.1M", "--steps", "1", "--work.demonstrations", "2", "--work.prompt-tokens", "24",
    "--work.actions", "3", "--work.action-tokens", "6", "--work.group_size", "2", "--work.completion-tokens", "5",
    "--work.row-tokens", "256", "--work.slots", "4",
)  # fmt: skip


def test_objectives_are_measured(tmp_path, capsys):
    path = tmp_path / "speed.json"
    assert main(["bench", "training", *SMALL, "--objectives", "sft", "srl", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    sft, srl = json.loads(path.read_text())["rows"]
    assert "| sft |" in printed and "| srl |" in printed
    # Two demonstrations, two prompts each, two rollouts a prompt. A random model may end early, though hardly ever.
    assert sft["sampled_tokens"] == 0 and 0.9 * 40 <= srl["sampled_tokens"] <= 40
    for row in (sft, srl):
        assert row["learn_seconds"] > 0 and row["learned_tokens"] > row["sampled_tokens"] and row["padding_share"] < 1


def test_wrong_input_is_named(capsys):
    assert main(["bench", "training", "--objectives", "sgd", *SMALL]) == 2
    assert "sgd" in capsys.readouterr().err
    assert main(["bench", "training", *SMALL, "--model", "qwen2-0.5b"]) == 2
    assert "qwen2.5-0.5b" in capsys.readouterr().err


def test_material():
    work = Work(demonstrations=3, prompt_tokens=10, actions=2, action_tokens=4)
    wide = WideBytes(1000)
    assert {len(wide.encode(d.problem)) for d in long_demonstrations(work)} == {10}
    assert {len(wide.encode(a)) for d in long_demonstrations(work) for a in d.actions} == {4}
    assert wide.decode([*b"ab", 999]).startswith("ab") and len(wide.decode([*b"ab", 999])) == 3
    with pytest.raises(ValueError, match="actions and group_size must be >= 2"):
        Work(actions=1)
