"""Training with the reward on the device is training with it on the host, to the last bit."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsrl.config.overrides import load
from jaxsrl.metrics import read
from jaxsrl.models.transformer import init_params
from tests.sharing import train

pytestmark = pytest.mark.usefixtures("optimized")  # which may reorder sums
TINY = Path(__file__).parent / "tiny_config.py"


def run(folder, where):
    """SFT and three steps of SRL from it, so that rewards differ: what was logged, and the parameters it ends with."""
    config = load(TINY)
    sft, srl = config.stages[:2]
    reward = replace(srl.objective.reward, where=where)
    srl = replace(srl, steps=3, objective=replace(srl.objective, reward=reward))
    folder = train(replace(config, stages=(sft, srl), runs=str(folder), checkpoint_every=100))
    rollouts = read(folder / "rollouts" / "srl.jsonl")
    return [x for x in read(folder / "metrics.jsonl") if x["kind"] == "train"], rollouts, _policy(folder, config)


def _policy(folder, config):
    import orbax.checkpoint as ocp

    like = jax.eval_shape(lambda: init_params(config.model, jax.random.key(0)))
    with ocp.StandardCheckpointer() as reader:
        tree = reader.restore((folder / "checkpoints" / "policy" / "srl" / "last").absolute(), like)
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def test_a_run_is_the_same_with_either(tmp_path):
    host, device = (run(tmp_path / where, where) for where in ("host", "device"))
    assert host[2] == device[2]
    shares = [line.pop("reward/unfit_share") for line in device[0] if line["stage"] == "srl"]
    assert shares == [0] * 3 and [list(line) for line in host[0]] == [list(line) for line in device[0]]
    # Means of rewards are sums in float32 there, in float64 here.
    of_reward = lambda lines, mine: [{k: v for k, v in x.items() if k.startswith("reward/") == mine} for x in lines]
    assert of_reward(host[0], False) == of_reward(device[0], False)
    for one, other in zip(of_reward(host[0], True), of_reward(device[0], True), strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    settings = [line.pop("reward_settings")["where"] for line in host[1] + device[1]]
    assert settings == ["host"] * len(host[1]) + ["device"] * len(device[1]) and host[1] == device[1]
    assert len({line["reward"] for line in host[1]}) > 2
