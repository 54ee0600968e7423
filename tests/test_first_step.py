"""The numbers of the first SFT step and of the first SRL step, pinned: what changes them changes training."""

import difflib
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.config.overrides import load
from jaxsrl.metrics import read
from jaxsrl.models.transformer import init_params
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.train import optimizer_step
from tests.parts import stage_parts

TINY = load(Path(__file__).parent / "tiny_config.py")
# Written by this test's own run on jax 0.10.2; a weight is a share of 1, log-probs are nats, lengths tokens.
# SFT's are those of the packing by hand that was before. SRL's follow the tokens that are drawn, and so the address.
SFT = {
    "lr": 0.01, "loss": 5.554031849, "grad/norm": 1.548012972, "sft/target_tokens": 30, "pack/tokens": 64,
    "pack/dense_tokens": 102, "tokens/executed": 64,
}  # fmt: skip
SRL = {
    "lr": 0.01, "loss": 0.06968005747, "grad/norm": 0.1832339615, "pg/ratio_mean": 1.0, "pg/weight": 1.0,
    "reward/mean": -0.9375, "reward/malformed_share": 0.9375, "completion/entropy": 5.41662317,
    "completion/tokens_mean": 10.875, "collect/groups": 4, "pack/tokens": 198, "pack/dense_tokens": 326,
    "tokens/executed": 396,
}  # fmt: skip


def drawn_by_numpy(config):
    """Parameters from NumPy's generator, whose bits do not follow the version of jax."""
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype) for x in leaves])


def first_step(stage, folder):
    """The line of the first step from those parameters, and the lines of its rollouts."""
    made = replace(TINY, stages=(replace(stage, steps=1, start_from=None, test=None),), runs=str(folder))
    with stage_parts(made) as (parts, state, progress):
        state = replace(state, params=drawn_by_numpy(parts.policy.model))
        _, progress, _ = optimizer_step(parts, state, progress)
    path = folder / made.name / "rollouts" / f"{stage.name}.jsonl"
    return dict(progress.metrics), list(read(path)) if path.exists() else []


@pytest.fixture(scope="module")
def sft(tmp_path_factory):
    return first_step(TINY.stages[0], tmp_path_factory.mktemp("sft"))[0]


@pytest.fixture(scope="module")
def srl(tmp_path_factory):
    stage = TINY.stages[1]
    reward = replace(stage.objective.reward, malformed=-1.0)
    stage = replace(
        stage, objective=replace(stage.objective, reward=reward, policy=GRPO()),
        sampling=replace(stage.sampling, max_new_tokens=12, temperature=0.7),
    )  # fmt: skip
    return first_step(stage, tmp_path_factory.mktemp("srl"))


@pytest.mark.parametrize("name", SFT)
def test_first_sft_step_is_as_pinned(sft, name):
    assert sft[name] == pytest.approx(SFT[name], rel=1e-4)


@pytest.mark.parametrize("name", SRL)
def test_first_srl_step_is_as_pinned(srl, name):
    assert srl[0][name] == pytest.approx(SRL[name], rel=1e-4)


def test_it_is_what_its_rollouts_say(srl):
    """Which tokens are drawn is the sampler's; all that follows from them is recomputed here, from their lines."""
    line, rollouts = srl
    groups = {}
    for r in rollouts:
        action = None if r["truncated"] else r["completion"].strip() or None
        matcher = difflib.SequenceMatcher(None, action or "", r["expert_action"], False)
        assert r["reward"] == (-1.0 if action is None else matcher.ratio())
        groups.setdefault(r["group"], []).append(r)
    total = sum(r["tokens"] for r in rollouts)
    gain = 0.0
    for members in groups.values():
        rewards = np.array([r["reward"] for r in members])
        above = (rewards - rewards.mean()) / (rewards.std() + 1e-6) if np.ptp(rewards) else 0 * rewards
        gain += sum(r["tokens"] * a for r, a in zip(members, above, strict=True))
    assert line["loss"] == pytest.approx(-gain / total, rel=1e-5)  # every ratio is 1
    assert line["reward/mean"] == pytest.approx(np.mean([r["reward"] for r in rollouts]))
    assert line["completion/tokens_mean"] == pytest.approx(total / len(rollouts))
    # Prompts in bytes: a mark and the problem, a line for each action given.
    prompt = lambda r: 1 + len("0:xxx\n") + r["branch"] * len("axxx\n")
    assert line["pack/dense_tokens"] == total + sum(map(prompt, rollouts))
    deepest = {r["problem"]: max(prompt(o) for o in rollouts if o["problem"] == r["problem"]) for r in rollouts}
    assert line["pack/tokens"] == total + sum(deepest.values())


def test_sampler_and_learner_agree_in_it(srl):
    assert srl[0]["pg/behavior_kl"] == pytest.approx(0, abs=1e-9) and srl[0]["update/skipped"] == 0
