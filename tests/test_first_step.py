"""The numbers of the first SRL step, pinned: whatever changes them changes training, and has to say so."""

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
from jaxsrl.train import train

pytestmark = pytest.mark.usefixtures("shared_programs")
# Written by this test's own run on jax 0.10.2; a weight is a share of 1, log-probs are nats, lengths tokens.
GOLDEN = {
    "lr": 0.01, "loss": 0.0726255476, "grad/norm": 0.1778086275, "pg/ratio_mean": 1.0, "pg/weight": 1.0,
    "reward/mean": -0.875, "reward/malformed_share": 0.875, "completion/entropy": 5.34075814,
    "completion/tokens_mean": 11.1875, "collect/groups": 4, "pack/tokens": 203, "pack/dense_tokens": 331,
}  # fmt: skip


def drawn_by_numpy(config):
    """Parameters from NumPy's generator, whose bits do not follow the version of jax."""
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype) for x in leaves])


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    config = load(Path(__file__).parent / "tiny_config.py")
    stage = config.stages[1]
    grader = replace(stage.objective.grader, malformed=-1.0)
    stage = replace(
        stage, steps=1, start_from=None, objective=replace(stage.objective, grader=grader, policy=GRPO()),
        sampling=replace(stage.sampling, max_new_tokens=12, temperature=0.7),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxsrl.train.start_params", lambda run, config, index, programs: drawn_by_numpy(programs.model))
        folder = train(replace(config, stages=(stage,), runs=str(tmp_path_factory.mktemp("first"))))
    return next(x for x in read(folder / "metrics.jsonl") if x["kind"] == "train")


@pytest.mark.parametrize("name", GOLDEN)
def test_first_step_is_as_pinned(line, name):
    assert line[name] == pytest.approx(GOLDEN[name], rel=1e-4)


def test_sampler_and_learner_agree_in_it(line):
    assert line["pg/behavior_kl"] == pytest.approx(0, abs=1e-9) and line["update/skipped"] == 0
