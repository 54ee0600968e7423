"""Runs that sample: what a stranger can recompute from their lines, and what must not move anything."""

import difflib
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsrl.config.overrides import load
from jaxsrl.metrics import read
from jaxsrl.models.transformer import init_params
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.policy import INIT, address
from tests.sharing import train

TINY = load(Path(__file__).parent / "tiny_config.py")
FILTER = TINY.stages[1].objective.policy.filter_std


def tiny(runs, stages=("srl",), **changes):
    """The run of `tiny_config.py` with some of its stages, each from random parameters."""
    config = load(Path(__file__).parent / "tiny_config.py")
    of_stage = {name: changes.pop(name) for name in ("optimizer", "validate", "steps") if name in changes}
    kept = tuple(replace(s, start_from=None, test=None, **of_stage) for s in config.stages if s.name in stages)
    return replace(config, stages=kept, runs=str(runs), checkpoint_every=100, **changes)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """SFT and three steps of SRL from it, so that rewards differ."""
    config = load(Path(__file__).parent / "tiny_config.py")
    sft, grpo = config.stages[0], replace(config.stages[1], steps=3)
    runs = tmp_path_factory.mktemp("sampled")
    return train(replace(config, stages=(sft, grpo), runs=str(runs), checkpoint_every=100))


def train_lines(folder):
    return [x for x in read(folder / "metrics.jsonl") if x["kind"] == "train"]


def test_a_stranger_recomputes_rewards_and_advantages(sampled):
    """From the lines alone, with difflib and NumPy: nothing of this project is asked."""
    lines = [json.loads(line) for line in (sampled / "rollouts" / "srl.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == {1, 2, 3}
    for line in lines:
        action = None if line["truncated"] else line["completion"].strip() or None
        settings = line["reward_settings"]
        expected = settings["malformed"] if action is None else difflib.SequenceMatcher(
            None, action, line["expert_action"], settings["autojunk"]
        ).ratio()  # fmt: skip
        assert line["reward"] == expected and line["action"] == action
    groups = {}
    for line in lines:
        groups.setdefault((line["step"], line["group"]), []).append(line)
    spread, kept = [], []
    for members in groups.values():
        reward = np.array([m["reward"] for m in members])
        expected = (reward - reward.mean()) / (reward.std() + 1e-6) if np.ptp(reward) else 0 * reward
        # The device computes them in float32.
        np.testing.assert_allclose([m["advantage"] for m in members], expected, rtol=1e-5, atol=1e-6)
        assert {(m["problem"], m["branch"], m["expert_action"]) for m in members} == {
            (members[0]["problem"], members[0]["branch"], members[0]["expert_action"])
        }
        assert [m["sample"] for m in members] == [0, 1, 2, 3]
        assert {m["kept"] for m in members} <= ({True, False} if reward.std() > FILTER else {False})
        spread.append(reward.std() > FILTER)
        kept.append(members[0]["kept"])
    assert 0 < sum(kept) and sum(spread) > len(groups) / 3  # the check has something to check
    for line in [x for x in train_lines(sampled) if x["stage"] == "srl"]:
        own = [x for x in lines if x["step"] == line["step"]]
        assert line["reward/mean"] == pytest.approx(np.mean([x["reward"] for x in own]), rel=1e-12)
        assert line["collect/groups"] == len({x["group"] for x in own})
        assert line["completion/tokens_mean"] == pytest.approx(np.mean([x["tokens"] for x in own]))


def test_evaluation_leaves_training_alone(tmp_path):
    often = train(tiny(tmp_path / "often", steps=4))
    config = tiny(tmp_path / "never", steps=4)
    never = train(
        replace(config, stages=tuple(replace(s, validate=replace(s.validate, every=0)) for s in config.stages))
    )
    evals = [sum(x["kind"] == "eval" for x in read(f / "metrics.jsonl")) for f in (often, never)]
    assert evals == [3, 2]
    assert train_lines(often) == train_lines(never)
    assert (often / "rollouts" / "srl.jsonl").read_bytes() == (never / "rollouts" / "srl.jsonl").read_bytes()


def test_without_a_learning_rate_nothing_drifts(tmp_path):
    """Sampler and learner give a token the same probability, and go on doing so when nothing is learned."""
    config = tiny(tmp_path, ("rlvr",), steps=20)
    stage = config.stages[0]
    still = replace(
        stage, optimizer=replace(stage.optimizer, lr=0.0), updates_per_rollout=1,
        objective=replace(stage.objective, policy=GRPO()),  # keeps every group, so that every step measures
    )  # fmt: skip
    folder = train(replace(config, stages=(still,)))
    lines = train_lines(folder)
    kl = [x["pg/behavior_kl"] for x in lines]
    assert len(kl) == 20 and max(np.abs(kl)) < 1e-9, kl
    assert all(abs(x["pg/ratio_mean"] - 1) < 1e-5 for x in lines)
    assert all(x["pg/outside_clip_share"] == 0 for x in lines)
    assert _policy_bits(folder, "rlvr/last") == first_params(config)


def first_params(config):
    """What the first stage starts from, as bits."""
    first = jax.jit(init_params, static_argnums=0)(config.model, address(config.seed, 0, INIT))
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(first)]


def _policy_bits(folder, name):
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as reader:
        tree = reader.restore((folder / "checkpoints" / "policy" / name).absolute())
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def test_a_step_with_nothing_kept_counts_and_moves_nothing(tmp_path):
    """A reward whose rewards are all equal: every group is dropped, the step is taken, parameters stay."""
    config = tiny(tmp_path, steps=2)
    flat = GRPO(filter_std=10.0)
    folder = train(
        replace(config, stages=tuple(replace(s, objective=replace(s.objective, policy=flat)) for s in config.stages))
    )
    lines = train_lines(folder)
    assert [x["step"] for x in lines] == [1, 2]
    assert all(x["loss"] is None and x["collect/kept_share"] == 0 and x["collect/short"] == 1 for x in lines)
    assert all(x["collect/rounds"] == 2 for x in lines)
    assert _policy_bits(folder, "srl/last") == first_params(config)
