"""The frozen reference of a KL: scored once, kept only where it is wanted, and on the host if that is asked for."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsrl.commands.doctor import run_state
from jaxsrl.config.overrides import ConfigError, load, override
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.policy import Compiled
from jaxsrl.sharding import MeshShape, make_mesh, state_sharding, to_device, to_host
from jaxsrl.stages.start import hold_reference
from jaxsrl.train import train
from tests.coin import coin
from tests.parts import stage_parts

TINY = Path(__file__).parent / "tiny_config.py"


def config(runs, name, policy, *assignments):
    """RLVR alone, two optimizer steps on the same rollouts, twice."""
    made = override(load(TINY), [f"name={name}", "stages.rlvr.steps=4", "model.width=20"])
    stage = made.stages[2]
    stage = replace(stage, objective=replace(stage.objective, reward=coin, policy=policy), start_from=None, test=None)
    return override(replace(made, stages=(stage,), runs=str(runs)), assignments)


@dataclass(frozen=True)
class Watched(Compiled):
    """Notes on what memory every scored batch's parameters lie."""

    scored: list = field(default_factory=list)

    def once(self, key, make):
        made = super().once(key, make)
        if key[0] != "score":
            return made
        kinds = lambda tree: {x.sharding.memory_kind for x in jax.tree.leaves(tree)}
        return lambda params, batch: self.scored.append(kinds(params)) or made(params, batch)


def test_it_is_scored_once_a_batch_from_wherever_it_waits(tmp_path):
    """Four optimizer steps on two collections of one batch: two scorings, of the same numbers from device and host."""
    policy, watched = GRPO(kl_coef=0.1), Watched()
    near = train(config(tmp_path, "near", policy), compiled=watched)
    assert watched.scored == [{"device"}] * 2
    far = train(config(tmp_path, "far", policy, "stages.rlvr.reference_on=host"), compiled=watched)
    assert watched.scored == [{"device"}] * 4
    state = lambda folder: next(x for x in run_state(folder).splitlines() if x.startswith("state"))
    assert state(near) == state(far)


WAITS = [(0.1, "device", {"device"}), (0.1, "host", {"pinned_host"}), (0, None, set())]


@pytest.mark.parametrize("kl, where, held", WAITS)
def test_it_waits_where_it_is_told_to_and_only_where_it_is_wanted(kl, where, held, tmp_path):
    settings = [f"stages.rlvr.reference_on={where}"] if where else []
    with stage_parts(config(tmp_path, "held", GRPO(kl_coef=float(kl)), *settings)) as (parts, _, _):
        assert {x.sharding.memory_kind for x in jax.tree.leaves(parts.reference.held)} == held


def test_there_and_back_on_a_mesh():
    mesh = make_mesh(MeshShape(fsdp=2))
    tree = {"embedding": np.arange(32.0).reshape(8, 4), "final_norm": np.ones(4)}
    tree = jax.device_put(tree, state_sharding(mesh, tree))
    away = to_host(tree)
    assert {x.sharding.memory_kind for x in away.values()} == {"pinned_host"}
    jax.tree.map(np.testing.assert_array_equal, to_device(away), tree)
    jax.tree.map(lambda x, y: x.sharding.is_equivalent_to(y.sharding, x.ndim) or pytest.fail(), to_device(away), tree)


def test_what_cannot_be_is_named(tmp_path):
    with pytest.raises(ConfigError, match="has no KL to a reference"):
        config(tmp_path, "none", GRPO(kl_coef=0.0), "stages.rlvr.reference_on=host")
    with pytest.raises(ConfigError, match="frees nothing under lora"):
        config(tmp_path, "lora", GRPO(kl_coef=0.1), "stages.rlvr.reference_on=host", "lora.rank=2")

    def absent(tree):
        raise ValueError("these devices have no pinned_host memory, only: device")

    made = config(tmp_path, "absent", GRPO(kl_coef=0.1), "stages.rlvr.reference_on=host")
    with stage_parts(config(tmp_path, "there", GRPO())) as (parts, state, _):
        policy = replace(parts.policy, params=state.params)
        with pytest.raises(ConfigError, match="no pinned_host memory.*set stages.rlvr.reference_on=device"):
            hold_reference(made.stages[0], policy, absent)
