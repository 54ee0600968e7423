"""Optimizer steps in one program are those of the host's loop, bit for bit; a population of runs is one program."""

from dataclasses import replace

import pytest

from jaxsrl.collect import Collect
from jaxsrl.config.overrides import ConfigError, load
from jaxsrl.metrics import read
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.similarity import ActionSimilarity
from tests.sharing import train

pytestmark = pytest.mark.usefixtures("optimized")  # which may reorder sums
DEVICE = ActionSimilarity(autojunk=False, malformed=0.0, think="optional", where="device")


def run(folder, refill: bool, count: int):
    """SFT and SRL, two steps each, in programs of `count` steps; 0 is the host's loop."""
    config = load("tests/tiny_config.py")
    sft, srl, _ = config.stages
    objective = SRL(reward=DEVICE, policy=GRPO(filter_std=0.0), group_size=4)
    of_srl = Collect(demonstrations=2, prompts=3, refill_rounds=1) if refill else Collect(demonstrations=2)
    stages = (
        replace(sft, steps=2, collect=Collect(demonstrations=2)),
        replace(srl, steps=2, objective=objective, collect=of_srl),
    )
    stages = tuple(replace(s, compact=False, device_steps=count, validate=replace(s.validate, every=0)) for s in stages)
    return train(replace(config, stages=stages, runs=str(folder), checkpoint_every=2, seed=1))


@pytest.mark.parametrize("refill", [False, True], ids=["one round", "a fixed refill"])
def test_the_bits_are_those_of_the_hosts_loop(refill, tmp_path):
    """Metrics, parameters and rollouts; with refill, surplus groups are left out by both."""
    host, device = (run(tmp_path / name, refill, count) for name, count in (("host", 0), ("device", 2)))
    lines = [[x for x in read(folder / "metrics.jsonl") if x["kind"] == "train"] for folder in (host, device)]
    assert lines[0] == lines[1] and [x["step"] for x in lines[0]] == [1, 2, 1, 2]
    assert any(x.get("grad/norm") for x in lines[0] if x["stage"] == "srl")
    rollouts = [read(folder / "rollouts" / "srl.jsonl") for folder in (host, device)]
    assert rollouts[0] == rollouts[1] and len(rollouts[0]) == (64 if refill else 32)
    said = [(folder / "logs" / "attempt_1" / "log.txt").read_text() for folder in (host, device)]
    states = [[x for x in text.splitlines() if "done: state" in x] for text in said]
    assert len(states[0]) == 2 and states[0] == states[1]


def test_what_needs_the_host_is_refused_with_what_to_change():
    sft, srl, rlvr = load("tests/tiny_config.py").stages
    for stage, words in (
        (replace(sft, steps=8), "compact=false"),
        (replace(srl, steps=8, compact=False), "collect.refill_rounds"),
        (replace(rlvr, compact=False), "updates_per_rollout=1 and minibatches=1"),
        (replace(sft, steps=7, compact=False), "steps as a multiple"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(stage, device_steps=2)


def test_a_reward_of_the_host_is_refused_before_the_first_step(tmp_path):
    config = load("tests/tiny_config.py")
    _, srl, _ = config.stages
    stage = replace(
        srl, start_from=None, steps=2, compact=False, device_steps=2, collect=Collect(demonstrations=2),
        validate=replace(srl.validate, every=0),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="where='device'"):
        train(replace(config, stages=(stage,), runs=str(tmp_path), checkpoint_every=2))
