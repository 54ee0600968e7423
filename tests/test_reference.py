"""The frozen reference of a KL: scored once, kept only where it is wanted, and on the host if that is asked for."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsrl.commands.doctor import run_state
from jaxsrl.config.overrides import ConfigError, load, override
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.programs import Programs
from jaxsrl.sharding import Layout, make_mesh, state_sharding, to_device, to_host
from jaxsrl.train import StageLoop, train
from tests.coin import coin

TINY = Path(__file__).parent / "tiny_config.py"
pytestmark = pytest.mark.usefixtures("quick", "shared_programs")


def config(runs, name, policy, *assignments):
    """RLVR alone, two optimizer steps on the same rollouts, twice."""
    made = override(load(TINY), [f"name={name}", "stages.rlvr.steps=4", "model.width=20"])
    stage = made.stages[2]
    stage = replace(stage, objective=replace(stage.objective, grader=coin, policy=policy), start_from=None, test=None)
    return override(replace(made, stages=(stage,), runs=str(runs)), assignments)


@pytest.fixture
def seen(monkeypatch):
    """Where the reference lies as each step begins, and on what memory every scored batch's parameters lie."""
    found = {"held": [], "scored": []}
    kinds = lambda tree: {x.sharding.memory_kind for x in jax.tree.leaves(tree)}
    step, scorer = StageLoop.step, Programs.scorer

    def watched_step(self, state):
        found["held"].append(kinds(self.initial))
        return step(self, state)

    def watched_scorer(self, temperature):
        score = scorer(self, temperature)
        return lambda params, batch: found["scored"].append(kinds(params)) or score(params, batch)

    monkeypatch.setattr(StageLoop, "step", watched_step)
    monkeypatch.setattr(Programs, "scorer", watched_scorer)
    return found


def test_it_is_scored_once_a_batch_from_wherever_it_waits(tmp_path, seen):
    """Four optimizer steps on two collections of one batch: two scorings, of the same numbers from device and host."""
    policy = GRPO(kl_coef=0.1)
    near = train(config(tmp_path, "near", policy))
    assert seen == {"held": [{"device"}] * 2, "scored": [{"device"}] * 2}
    seen["held"].clear(), seen["scored"].clear()
    far = train(config(tmp_path, "far", policy, "stages.rlvr.reference_on=host"))
    assert seen == {"held": [{"pinned_host"}] * 2, "scored": [{"device"}] * 2}
    state = lambda folder: run_state(folder).splitlines()[-1]
    assert state(near) == state(far)


def test_without_a_kl_no_second_copy_is_kept(tmp_path, seen):
    train(config(tmp_path, "free", GRPO(kl_coef=0.0)))
    assert seen == {"held": [set()] * 2, "scored": []}


def test_there_and_back_on_a_mesh():
    mesh = make_mesh(Layout(fsdp=2))
    tree = {"embedding": np.arange(32.0).reshape(8, 4), "final_norm": np.ones(4)}
    tree = jax.device_put(tree, state_sharding(mesh, tree))
    away = to_host(tree)
    assert {x.sharding.memory_kind for x in away.values()} == {"pinned_host"}
    jax.tree.map(np.testing.assert_array_equal, to_device(away), tree)
    jax.tree.map(lambda x, y: x.sharding.is_equivalent_to(y.sharding, x.ndim) or pytest.fail(), to_device(away), tree)


def test_what_cannot_be_is_named(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="has no KL to a reference"):
        config(tmp_path, "none", GRPO(kl_coef=0.0), "stages.rlvr.reference_on=host")
    with pytest.raises(ConfigError, match="frees nothing under lora"):
        config(tmp_path, "lora", GRPO(kl_coef=0.1), "stages.rlvr.reference_on=host", "lora.rank=2")

    def absent(tree):
        raise ValueError("these devices have no pinned_host memory, only: device")

    monkeypatch.setattr("jaxsrl.train.to_host", absent)
    with pytest.raises(ConfigError, match="no pinned_host memory.*set stages.rlvr.reference_on=device"):
        train(config(tmp_path, "absent", GRPO(kl_coef=0.1), "stages.rlvr.reference_on=host"))
